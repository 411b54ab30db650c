"""One conversation with the real `claude` program, from its start to the end of its processes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from claude_agent_sdk import AssistantMessage, ClaudeSDKClient, ClaudeSDKError, Message, ResultMessage

from orchestrator.domain.event import Ended, Opened, Outcome, Retrying, SessionEvent, Stalled
from orchestrator.providers.base import Prompt, SessionSpec
from orchestrator.providers.claude.gate import Gate
from orchestrator.providers.claude.messages import RunProgress
from orchestrator.providers.claude.options import brings_key
from orchestrator.providers.claude.outcome import (
    UNAUTHORIZED,
    Verdict,
    deferred_of,
    denied_of,
    detail_of,
    failed,
    interrupted,
    judge_death,
    judge_result,
    reset_of,
)
from orchestrator.providers.claude.totals import SessionTotals, Share, share, totals_of, window_of
from orchestrator.providers.watchdog import SilenceLimits, Watchdog

INBOX_MESSAGES = 100
STOP_SECONDS = 5.0
"""How long an interrupted run may take to end by itself; then its processes are ended."""
REPEAT_SECONDS = 0.5
"""An interrupt that came before its prompt was read has no effect (measured), so it is repeated."""
CONTROL_SECONDS = 1.0
SEND_SECONDS = 60.0
CONTINUE_SECONDS = 30.0
LAST_WORDS_SECONDS = 0.1


@dataclass(frozen=True)
class _Gone:
    """The program says no more; `error` is what the SDK saw of its end."""

    error: Exception | None


class _Nudge:
    """Something changed for the run: look again."""


@dataclass
class _Run:
    """The run under way."""

    turn: RunProgress
    watch: Watchdog
    prompt_id: str | None
    follows_resume: bool
    stop: Verdict | None = None
    stop_by: float = 0.0
    heard: bool = False
    result: ResultMessage | None = None
    used: Share | None = None
    before: SessionTotals | None = None
    handed: set[str] = field(default_factory=set[str])
    """ids of prompts that were given to the program while it ran"""
    steered: tuple[str, ...] = ()
    """those of them that its model has read"""
    began: float = field(default_factory=time.monotonic)

    @property
    def waits_in_vain(self) -> bool:
        """Whether a continued run shows no sign that anything was deferred."""
        return self.prompt_id is None and not self.heard and time.monotonic() - self.began > CONTINUE_SECONDS


class ClaudeSession:
    """A live program and the one task that drives it."""

    def __init__(
        self,
        client: ClaudeSDKClient,
        spec: SessionSpec,
        gate: Gate,
        stderr: deque[str],
        *,
        limits: SilenceLimits,
        totals: SessionTotals,
    ) -> None:
        self._client = client
        self._spec = spec
        self._gate = gate
        self._stderr = stderr
        self._limits = limits
        self._inbox: asyncio.Queue[Message | _Gone | _Nudge] = asyncio.Queue(INBOX_MESSAGES)
        self._pump = asyncio.create_task(self._read())
        self._run: _Run | None = None
        self._closing: asyncio.Task[None] | None = None
        self._gone: _Gone | None = None
        self._is_opened = False
        self._is_busy = False
        self._may_continue = spec.resume
        self._totals = totals
        self._context_window_tokens: int | None = None

    async def run(self, prompt: Prompt | None) -> AsyncIterator[SessionEvent]:
        """Yield what happens, ending with exactly one `Ended`."""
        run = _Run(
            turn=RunProgress(self._gate, self._context_window_tokens),
            watch=Watchdog(self._limits),
            prompt_id=prompt and prompt.id,
            follows_resume=self._may_continue,
        )
        if prompt is not None:
            self._gate.begin()
        self._run = run
        try:
            verdict = await self._begin(prompt)
            while verdict is None:
                item = await self._next(run)
                for event in self._events(run, item):
                    yield event
                verdict = await self._verdict(run, item)
            yield self._end(run, verdict)
        finally:
            self._run = None

    async def interrupt(self) -> None:
        """Ask the run to end soon; harmless when nothing runs."""
        if self._run is not None and self._run.stop is None:
            await self._stop(self._run, interrupted())
            if not self._inbox.full():
                self._inbox.put_nowait(_Nudge())

    async def steer(self, prompt: Prompt) -> bool:
        """Hand the prompt into the run: while a tool runs, the program shows it to the model after that tool.

        Between tools it would become a turn of its own (both measured), and while a call is deferred it would destroy
        the sleep: then False.
        """
        run = self._run
        if (
            run is None
            or run.stop is not None
            or not run.turn.in_tool
            or self._gate.defers
            or self._closing is not None
        ):
            return False
        run.handed.add(prompt.id)
        self._gate.handed_in()
        try:
            await self._send(prompt)
        except (ClaudeSDKError, TimeoutError):
            run.handed.discard(prompt.id)
            return False
        return True

    async def close(self) -> None:
        """End the session's processes, whatever state they are in; never raises."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._is_busy and self._gone is None:
            await self._signal()
        self._pump.cancel()
        await asyncio.wait({self._pump})
        with contextlib.suppress(Exception):  # an end must not fail; what remains is the shim's to end
            await self._client.disconnect()

    async def _read(self) -> None:
        """Move the program's messages into the inbox: waiting on them directly could not be given up safely."""
        error: Exception | None = None
        try:
            async for message in self._client.receive_messages():
                if isinstance(message, AssistantMessage):
                    self._gate.heard(message.message_id)
                await self._inbox.put(message)
        except Exception as caught:  # noqa: BLE001  # the SDK's reader re-raises whatever ended the program
            error = caught
        await self._inbox.put(_Gone(error))

    async def _begin(self, prompt: Prompt | None) -> Verdict | None:
        """Send the prompt; a verdict if the run is over before it began."""
        if self._closing is not None:
            return failed("process", "the session is closed")
        if self._gone is not None:
            return judge_death(self._gone.error, list(self._stderr))
        self._is_busy = True
        may_continue, self._may_continue = self._may_continue, False
        if prompt is None:
            if may_continue:
                return None
            return failed("process", "nothing can be continued here: a deferred call is continued by a new session")
        with contextlib.suppress(ClaudeSDKError, TimeoutError):  # why it does not listen arrives in the inbox
            await self._send(prompt)
        return None

    async def _send(self, prompt: Prompt) -> None:
        message: dict[str, object] = {
            "type": "user",
            "uuid": prompt.id,
            "message": {"role": "user", "content": prompt.text},
            "parent_tool_use_id": None,
        }

        async def messages() -> AsyncIterator[dict[str, object]]:
            yield message

        async with asyncio.timeout(SEND_SECONDS):
            await self._client.query(messages())

    async def _next(self, run: _Run) -> Message | _Gone | _Nudge | None:
        """The next message; None if nothing came until it is time to look."""
        seconds = run.watch.wait_seconds(in_tool=run.turn.in_tool)
        if run.prompt_id is None and not run.heard:
            seconds = min(seconds, CONTINUE_SECONDS)
        if run.stop is not None:
            seconds = min(REPEAT_SECONDS, max(0.0, run.stop_by - time.monotonic()))
        try:
            async with asyncio.timeout(seconds):
                return await self._inbox.get()
        except TimeoutError:
            return None

    def _events(self, run: _Run, item: Message | _Gone | _Nudge | None) -> list[SessionEvent]:
        """What is to be told about it."""
        if item is None or isinstance(item, _Nudge):
            is_stalled = run.stop is None and run.watch.is_stalled(in_tool=run.turn.in_tool)
            return [Stalled(seconds=run.watch.quiet_seconds())] if is_stalled else []
        if isinstance(item, _Gone):
            return []
        run.heard = True
        found = list(run.turn.events(item))
        pauses = [event.delay_seconds or 0.0 for event in found if isinstance(event, Retrying)]
        run.watch.hear(max(pauses, default=0.0))
        if self._is_opened:
            return [event for event in found if not isinstance(event, Opened)]
        self._is_opened = any(isinstance(event, Opened) for event in found)
        return found

    async def _verdict(self, run: _Run, item: Message | _Gone | _Nudge | None) -> Verdict | None:
        """How the run ended, None as long as it goes on."""
        match item:
            case ResultMessage():
                return None if self._is_stale(run, item) else self._judge_unless_more(run, item)
            case _Gone():
                return await self._death(run, item)
            case _Nudge() | None:
                return await self._look(run)
            case _:
                await self._fail_fast(run)
                return None

    async def _fail_fast(self, run: _Run) -> None:
        """End a run whose key is refused: the program would try ten times for three minutes.

        A login gets a second attempt, for which the program may have renewed it.
        """
        retry = run.turn.retry
        if run.stop is not None or retry is None or retry.status not in UNAUTHORIZED:
            return
        if retry.attempt > 1 or brings_key(self._spec.environment):
            await self._stop(run, failed("auth", f"HTTP {retry.status}: the model's API refuses the key or login"))

    async def _look(self, run: _Run) -> Verdict | None:
        """What time has brought: the end of a run that does not stop, that is silent, or that never begins."""
        if run.stop is not None:
            if time.monotonic() >= run.stop_by:
                self._is_busy = False
                await self.close()
                return run.stop
            await self._signal()
        elif run.waits_in_vain:
            return failed("process", "the conversation waits in no deferred call: there is nothing to continue")
        elif run.watch.is_over(in_tool=run.turn.in_tool):
            seconds = run.watch.quiet_seconds()
            await self._stop(run, failed("silence", f"nothing came from claude for {seconds:.0f} s"))
        return None

    async def _stop(self, run: _Run, verdict: Verdict) -> None:
        run.stop = verdict
        run.stop_by = time.monotonic() + STOP_SECONDS
        await self._signal()

    async def _signal(self) -> None:
        """Ask the program to stop; that it does not answer is its run's to notice."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CONTROL_SECONDS):
                await self._client.interrupt()

    def _is_stale(self, run: _Run, result: ResultMessage) -> bool:
        """Whether a result ends not this prompt but the deferred call that a resumed program began with."""
        own = (result.user_message_uuid, *(result.user_message_uuids or []))
        return run.follows_resume and run.stop is None and run.prompt_id not in (None, *own)

    def _judge_unless_more(self, run: _Run, result: ResultMessage) -> Verdict | None:
        """How the run ended; None while the program still has a prompt that came too late for its last tool.

        It then begins a turn of its own with it, which belongs to this run.
        """
        read = {result.user_message_uuid, *(result.user_message_uuids or [])} & run.handed
        run.steered += tuple(sorted(one for one in read if one is not None))
        verdict = self._judge(run, result)
        more = run.handed - set(run.steered)
        if more and verdict.outcome is Outcome.COMPLETE and run.stop is None:
            self._is_busy = True
            return None
        return verdict

    def _judge(self, run: _Run, result: ResultMessage) -> Verdict:
        self._is_busy = False
        run.result = result
        run.before = run.before or self._totals
        self._totals = totals_of(result, self._totals)
        run.used = share(run.before, self._totals, result, run.turn.usage)
        self._context_window_tokens = window_of(result) or self._context_window_tokens
        verdict = judge_result(result, run.turn.error, run.turn.told)
        if run.stop is not None and verdict.outcome in (Outcome.INTERRUPTED, Outcome.FAILED):
            return run.stop
        return verdict

    async def _death(self, run: _Run, gone: _Gone) -> Verdict:
        self._gone = gone
        await asyncio.sleep(LAST_WORDS_SECONDS)
        return run.stop or judge_death(gone.error, list(self._stderr))

    def _end(self, run: _Run, verdict: Verdict) -> Ended:
        text = "\n\n".join(run.turn.said)
        used, result = run.used or Share(None, run.turn.usage), run.result
        if result is not None and verdict.outcome is Outcome.COMPLETE:
            text = result.result or text
        return Ended(
            outcome=verdict.outcome,
            text=text,
            reason=verdict.reason,
            detail=detail_of(verdict, run.turn),
            hint=verdict.hint,
            usage=used.usage,
            cost_usd=self._cost_usd(run, used),
            session_cost_usd=self._totals.cost_usd,
            deferred=deferred_of(result),
            denied=denied_of(result, self._gate.denied),
            steered=run.steered,
            resets_at=reset_of(verdict, run.turn),
        )

    def _cost_usd(self, run: _Run, used: Share) -> float | None:
        """The program's figure, else the price table's for a run that it summed up, else unknown."""
        if used.cost_usd is not None or run.result is None:
            return used.cost_usd
        return run.turn.spend.cost_usd
