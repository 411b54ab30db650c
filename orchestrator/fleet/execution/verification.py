"""Verified completion: a turn whose session ended well is complete only when its checks pass.

Failed checks go back to the agent as the next prompt of the same turn, a bounded number of times. The receipts of a
round are durable before the agent hears of them, so that a successor goes on where a killed daemon was: a turn that
its transcript tells to be answered is checked again; receipts that it was not told yet it is told.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from orchestrator.domain.activity import Activity, ActivityKind
from orchestrator.domain.check import FAILED_CHECKS, FAILED_VERDICT, Check, CheckRound
from orchestrator.domain.event import Ended, Kind, Outcome
from orchestrator.errors import StoreError
from orchestrator.fleet.checks.check_runner import Site, is_final, receipts
from orchestrator.fleet.checks.criteria import feedback
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.fleet.execution.attempt import Attempt
from orchestrator.fleet.execution.pause import Stop
from orchestrator.fleet.sessions import steering
from orchestrator.fleet.sessions.recorder import Recorder
from orchestrator.fleet.sessions.usage import usage_of
from orchestrator.providers.base import Prompt
from orchestrator.store.turns.checks import note_attempt, send_back
from orchestrator.store.turns.events import Fact
from orchestrator.store.turns.turns import Claim
from orchestrator.supervision.command import Launch

STORE_AGAIN_SECONDS = 0.5
MAX_DETAIL_CHARACTERS = 2000
HINT = "`fleet show` has the receipts; command it again with what to do, or with other checks"
T = TypeVar("T")


class Stoppable(Protocol):
    """The place of the running turn: why it was told to stop."""

    stopping: Stop | None
    stopped: asyncio.Event


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What a turn needs to be verified; `drive` gives its session the next prompt, after the end that it is told."""

    work: UnitOfWork
    launch: Launch
    claim: Claim
    post: Stoppable
    recorder: Recorder
    drive: Callable[[Attempt, Ended], Awaitable[Ended]]


async def verified(verification: Verification, attempt: Attempt, ended: Ended) -> Ended:
    """How the turn ends, after a run of it ended like this: complete only if every check passes.

    Raises:
        StaleOwnerError: the claim is over.
    """
    while ended.outcome is Outcome.COMPLETE and attempt.acceptance.checks:
        paused = _lifted(verification.post)
        done = await _durable(
            verification, lambda attempt=attempt, text=ended.text: _checked(verification, attempt, text)
        )
        if done is None:
            return replace(ended, outcome=Outcome.INTERRUPTED, reason=_reason(verification.post))
        if done.prompt is None:
            await _durable(
                verification, lambda one=done: verification.work.commit(note_attempt, verification.claim, one)
            )
            return ended if done.passed else _failed(ended, done)
        if not await _durable(verification, lambda one=done, end=ended: _send_back(verification, one, end)):
            return replace(ended, outcome=Outcome.INTERRUPTED, reason=_reason(verification.post))
        attempt = _next(attempt, done, ended)
        short = paused or await _short(verification)
        verification.post.stopping = verification.post.stopping or short  # a stop that came meanwhile goes before
        if verification.post.stopping:
            return _unspent(ended, _reason(verification.post))
        ended = await verification.drive(attempt, ended)
    return ended


def _lifted(post: Stoppable) -> Stop | None:
    """A stop at a cap that came with the run's last words, taken back: checks cost nothing; the next prompt would."""
    stop = post.stopping
    if stop is None or stop.wait is None:
        return None
    post.stopping = None
    post.stopped.clear()
    return stop


def _reason(post: Stoppable) -> str:
    return post.stopping.reason if post.stopping else ""


async def _checked(verification: Verification, attempt: Attempt, text: str) -> CheckRound | None:
    """Run all checks; None if the turn was told to stop. With a `prompt` the agent is to mend what failed."""
    acceptance, number = attempt.acceptance, len(attempt.acceptance.attempts) + 1

    def began(check: Check) -> None:
        body = {"check": check.title, "attempt": number}
        activity = Activity(kind=ActivityKind.CHECKING, detail=check.title)
        verification.recorder.note(Fact(kind=Kind.CHECKING, at=verification.work.clock(), body=body, activity=activity))

    site = Site(
        store=verification.work.store,
        launch=verification.launch,
        claim=verification.claim,
        spec=attempt.spec,
        stop=verification.post.stopped,
    )
    found = await receipts(site, acceptance.checks, text, began)
    await verification.recorder.flush()
    if found is None:
        return None
    passed = all(receipt.passed for receipt in found)
    ends = passed or acceptance.is_last or any(is_final(receipt) for receipt in found)
    prompt = None if ends else str(uuid.uuid4())
    return CheckRound(number=number, at=verification.work.clock(), passed=passed, receipts=found, prompt=prompt)


async def _send_back(verification: Verification, done: CheckRound, ended: Ended) -> bool:
    """Make durable that the turn goes back to its agent, and what it has used so far; then it is true."""
    await verification.recorder.flush()
    read = [steering.turn_of(prompt) for prompt in ended.steered]
    await verification.work.commit(send_back, verification.claim, done, usage_of(ended), read)
    return True


def _next(attempt: Attempt, done: CheckRound, ended: Ended) -> Attempt:
    """The run that goes on with what failed."""
    acceptance = attempt.acceptance.after(done)
    text = feedback(done, acceptance.retries)
    spec = replace(attempt.spec, resume=True, session_cost_usd=ended.session_cost_usd)
    return replace(
        attempt, spec=spec, prompt=Prompt(id=done.prompt or "", text=text), acceptance=acceptance, ended=None
    )


async def _short(verification: Verification) -> Stop | None:
    """The stop at the cap that allows no further call of the model; None if there is none."""
    meter = verification.recorder.meter
    wait = await _durable(verification, meter.reached) if meter is not None else None
    return None if wait is None else Stop(reason=wait.kind, wait=wait)


def _unspent(ended: Ended, reason: str) -> Ended:
    """The end of a turn that was stopped before its next prompt: what came before is counted already."""
    return Ended(
        outcome=Outcome.INTERRUPTED,
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
        outcome=Outcome.FAILED,
        reason=FAILED_VERDICT if by_verdict else FAILED_CHECKS,
        detail="its verdict is changes" if by_verdict else (done.said + tried)[:MAX_DETAIL_CHARACTERS],
        hint="" if by_verdict else HINT,
    )


async def _durable(verification: Verification, act: Callable[[], Awaitable[T]]) -> T | None:
    """What `act` gives, once the database can be written; None if the turn is told to stop meanwhile."""
    while True:
        try:
            return await act()
        except StoreError:
            if verification.post.stopping:
                return None
            await asyncio.sleep(STORE_AGAIN_SECONDS)
