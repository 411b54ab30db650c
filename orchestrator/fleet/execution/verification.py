"""Verified completion: a turn whose session ended without an error is complete only if its checks pass.

Failed checks go back to the agent as the next prompt of the same turn, a bounded number of times. The receipts of a
round are durable before the agent gets them, so a successor continues where a killed daemon was: it checks a turn again
that is answered according to its transcript, and sends the agent the receipts that it has not received.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from orchestrator.domain.activity import Activity, ActivityKind
from orchestrator.domain.check import FAILED_CHECKS, FAILED_VERDICT, Check, CheckRound
from orchestrator.domain.event import Ended, EventKind, SessionOutcome
from orchestrator.domain.wait import Wait
from orchestrator.errors import StoreError
from orchestrator.fleet.checks.check_runner import CheckSite, is_final, receipts
from orchestrator.fleet.checks.criteria import feedback
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.fleet.execution.attempt import Attempt
from orchestrator.fleet.execution.runtime import Runtime
from orchestrator.fleet.sessions import steering
from orchestrator.fleet.sessions.slot import AgentSlot, LiveTurn
from orchestrator.providers.base import Prompt
from orchestrator.store.turns.checks import note_attempt, send_back
from orchestrator.store.turns.events import Fact

STORE_AGAIN_SECONDS = 0.5
MAX_DETAIL_CHARACTERS = 2000
HINT = "`fleet show` has the receipts; command it again with what to do, or with other checks"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What is needed to verify a turn; `drive` sends its session the next prompt, after the given end."""

    runtime: Runtime
    slot: AgentSlot
    live: LiveTurn
    drive: Callable[[Attempt, Ended], Awaitable[Ended]]

    @property
    def work(self) -> UnitOfWork:
        """What is needed to record its rounds."""
        return self.runtime.work


async def verified(turn: Verification, attempt: Attempt, ended: Ended) -> Ended:
    """Return how the turn ends after its run ended like this: complete only if every check passes.

    Raises:
        StaleOwnerError: the claim is over.
    """
    while ended.outcome is SessionOutcome.COMPLETE and attempt.acceptance.checks:
        paused = _lifted(turn.slot)
        done = await _durable(turn, lambda attempt=attempt, text=ended.text: _checked(turn, attempt, text))
        if done is None:
            return replace(ended, outcome=SessionOutcome.INTERRUPTED, reason=turn.slot.stop_reason)
        if done.prompt is None:
            await _durable(turn, lambda one=done: turn.work.commit(note_attempt, turn.live.claim, one))
            return ended if done.passed else _failed(ended, done)
        if not await _durable(turn, lambda one=done, end=ended: _send_back(turn, one, end)):
            return replace(ended, outcome=SessionOutcome.INTERRUPTED, reason=turn.slot.stop_reason)
        attempt = _next(attempt, done, ended)
        if wait := paused or await _short(turn):
            turn.slot.suspend(wait)
        if turn.slot.stopping:
            return _unspent(ended, turn.slot.stop_reason)
        ended = await turn.drive(attempt, ended)
    return ended


def _lifted(slot: AgentSlot) -> Wait | None:
    """Lift a wait at a cap that came with the run's last message: checks cost nothing, only the next prompt would."""
    wait = slot.stopping.wait if slot.stopping else None
    if wait is not None:
        slot.resume()
    return wait


async def _checked(turn: Verification, attempt: Attempt, text: str) -> CheckRound | None:
    """Run all checks; None if the turn was stopped. With a `prompt`, failures go back to the agent."""
    acceptance, number = attempt.acceptance, len(attempt.acceptance.attempts) + 1

    def began(check: Check) -> None:
        body = {"check": check.title, "attempt": number}
        activity = Activity(kind=ActivityKind.CHECKING, detail=check.title)
        turn.live.recorder.note(Fact(kind=EventKind.CHECKING, at=turn.work.clock(), body=body, activity=activity))

    store, launch = turn.work.store, turn.runtime.launch
    site = CheckSite(store=store, launch=launch, claim=turn.live.claim, spec=attempt.spec, stop=turn.slot.stopped)
    found = await receipts(site, acceptance.checks, text, began)
    await turn.live.recorder.flush()
    if found is None:
        return None
    passed = all(receipt.passed for receipt in found)
    ends = passed or acceptance.is_last or any(is_final(receipt) for receipt in found)
    prompt = None if ends else str(uuid.uuid4())
    return CheckRound(number=number, at=turn.work.clock(), passed=passed, receipts=found, prompt=prompt)


async def _send_back(turn: Verification, done: CheckRound, ended: Ended) -> bool:
    """Record that the turn goes back to its agent, and what it has used so far, before it happens."""
    await turn.live.recorder.flush()
    read = [steering.turn_of(prompt) for prompt in ended.steered]
    await turn.work.commit(send_back, turn.live.claim, done, ended.run_usage, read)
    return True


def _next(attempt: Attempt, done: CheckRound, ended: Ended) -> Attempt:
    """Return the run that continues with what failed."""
    acceptance = attempt.acceptance.after(done)
    text = feedback(done, acceptance.retries)
    spec = replace(attempt.spec, resume=True, session_cost_usd=ended.session_cost_usd)
    return replace(
        attempt, spec=spec, prompt=Prompt(id=done.prompt or "", text=text), acceptance=acceptance, ended=None
    )


async def _short(turn: Verification) -> Wait | None:
    """Return the wait at a cap that allows no further model call, or None."""
    return await _durable(turn, turn.live.meter.reached)


def _unspent(ended: Ended, reason: str) -> Ended:
    """Return the end of a turn that was stopped before its next prompt; its earlier runs are already counted."""
    return Ended(
        outcome=SessionOutcome.INTERRUPTED,
        reason=reason,
        text=ended.text,
        cost_usd=0.0,
        session_cost_usd=ended.session_cost_usd,
    )


def _failed(ended: Ended, done: CheckRound) -> Ended:
    by_verdict = any(is_final(receipt) for receipt in done.receipts)
    tried = f" (tried {done.number} times)" if done.number > 1 else ""
    return replace(
        ended,
        outcome=SessionOutcome.FAILED,
        reason=FAILED_VERDICT if by_verdict else FAILED_CHECKS,
        detail="its verdict is changes" if by_verdict else (done.said + tried)[:MAX_DETAIL_CHARACTERS],
        hint="" if by_verdict else HINT,
    )


async def _durable(turn: Verification, act: Callable[[], Awaitable[T]]) -> T | None:
    """Return the result of `act`, retried until the database can be written; None once the turn must stop."""
    while True:
        try:
            return await act()
        except StoreError:
            if turn.slot.stopping:
                return None
            await asyncio.sleep(STORE_AGAIN_SECONDS)
