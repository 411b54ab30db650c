"""Decides which ends of a run suspend its turn instead of ending it: at a cap, a quota or an overload.

A turn that is running when its daemon is asked to stop is left to the next daemon.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from uuid import UUID, uuid5

from orchestrator.domain.event import Ended, SessionOutcome
from orchestrator.domain.text import storable
from orchestrator.domain.turn import DAEMON
from orchestrator.domain.wait import QuotaRefusal, Wait, WaitKind
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.fleet.sessions.slot import LEFT, LiveTurn, Stop
from orchestrator.fleet.sessions.steering import turn_of
from orchestrator.providers.base import Prompt
from orchestrator.settings import Settings
from orchestrator.store.schema.transitions import StaleOwnerError
from orchestrator.store.turns.cancellation import unless_cancelled
from orchestrator.store.turns.recovery import DAEMON_ENDED
from orchestrator.store.turns.steering import fold
from orchestrator.store.turns.turns import Claim, suspend_for_quota, suspend_turn

FIRST_RETRY_SECONDS = 5.0
MAX_RETRY_SECONDS = 120.0
RESUME_PROMPT = (
    "Your turn was suspended partway and now resumes: continue where you stopped. Nobody refused the tool calls that "
    "look rejected or interrupted: the suspension cut them off. Repeat those that you still need, but first look "
    "whether a command or an edit among them took effect."
)
"""Claude Code reports the calls that an interrupt cuts off as rejected by the user (2.1.329)"""
QUOTA, CREDIT, OVERLOADED = "quota", "credit", "overloaded"
FATAL = frozenset({"process", "silence", "start", "internal", DAEMON})
"""ends after which the session's process is useless"""


@dataclass(frozen=True, kw_only=True)
class Suspension:
    """A run that ended without ending its turn; `again_in_seconds` is set only for an overload."""

    wait: Wait
    """for a quota only its kind: the store knows until when"""
    again_in_seconds: float | None = None


def suspension_of(claim: Claim, ended: Ended, stop: Stop | None, settings: Settings) -> Suspension | None:
    """Return how the turn is suspended, or None if it ends."""
    if ended.outcome in {SessionOutcome.COMPLETE, SessionOutcome.DEFERRED}:
        return None
    if stop is not None and stop.reason != LEFT:
        return None if stop.wait is None else Suspension(wait=stop.wait)
    if ended.reason in {QUOTA, CREDIT}:
        return Suspension(wait=Wait(kind=WaitKind.QUOTA))
    if ended.reason == OVERLOADED and claim.overloads < settings.turn_retries:
        grown = min(MAX_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2**claim.overloads)
        seconds = random.uniform(grown / 2, grown)  # noqa: S311 - jitter, not a secret
        wait = Wait(kind=WaitKind.OVERLOAD, detail=f"{claim.overloads + 1}/{settings.turn_retries}")
        return Suspension(wait=wait, again_in_seconds=seconds)
    return None


def stopped(ended: Ended, stop: Stop | None) -> Ended:
    """Return how a run ended that a stop may have cut short; what it completed is kept."""
    if stop is None or ended.outcome is SessionOutcome.COMPLETE:
        return ended
    if ended.outcome is SessionOutcome.DEFERRED and (stop.wait is not None or stop.reason == LEFT):
        return ended  # at a cap it waits in any case
    if stop.reason == LEFT:
        was_cut = ended.outcome is SessionOutcome.INTERRUPTED or ended.reason in FATAL
        left = replace(ended, outcome=SessionOutcome.FAILED, reason=DAEMON, detail=DAEMON_ENDED, hint="")
        return left if was_cut else ended
    detail = {"interrupted": "interrupted on request", "stopped": "the daemon was stopped"}.get(stop.reason)
    return Ended(
        outcome=SessionOutcome.INTERRUPTED,
        reason=stop.reason,
        detail=detail or stop.reason,
        text=ended.text,
        usage=ended.usage,
        cost_usd=ended.cost_usd,
        session_cost_usd=ended.session_cost_usd,
        deferred=ended.deferred,
        steered=ended.steered,
    )


async def suspend_attempt(work: UnitOfWork, live: LiveTurn, ended: Ended, suspension: Suspension) -> None:
    """Write the events and suspend the turn."""
    claim, usage, now = live.claim, ended.run_usage, work.clock()
    try:
        await live.recorder.flush()
        if ended.steered:
            await work.commit(fold, claim, [turn_of(prompt) for prompt in ended.steered], now)
        if suspension.wait.kind is WaitKind.QUOTA:
            detail, ends = storable(ended.detail), ended.reason != CREDIT
            told = QuotaRefusal(resets_at=ended.resets_at, detail=detail, ends=ends)
            await work.commit(unless_cancelled, suspend_for_quota, claim, now, told, usage, now)
            return
        wait, pause = suspension.wait, suspension.again_in_seconds
        if pause is not None:
            wait = replace(wait, until=now + pause)
        received = pause is not None or live.meter.prompt_received
        await work.commit(unless_cancelled, suspend_turn, claim, now, wait, usage, now, prompt_received=received)
    except StaleOwnerError:
        return


def prompt_of(claim: Claim, turn_uuid: str, text: str) -> Prompt | None:
    """Return the run's first prompt: none for a deferred call, the task, or a text to continue under a new id.

    An id that is already in the transcript causes no model call and no result (Claude Code 2.1.329, measured).
    """
    if claim.continues:
        return None
    if not claim.was_suspended:
        return Prompt(id=turn_uuid, text=text)
    return Prompt(id=resume_id(turn_uuid, claim.resumes), text=RESUME_PROMPT if claim.prompt_received else text)


def resume_id(turn_uuid: str, resumes: int) -> str:
    """Return the id of the prompt with which a turn continues after this many suspensions."""
    return str(uuid5(UUID(turn_uuid), str(resumes)))
