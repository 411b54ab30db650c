"""Which ends of a run are no ends of its turn: at a cap, a quota or an overload it is put aside and goes on later.

A turn that runs when its daemon is told to end is left to the next daemon.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid5

from orchestrator.domain.event import Ended, Outcome
from orchestrator.domain.text import storable
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.fleet.sessions.recorder import Recorder
from orchestrator.fleet.sessions.steering import turn_of
from orchestrator.fleet.sessions.usage import usage_of
from orchestrator.providers.base import Prompt
from orchestrator.settings import Settings
from orchestrator.store.families.budgets import PAUSED
from orchestrator.store.schema.transitions import StaleOwnerError
from orchestrator.store.turns.cancellation import unless_asked
from orchestrator.store.turns.recovery import DAEMON, DAEMON_ENDED
from orchestrator.store.turns.steering import fold
from orchestrator.store.turns.turns import Claim, park, park_for_quota
from orchestrator.store.waits.pauses import RETRY, Pause

FIRST_RETRY_SECONDS = 5.0
MAX_RETRY_SECONDS = 120.0
GO_ON = "You were stopped in the middle of your task from outside. Go on where you stopped; nothing else has changed."
QUOTA, CREDIT, OVERLOADED = "quota", "credit", "overloaded"
LEFT = "left"
"""why a turn is told to stop that the next daemon takes over"""
FATAL = frozenset({"process", "silence", "start", "internal", DAEMON})
"""ends after which the session's process is of no more use"""


@dataclass(frozen=True, kw_only=True)
class Halt:
    """A run that ended though its turn has not; `again_in_seconds` is set for an overload only."""

    why: str
    reason: str
    again_in_seconds: float | None = None


def halt_of(claim: Claim, ended: Ended, stopping: str, settings: Settings) -> Halt | None:
    """Whether the turn is put aside rather than ended."""
    if ended.outcome in {Outcome.COMPLETE, Outcome.DEFERRED}:
        return None
    if stopping and stopping != LEFT:
        return Halt(why=PAUSED, reason=stopping) if stopping.startswith(PAUSED) else None
    if ended.reason in {QUOTA, CREDIT}:
        return Halt(why=QUOTA, reason=ended.detail)
    if ended.reason == OVERLOADED and claim.overloads < settings.turn_retries:
        grown = min(MAX_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2**claim.overloads)
        seconds = random.uniform(grown / 2, grown)  # noqa: S311 - jitter, no secret
        reason = f"{RETRY}{claim.overloads + 1}/{settings.turn_retries}"
        return Halt(why=OVERLOADED, reason=reason, again_in_seconds=seconds)
    return None


def stopped(ended: Ended, reason: str) -> Ended:
    """How a run ended that was told to stop for this reason, if it was: what it had completed stays."""
    waits = ended.outcome is Outcome.DEFERRED and reason.startswith((PAUSED, LEFT))  # at a cap it waits anyhow
    if not reason or ended.outcome is Outcome.COMPLETE or waits:
        return ended
    if reason == LEFT:
        was_cut = ended.outcome is Outcome.INTERRUPTED or ended.reason in FATAL
        left = replace(ended, outcome=Outcome.FAILED, reason=DAEMON, detail=DAEMON_ENDED, hint="")
        return left if was_cut else ended
    detail = {"interrupted": "interrupted on request", "stopped": "the daemon was stopped"}.get(reason, reason)
    return Ended(
        outcome=Outcome.INTERRUPTED,
        reason=reason,
        detail=detail,
        text=ended.text,
        usage=ended.usage,
        cost_usd=ended.cost_usd,
        session_cost_usd=ended.session_cost_usd,
        deferred=ended.deferred,
        steered=ended.steered,
    )


async def halt_run(work: UnitOfWork, claim: Claim, recorder: Recorder, ended: Ended, halt: Halt) -> None:
    """Write the events down and put the turn aside."""
    usage, now = usage_of(ended), work.clock()
    try:
        await recorder.flush()
        if ended.steered:
            await work.commit(fold, claim, [turn_of(prompt) for prompt in ended.steered], now)
        if halt.why == QUOTA:
            told: Mapping[str, Any] = {
                "resets_at": ended.resets_at,
                "detail": storable(ended.detail),
                "ends": ended.reason != CREDIT,
            }
            await work.commit(unless_asked, park_for_quota, claim, now, told, usage, now)
            return
        wake_at = None if halt.again_in_seconds is None else now + halt.again_in_seconds
        heard = halt.why == OVERLOADED or (recorder.meter is not None and recorder.meter.heard)
        pause = Pause(why=halt.why, reason=storable(halt.reason), wake_at=wake_at, heard=heard)
        await work.commit(unless_asked, park, claim, now, pause, usage, now)
    except StaleOwnerError:
        return


def prompt_of(claim: Claim, turn_uuid: str, text: str) -> Prompt | None:
    """What the run begins with: nothing in a deferred call, the task, or a word to go on under an id of its own.

    An id that stands in the transcript, sent again, makes no call and yields no result (Claude Code 2.1.329, measured).
    """
    if claim.continues:
        return None
    if not claim.goes_on:
        return Prompt(id=turn_uuid, text=text)
    return Prompt(id=resume_id(turn_uuid, claim.resumes), text=GO_ON if claim.heard else text)


def resume_id(turn_uuid: str, resumes: int) -> str:
    """The id of the prompt that a turn goes on with after it was put aside so often."""
    return str(uuid5(UUID(turn_uuid), str(resumes)))
