"""One worker per agent with a session: opens it, runs its turns, keeps it while idle, and closes it.

The worker knows no vendor and no door. What it does is committed before anyone is notified.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from orchestrator import log
from orchestrator.domain.event import Ended, SessionOutcome, ToolStarted
from orchestrator.errors import FleetError, SessionDiedError, StoreError
from orchestrator.fleet.execution.attempt import Attempt, finish_attempt, planned, prepare
from orchestrator.fleet.execution.pause import FATAL, Suspension, stopped, suspend_attempt, suspension_of
from orchestrator.fleet.execution.recovery import resumed, taken_over, with_late_reads
from orchestrator.fleet.execution.runtime import Runtime
from orchestrator.fleet.execution.slots import STOP_SECONDS, AgentSlots
from orchestrator.fleet.execution.verification import Verification, verified
from orchestrator.fleet.sessions import processes, steering
from orchestrator.fleet.sessions.meter import Meter
from orchestrator.fleet.sessions.recorder import Recorder
from orchestrator.fleet.sessions.slot import DELETED, LEFT, AgentSlot, LiveTurn
from orchestrator.providers.base import Prompt, Session
from orchestrator.store.schema.transitions import StaleOwnerError
from orchestrator.store.turns.turns import Claim

LOG = log.logger("fleet.worker")
INTERRUPT_AGAIN_SECONDS = 0.5
IDLE_SECONDS = 0.05
"""how long an agent without a session keeps its slot, for a claim that is on its way"""
STORE_AGAIN_SECONDS = 0.5
NO_RESULT = Ended(outcome=SessionOutcome.FAILED, reason="process", detail="the session ended without a result")


@dataclass
class Workers:
    """The tasks of this daemon that run agents, one for each slot."""

    runtime: Runtime
    slots: AgentSlots
    _tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    """tasks that serve slots, and tasks that rescue turns of dead workers"""
    _starts: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(os.cpu_count() or 1))
    _resting: list[AgentSlot] = field(default_factory=list[AgentSlot])
    _leaving: bool = False
    """the daemon is stopping: turns of workers that die now are left to its successor"""

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Run the claims that are dispatched to the slots.

        On exit it admits nothing more, closes every session, and returns when all tasks have ended.
        """
        accepting = asyncio.get_running_loop().create_task(self._accept(), name="workers")
        try:
            yield
        finally:
            self._leaving = True
            self.runtime.work.stop_admitting()
            await self.slots.stop_all()
            accepting.cancel()
            await asyncio.wait({accepting})
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=STOP_SECONDS)

    def kill(self) -> set[asyncio.Task[None]]:
        """Cancel every task as the death of the daemon would: nothing more is written. Returns the tasks."""
        self._leaving = True
        for task in self._tasks:
            task.cancel()
        return set(self._tasks)

    async def _accept(self) -> None:
        while True:
            slot = await self.slots.next_unserved()
            task = self._begin(self._serve(slot), name=f"agent {slot.agent_id}")
            task.add_done_callback(partial(self._died, slot))

    def _begin(self, work: Coroutine[None, None, None], *, name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _serve(self, slot: AgentSlot) -> None:
        """The owner task: it alone opens, runs and closes the agent's session."""
        try:
            while (claim := await self._next(slot)) is not None:
                with log.bound(agent=claim.agent_id, turn=claim.turn):
                    await self._turn(slot, claim)
        finally:
            try:
                await self._close(slot)
            finally:
                self.slots.release(slot)

    def _died(self, slot: AgentSlot, task: asyncio.Task[None]) -> None:
        """End the turn of a worker that died unexpectedly from another task, so that its agent stays usable."""
        error = None if task.cancelled() else task.exception()
        claim, slot.claim = slot.claim, None
        if claim is None or self._leaving:
            return
        LOG.error("worker_died", agent=slot.agent_id, error=repr(error))
        self._begin(self._rescue(slot, claim, error), name=f"rescue {slot.agent_id}")

    async def _rescue(self, slot: AgentSlot, claim: Claim, error: BaseException | None) -> None:
        await self._close(slot)
        why = "it was cancelled" if error is None else f"{type(error).__name__}: {error}"
        detail = f"Fleet's own task for this agent died: {why}"
        hint = "command the agent to continue; its conversation is kept, and the daemon's log tells more"
        ended = Ended(outcome=SessionOutcome.FAILED, reason="internal", detail=detail, hint=hint)
        await self._record(self._live(slot, claim), None, ended, None)

    async def _next(self, slot: AgentSlot) -> Claim | None:
        """Wait for the next claim; None when the agent has been idle for long enough or must leave."""
        self._rest(slot)
        try:
            async with asyncio.timeout(self.runtime.settings.rest_seconds if slot.session else IDLE_SECONDS):
                return await slot.inbox.get()
        except TimeoutError:
            return None
        finally:
            if slot in self._resting:
                self._resting.remove(slot)

    def _rest(self, slot: AgentSlot) -> None:
        """If more sessions are idle than turns may run, close the one that has been idle longest."""
        if slot.session is None:
            return
        self._resting.append(slot)
        if len(self._resting) > self.runtime.settings.slots:
            self._resting[0].inbox.put_nowait(None)

    def _live(self, slot: AgentSlot, claim: Claim) -> LiveTurn:
        work = self.runtime.work
        recorder = Recorder(work, claim, loop_calls=self.runtime.settings.loop_calls)
        return LiveTurn(claim=claim, recorder=recorder, meter=Meter(work, claim, recorder.flush, slot.suspend))

    async def _turn(self, slot: AgentSlot, claim: Claim) -> None:
        """Run one claimed turn to its end, whatever happens; errors of one agent do not affect others."""
        runtime = self.runtime
        slot.claim = claim
        slot.live = live = self._live(slot, claim)
        attempt: Attempt | None = None
        try:
            attempt = await prepare(runtime, slot, claim)
            if claim.recovers:
                attempt = await taken_over(runtime.work, runtime.providers[attempt.provider], claim, attempt)
            ended = await self._work(slot, live, attempt)
        except FleetError as error:
            LOG.warning("turn_failed_to_start", error=error.message)
            reason = "process" if isinstance(error, SessionDiedError) else "start"
            ended = _broken(attempt, live.recorder, reason, error.message, error.hint)
        except Exception as error:  # one agent's crash must not take down the others
            LOG.exception("turn_crashed")
            ended = _broken(attempt, live.recorder, "internal", f"{type(error).__name__}: {error}")
        finally:
            slot.busy = False
        suspension = suspension_of(claim, ended, slot.stopping, runtime.settings)
        ended = stopped(ended, slot.stopping)
        goes_on = suspension is not None or ended.outcome is SessionOutcome.DEFERRED
        if goes_on or ended.reason in FATAL or slot.stop_reason == DELETED or slot.has_unread(ended):
            await self._close(slot)
        if goes_on and attempt is not None and slot.has_unread(ended):
            ended = await with_late_reads(runtime.providers[attempt.provider], attempt, slot.handed, ended)
        await self._record(live, attempt, ended, suspension)
        slot.claim = None

    async def _work(self, slot: AgentSlot, live: LiveTurn, attempt: Attempt) -> Ended:
        """Run the attempt, and again until its checks pass or have failed too often."""

        async def again(attempt: Attempt, before: Ended) -> Ended:
            if slot.has_unread(before):
                await self._close(slot)
            slot.handed.clear()
            live.recorder.ran = False
            return planned(live.claim, attempt, await self._drive(slot, live, attempt))

        first = attempt.ended or await self._drive(slot, live, attempt)
        verification = Verification(runtime=self.runtime, slot=slot, live=live, drive=again)
        return await verified(verification, attempt, planned(live.claim, attempt, first))

    async def _drive(self, slot: AgentSlot, live: LiveTurn, attempt: Attempt) -> Ended:
        if slot.opened is not None and slot.opened.briefs != attempt.spec.briefs:
            await self._close(slot)  # a command gave it more: they are read when a session opens
        if slot.opened is None:
            async with self._starts:
                if not slot.stopping:
                    await self._open(slot, live.claim, attempt)
        if slot.stopping or slot.session is None:
            before = attempt.spec.session_cost_usd
            return Ended(
                outcome=SessionOutcome.INTERRUPTED, reason=slot.stop_reason, cost_usd=0.0, session_cost_usd=before
            )
        try:
            async with asyncio.timeout(None) as limit:
                async with _beside([_watch_stop(slot, slot.session, limit), live.meter.watch()]):
                    live.recorder.ran = True
                    ended = await _listen(slot, slot.session, attempt.prompt, live)
        except TimeoutError:
            await self._close(slot)
            return NO_RESULT
        if slot.opened is not None and not await processes.is_settled(slot.opened.identity):
            LOG.info("left_running_ended")
            await self._close(slot)  # before its checks run and before its checkout is another's to write in
        return ended

    async def _open(self, slot: AgentSlot, claim: Claim, attempt: Attempt) -> None:
        """Open the session, unless the turn must stop before it is open; no process of it is left then."""
        runtime, loop = self.runtime, asyncio.get_running_loop()
        provider = runtime.providers[attempt.provider]
        opening = loop.create_task(
            processes.open_session(runtime.work.store, provider, attempt.spec, claim, runtime.tier)
        )
        stopping = loop.create_task(slot.stopped.wait())
        try:
            await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            opening.cancel()  # no effect if it is done
            await asyncio.wait({opening})
            if not opening.cancelled() and opening.exception() is None:
                slot.opened = opening.result()
        if not opening.cancelled():
            opening.result()  # raises what kept it from opening

    async def _close(self, slot: AgentSlot) -> None:
        if (opened := slot.opened) is not None:
            await opened.session.close()
            slot.opened = None
            await processes.over(self.runtime.work.store, opened.identity, tier=self.runtime.tier)

    async def _record(
        self, live: LiveTurn, attempt: Attempt | None, ended: Ended, suspension: Suspension | None
    ) -> None:
        """Record the end, retrying until the database can be written or the daemon stops.

        An end that cannot be recorded as it is becomes a failure, so that no turn stays open after its session ended.
        """
        unfit = False
        while True:
            try:
                await self._write_end(live, attempt, ended, suspension)
            except StaleOwnerError:
                LOG.info("late_end_dropped", reason=ended.reason)
                return
            except StoreError as error:
                LOG.error("end_not_written", error=error.message)  # noqa: TRY400 - the message is complete without a traceback
                await asyncio.sleep(STORE_AGAIN_SECONDS)
            except Exception as error:
                LOG.exception("end_unfit")
                if unfit:
                    return
                unfit, attempt, suspension = True, None, None
                ended = Ended(
                    outcome=SessionOutcome.FAILED, reason="internal", detail=f"{type(error).__name__}: {error}"
                )
            else:
                return

    async def _write_end(
        self, live: LiveTurn, attempt: Attempt | None, ended: Ended, suspension: Suspension | None
    ) -> None:
        """Suspend the turn, queue it for another attempt, or end it."""
        runtime = self.runtime
        if suspension is not None:
            await suspend_attempt(runtime.work, live, ended, suspension)
            return
        await live.recorder.flush()
        final = await resumed(runtime.work, live.claim, ended, runtime.settings.max_resumes)
        if final is not None:
            await finish_attempt(runtime, live, attempt, final)


async def _listen(slot: AgentSlot, session: Session, prompt: Prompt | None, live: LiveTurn) -> Ended:
    """Record what the session reports until its run ends; hand in steered texts when a tool starts."""
    ended = NO_RESULT
    async for event in session.run(prompt):
        slot.started.set()
        if isinstance(event, Ended):
            ended = event
        live.recorder.event(event)
        live.meter.hear(event)
        if isinstance(event, ToolStarted) and slot.steers:
            await steering.hand_in(slot)
    return ended


@asynccontextmanager
async def _beside(watches: Sequence[Coroutine[None, None, None]]) -> AsyncGenerator[None]:
    """Run these tasks while the block runs."""
    tasks = [asyncio.get_running_loop().create_task(watch) for watch in watches]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


async def _watch_stop(slot: AgentSlot, session: Session, limit: asyncio.Timeout) -> None:
    """Once the turn must stop, interrupt it (again if that came too early), and cut it off at the limit.

    A turn that is left to the next daemon is cut off at once.
    """
    await slot.stopped.wait()
    limit.reschedule(asyncio.get_running_loop().time() + STOP_SECONDS)
    while slot.stop_reason != LEFT:
        await session.interrupt()
        await asyncio.sleep(INTERRUPT_AGAIN_SECONDS)
    limit.reschedule(asyncio.get_running_loop().time())


def _broken(attempt: Attempt | None, recorder: Recorder, reason: str, detail: str, hint: str = "") -> Ended:
    """Return the end of an attempt that failed inside Fleet; an attempt that had not begun has cost nothing."""
    ended = Ended(outcome=SessionOutcome.FAILED, reason=reason, detail=detail, hint=hint)
    if recorder.ran:
        return ended
    return replace(ended, cost_usd=0.0, session_cost_usd=attempt.spec.session_cost_usd if attempt else None)
