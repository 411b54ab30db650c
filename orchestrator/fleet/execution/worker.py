"""One task per agent with a session: it opens, drives and closes it, turn by turn, and rests it when idle.

The worker knows no vendor and no door. What it does is committed before anyone is told.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from orchestrator import log
from orchestrator.domain.event import Ended, Outcome, ToolStarted
from orchestrator.domain.wait import Wait
from orchestrator.errors import FleetError, SessionDiedError, StoreError
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.fleet.execution.attempt import Attempt, finish_run, planned, prepare
from orchestrator.fleet.execution.pause import FATAL, LEFT, Stop, Suspension, stopped, suspend_run, suspension_of
from orchestrator.fleet.execution.recovery import resumed, taken_over
from orchestrator.fleet.execution.verification import Verification, verified
from orchestrator.fleet.sessions import processes, steering
from orchestrator.fleet.sessions.meter import Meter
from orchestrator.fleet.sessions.recorder import Recorder
from orchestrator.providers.base import Prompt, Provider, Session
from orchestrator.settings import Settings
from orchestrator.store.engine.database import Store
from orchestrator.store.schema.transitions import StaleOwnerError
from orchestrator.store.turns.turns import Claim
from orchestrator.supervision.command import Launch
from orchestrator.supervision.reaper import Trace

LOG = log.logger("fleet.worker")
DELETED = "deleted"
INTERRUPT_AGAIN_SECONDS = 0.5
STOP_SECONDS = 10.0
"""an interrupted session has this long to end by itself; then it is closed under it"""
STORE_AGAIN_SECONDS = 0.5
NO_RESULT = Ended(outcome=Outcome.FAILED, reason="process", detail="the session ended without a result")


@dataclass(eq=False)
class Post:
    """The place of one agent in this daemon: its inbox, its task, its session while it has one."""

    agent_id: str
    inbox: asyncio.Queue[Claim | None] = field(default_factory=asyncio.Queue[Claim | None])
    task: asyncio.Task[None] | None = None
    session: Session | None = None
    trace: Trace = field(default_factory=Trace)
    """by what the session's processes are known"""
    recorder: Recorder | None = None
    """of the running turn, or of the last one"""
    claim: Claim | None = None
    """of the turn whose end is not recorded yet"""
    turn_id: str = ""
    """the turn that it has, or had last"""
    busy: bool = False
    stopping: Stop | None = None
    """why the running turn was told to stop, if it was"""
    steers: list[Prompt] = field(default_factory=list[Prompt])
    """what the running turn takes in at its next tool"""
    handed: set[str] = field(default_factory=set[str])
    """ids of the prompts that its session was given"""
    handing: asyncio.Lock = field(default_factory=asyncio.Lock)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    def unread(self, ended: Ended) -> bool:
        """Whether the session was handed a prompt that its run did not read: it would start a turn of its own."""
        return bool(self.handed - set(ended.steered))

    def begin(self, turn_id: str) -> None:
        """This turn runs from now on, and nobody has told it to stop."""
        self.turn_id = turn_id
        self.busy = True
        self.stopping = None
        self.steers = []
        self.handed = set()
        self.stopped.clear()


@dataclass
class Workers:
    """All posts of this daemon."""

    work: UnitOfWork
    settings: Settings
    providers: Mapping[str, Provider]
    state: Path
    tier: str = ""
    """letter of the supervision tier that sessions run in, '' if they have no processes"""
    launch: Launch | None = None
    """how checks are started; None: under the shim alone"""
    _posts: dict[str, Post] = field(default_factory=dict[str, Post])
    _starts: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(os.cpu_count() or 1))
    _resting: list[Post] = field(default_factory=list[Post])
    _rescues: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    leaving: bool = False
    """the daemon ends: what dies now is its successor's to take over"""
    interrupts: bool = False
    """somebody asked for that end, and for the end of the running turns with it"""

    @property
    def store(self) -> Store:
        """The store that all commits go to."""
        return self.work.store

    def take(self, claims: list[Claim]) -> None:
        """Run these turns; a resting session of the agent is used again."""
        for claim in claims:
            post = self._posts.get(claim.agent_id)
            if post is None:
                post = Post(claim.agent_id)
                self._posts[claim.agent_id] = post
                post.task = asyncio.get_running_loop().create_task(self._serve(post), name=f"agent {claim.agent_id}")
                post.task.add_done_callback(partial(self._died, post))
            post.begin(claim.turn_id)
            post.inbox.put_nowait(claim)

    def carries(self, agent_id: str) -> bool:
        """Whether a worker has a turn of the agent, or is about to."""
        post = self._posts.get(agent_id)
        return post is not None and (post.busy or post.claim is not None)

    def session_count(self) -> int:
        """How many sessions are open, resting ones included."""
        return sum(post.session is not None for post in self._posts.values())

    async def interrupt(self, agent_id: str, reason: str, turn_id: str | None = None) -> bool:
        """Ask the running turn to end as interrupted; False if none runs here, or another one than was meant."""
        post = self._posts.get(agent_id)
        if post is None or not post.busy or turn_id not in {None, post.turn_id}:
            return False
        post.stopping = Stop(reason=reason)
        post.stopped.set()
        return True

    async def steer(self, agent_id: str, turn_id: str, text: str) -> str:
        """Hand the text of this queued turn into the running one; return what happened, '' if that is still to come."""
        post = self._posts.get(agent_id)
        if post is None or not post.busy or post.turn_id == turn_id:
            return ""
        return await steering.steer(post, Prompt(id=steering.steer_id(turn_id), text=text))

    def suspend(self, agent_id: str, wait: Wait) -> None:
        """Stop the running turn, which then waits; a stop that was asked for before takes precedence."""
        post = self._posts.get(agent_id)
        if post is not None and post.busy and not post.stopping:
            post.stopping = Stop(reason=wait.kind, wait=wait)
            post.stopped.set()

    async def dismiss(self, agent_id: str) -> None:
        """Return once no process of the agent is left here."""
        await self._leave(agent_id, DELETED)

    async def aclose(self) -> None:
        """Admit nothing more, close every session, leave what runs to the next daemon, return when all of it is over.

        With `interrupts` what runs is interrupted.
        """
        self.work.slots, self.leaving = 0, True
        reason = "stopped" if self.interrupts else LEFT
        await asyncio.gather(*[self._leave(agent_id, reason) for agent_id in list(self._posts)], *self._rescues)

    async def _leave(self, agent_id: str, reason: str) -> None:
        """Stop what runs and close the session; what came while it closed has a new post, which goes too."""
        while (post := self._posts.get(agent_id)) is not None and post.task is not None:
            await self.interrupt(agent_id, reason)
            post.inbox.put_nowait(None)
            ended, _ = await asyncio.wait({post.task}, timeout=STOP_SECONDS + 5)
            if not ended:
                LOG.error("session_does_not_end", agent=agent_id, reason=reason)
                return

    async def _serve(self, post: Post) -> None:
        """The owner task: everything that touches the agent's session happens here."""
        try:
            while (claim := await self._next(post)) is not None:
                with log.bound(agent=claim.agent_id, turn=claim.turn):
                    await self._turn(post, claim)
        finally:
            try:
                await self._close(post)
            finally:
                del self._posts[post.agent_id]
                self._hand_on(post)

    def _died(self, post: Post, task: asyncio.Task[None]) -> None:
        """Let another task end the turn of a worker that died by surprise, so that its agent can go on."""
        error = None if task.cancelled() else task.exception()
        claim, post.claim = post.claim, None
        if claim is None or self.leaving:
            return
        LOG.error("worker_died", agent=post.agent_id, error=repr(error))
        rescue = asyncio.get_running_loop().create_task(self._rescue(post, claim, error))
        self._rescues.add(rescue)
        rescue.add_done_callback(self._rescues.discard)

    async def _rescue(self, post: Post, claim: Claim, error: BaseException | None) -> None:
        await self._close(post)
        why = "it was cancelled" if error is None else f"{type(error).__name__}: {error}"
        detail = f"Fleet's own task for this agent died: {why}"
        hint = "command the agent to go on; its conversation is kept, and the daemon's log tells more"
        ended = Ended(outcome=Outcome.FAILED, reason="internal", detail=detail, hint=hint)
        await self._record(claim, None, Recorder(self.work, claim), ended, None)

    def _hand_on(self, post: Post) -> None:
        """A claim that came while the session closed gets a new post, which is told to stop if this one was."""
        late = [post.inbox.get_nowait() for _ in range(post.inbox.qsize())]
        self.take(claims := [claim for claim in late if claim is not None])
        if claims and post.stopping:
            heir = self._posts[post.agent_id]
            heir.stopping = post.stopping
            heir.stopped.set()

    async def _next(self, post: Post) -> Claim | None:
        """The next claim; None when the agent has rested long enough or must go."""
        self._rest(post)
        try:
            async with asyncio.timeout(self.settings.rest_seconds if post.session else 0.05):
                return await post.inbox.get()
        except TimeoutError:
            return None
        finally:
            if post in self._resting:
                self._resting.remove(post)

    def _rest(self, post: Post) -> None:
        """Of more resting sessions than slots the one that has rested longest is closed."""
        if post.session is None:
            return
        self._resting.append(post)
        if len(self._resting) > self.settings.slots:
            self._resting[0].inbox.put_nowait(None)

    async def _turn(self, post: Post, claim: Claim) -> None:
        """Run one claimed turn to its end, whatever happens: this is the firewall around one agent."""
        post.claim = claim
        post.recorder = recorder = Recorder(self.work, claim, loop_calls=self.settings.loop_calls)
        recorder.meter = Meter(self.work, claim, recorder.flush, lambda wait: self.suspend(claim.agent_id, wait))
        attempt: Attempt | None = None
        try:
            attempt = await prepare(self.work, self.state, claim, lambda: post.recorder, self.settings)
            if claim.recovers:
                attempt = await taken_over(self.work, self.providers[attempt.provider], claim, attempt)
            ended = await self._work(post, claim, attempt, recorder)
        except FleetError as error:
            LOG.warning("turn_failed_to_start", error=error.message)
            reason = "process" if isinstance(error, SessionDiedError) else "start"
            ended = _broken(attempt, recorder, reason, error.message, error.hint)
        except Exception as error:  # one agent's crash must not take the others with it
            LOG.exception("turn_crashed")
            ended = _broken(attempt, recorder, "internal", f"{type(error).__name__}: {error}")
        finally:
            post.busy = False
        suspension = suspension_of(claim, ended, post.stopping, self.settings)
        ended = stopped(ended, post.stopping)
        closes = suspension is not None or ended.outcome is Outcome.DEFERRED or ended.reason in FATAL
        if closes or post.stopping == Stop(reason=DELETED) or post.unread(ended):
            await self._close(post)
        await self._record(claim, attempt, recorder, ended, suspension)
        post.claim = None

    async def _work(self, post: Post, claim: Claim, attempt: Attempt, recorder: Recorder) -> Ended:
        """Drive the run to its end, and on, until its checks pass or have failed too often."""

        async def again(attempt: Attempt, before: Ended) -> Ended:
            if post.unread(before):
                await self._close(post)
            post.handed.clear()
            recorder.ran = False
            return planned(claim, attempt, await self._drive(post, claim, attempt, recorder))

        verification = Verification(
            work=self.work,
            launch=self.launch or Launch(folder=self.state / "run"),
            claim=claim,
            post=post,
            recorder=recorder,
            drive=again,
        )
        first = attempt.ended or await self._drive(post, claim, attempt, recorder)
        return await verified(verification, attempt, planned(claim, attempt, first))

    async def _drive(self, post: Post, claim: Claim, attempt: Attempt, recorder: Recorder) -> Ended:
        if post.session is None:
            async with self._starts:
                if not post.stopping:
                    provider = self.providers[attempt.provider]
                    opened = await processes.open_session(self.store, provider, attempt.spec, claim, self.tier)
                    post.session, post.trace = opened.session, opened.trace
        if post.stopping or post.session is None:
            before, reason = attempt.spec.session_cost_usd, post.stopping.reason if post.stopping else ""
            return Ended(outcome=Outcome.INTERRUPTED, reason=reason, cost_usd=0.0, session_cost_usd=before)
        try:
            async with asyncio.timeout(None) as limit:
                watches = [_watch_stop(post, post.session, limit)]
                if recorder.meter is not None:
                    watches.append(recorder.meter.watch())
                async with _beside(watches):
                    recorder.ran = True
                    return await _listen(post, post.session, attempt.prompt, recorder)
        except TimeoutError:
            await self._close(post)
            return NO_RESULT

    async def _record(
        self, claim: Claim, attempt: Attempt | None, recorder: Recorder, ended: Ended, suspension: Suspension | None
    ) -> None:
        """Write the end down; a database that cannot be written is tried again until it can, or the daemon ends.

        An end that cannot be recorded as it is becomes a failure: no turn stays open behind a session that has ended.
        """
        unfit = False
        while True:
            try:
                await self._write_end(claim, attempt, recorder, ended, suspension)
            except StaleOwnerError:
                LOG.info("late_end_dropped", reason=ended.reason)
                return
            except StoreError as error:
                LOG.error("end_not_written", error=error.message)  # noqa: TRY400 - the sentence says it all
                await asyncio.sleep(STORE_AGAIN_SECONDS)
            except Exception as error:
                LOG.exception("end_unfit")
                if unfit:
                    return
                unfit, attempt, suspension = True, None, None
                ended = Ended(outcome=Outcome.FAILED, reason="internal", detail=f"{type(error).__name__}: {error}")
            else:
                return

    async def _write_end(
        self, claim: Claim, attempt: Attempt | None, recorder: Recorder, ended: Ended, suspension: Suspension | None
    ) -> None:
        """Suspend the turn, queue it to be resumed, or end it."""
        if suspension is not None:
            await suspend_run(self.work, claim, recorder, ended, suspension)
            return
        await recorder.flush()
        going = await resumed(self.work, claim, ended, self.settings.max_resumes)
        if going is not None:
            await finish_run(self.work, self.state, claim, attempt, recorder, going)

    async def _close(self, post: Post) -> None:
        if (session := post.session) is not None:
            await session.close()
            post.session = None
            await processes.over(self.store, post.trace, tier=self.tier)


async def _listen(post: Post, session: Session, prompt: Prompt | None, recorder: Recorder) -> Ended:
    """Record what the session tells until its run ends; hand in at a tool's start what it is steered with."""
    ended = NO_RESULT
    async for event in session.run(prompt):
        if isinstance(event, Ended):
            ended = event
        recorder.event(event)
        if isinstance(event, ToolStarted) and post.steers:
            await steering.hand_in(post)
    return ended


@asynccontextmanager
async def _beside(watches: Sequence[Coroutine[None, None, None]]) -> AsyncGenerator[None]:
    """Run these as long as the block runs."""
    tasks = [asyncio.get_running_loop().create_task(watch) for watch in watches]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


async def _watch_stop(post: Post, session: Session, limit: asyncio.Timeout) -> None:
    """Once the turn is told to stop: interrupt it, again if that came too early, and cut it off at the limit.

    One that is left to the next daemon is cut off at once.
    """
    await post.stopped.wait()
    limit.reschedule(asyncio.get_running_loop().time() + STOP_SECONDS)
    while post.stopping != Stop(reason=LEFT):
        await session.interrupt()
        await asyncio.sleep(INTERRUPT_AGAIN_SECONDS)
    limit.reschedule(asyncio.get_running_loop().time())


def _broken(attempt: Attempt | None, recorder: Recorder, reason: str, detail: str, hint: str = "") -> Ended:
    """The end of a run that broke in Fleet's hands: one that had not begun has cost nothing."""
    ended = Ended(outcome=Outcome.FAILED, reason=reason, detail=detail, hint=hint)
    if recorder.ran:
        return ended
    return replace(ended, cost_usd=0.0, session_cost_usd=attempt.spec.session_cost_usd if attempt else None)
