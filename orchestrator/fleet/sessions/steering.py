"""Steering: a text for the running turn is first queued as a turn, so it is never lost, then handed in.

At its end the session says which texts its model has read; those turns are over, the others run next.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from orchestrator.providers.base import Prompt, Session, Steerable

INTO_TURN = "handed into the running turn: its model reads it after the tool that runs now"
CANNOT = "queued behind the running turn: its provider takes nothing into a running turn"


class Place(Protocol):
    """Where an agent is carried out: its session, what waits to be handed in, and what was."""

    session: Session | None
    steers: list[Prompt]
    handed: set[str]
    handing: asyncio.Lock


def steer_id(turn_id: str) -> str:
    """The UUID under which the turn's text is handed in.

    It differs from the turn's own prompt id: the transcript would then contain that id, and a provider that finds it
    there considers it answered (Claude Code 2.1.329, measured).
    """
    digits = turn_id.partition("_")[2][::-1]
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def turn_of(prompt: str) -> str:
    """The turn whose text was handed in under this UUID."""
    return f"tn_{prompt.replace('-', '')[::-1]}"


async def steer(place: Place, prompt: Prompt) -> str:
    """Hand the text in now, or at the next tool; return what happened, '' if that is still to come."""
    if place.session is not None and not isinstance(place.session, Steerable):
        return CANNOT
    place.steers.append(prompt)
    await hand_in(place)
    return INTO_TURN if prompt.id in place.handed else ""


async def hand_in(place: Place) -> None:
    """Hand in the waiting texts, in order, as far as the session accepts them."""
    async with place.handing:  # a command and the run itself both hand in, and no prompt may go twice
        while place.steers and isinstance(place.session, Steerable):
            prompt = place.steers[0]
            if not await place.session.steer(prompt):
                return
            place.handed.add(prompt.id)
            place.steers = [one for one in place.steers if one.id != prompt.id]
