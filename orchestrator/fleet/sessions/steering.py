"""Steering: a text for the running turn is first queued as a turn, so it is never lost, then handed in.

At its end the session says which texts its model has read; those turns are over, the others run next.
"""

from __future__ import annotations

from orchestrator.fleet.sessions.slot import AgentSlot
from orchestrator.providers.base import Prompt, Steerable

INTO_TURN = "handed into the running turn: its model reads it after the tool that runs now"
CANNOT = "queued behind the running turn: its provider takes nothing into a running turn"


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


async def steer(slot: AgentSlot, prompt: Prompt) -> str:
    """Hand the text in now, or at the next tool; return what happened, '' if that is still to come."""
    if slot.session is not None and not isinstance(slot.session, Steerable):
        return CANNOT
    slot.steers.append(prompt)
    await hand_in(slot)
    return INTO_TURN if prompt.id in slot.handed else ""


async def hand_in(slot: AgentSlot) -> None:
    """Hand in the waiting texts, in order, as far as the session accepts them."""
    async with slot.handing:  # a command and the run itself both hand in, and no prompt may go twice
        while slot.steers and isinstance(slot.session, Steerable):
            prompt = slot.steers[0]
            if not await slot.session.steer(prompt):
                return
            slot.handed.add(prompt.id)
            slot.steers = [one for one in slot.steers if one.id != prompt.id]
