"""One open conversation with the `claude` program: its runs, interrupts, steers and end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from claude_agent_sdk import AssistantMessage, ClaudeSDKClient, ClaudeSDKError, Message, ResultMessage

from orchestrator.domain.duration import format_age
from orchestrator.domain.event import Ended, Opened, Retrying, SessionEvent, SessionOutcome, Stalled
from orchestrator.providers.base import Prompt, SessionSpec
from orchestrator.providers.claude.gate import Gate
from orchestrator.providers.claude.messages import RunProgress
from orchestrator.providers.claude.outcome import (
    UNAUTHORIZED,
    RunOutcome,
    deferred_of,
    denied_of,
    detail_of,
    failed,
    interrupted,
    judge_exit,
    judge_result,
    reset_of,
)
from orchestrator.providers.claude.program import has_credentials
from orchestrator.providers.claude.totals import RunTotals, SessionTotals, context_window_of, run_totals, totals_of
from orchestrator.providers.watchdog import SilenceLimits, Watchdog

QUEUED_MESSAGES = 100
STOP_SECONDS = 5.0
"""How long an interrupted run may take to end by itself, before its processes are ended."""
INTERRUPT_AGAIN_SECONDS = 0.5
"""An interrupt that arrives before the prompt was read has no effect (measured), so it is repeated this often."""
CONTROL_SECONDS = 1.0
SEND_SECONDS = 60.0
CONTINUE_SECONDS = 30.0
STDERR_SECONDS = 0.1
DOUBTFUL = (
    "claude's output said that the turn was over while one of its tools still ran, which claude itself never does: "
    "something that the agent started may have written it"
)


@dataclass(frozen=True)
class _StreamEnd:
    """The program's message stream has ended; `error` is what the SDK raised, if anything."""

    error: Exception | None


class _WakeUp:
    """Makes the run check its state although no message arrived."""


@dataclass
class _ActiveRun:
    """The state of the run that is in progress."""

    progress: RunProgress
    watchdog: Watchdog
    prompt_id: str | None
    follows_resume: bool
    stop_outcome: RunOutcome | None = None
    stop_deadline: float = 0.0
    has_messages: bool = False
    result: ResultMessage | None = None
    usage: RunTotals | None = None
    totals_before: SessionTotals | None = None
    steers_sent: set[str] = field(default_factory=set[str])
    """ids of the prompts that were added while the run was in progress"""
    steered: tuple[str, ...] = ()
    """those of them that the model has read"""
    started_at: float = field(default_factory=time.monotonic)

    @property
    def cannot_continue(self) -> bool:
        """Whether a run without a prompt has shown no sign of a deferred call to continue."""
        return (
            self.prompt_id is None and not self.has_messages and time.monotonic() - self.started_at > CONTINUE_SECONDS
        )


class ClaudeSession:
    """A session on a running `claude` program; one task drives it, others may `interrupt` and `steer`."""

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
        self._messages: asyncio.Queue[Message | _StreamEnd | _WakeUp] = asyncio.Queue(QUEUED_MESSAGES)
        self._reader = asyncio.create_task(self._read_messages())
        self._run: _ActiveRun | None = None
        self._closing: asyncio.Task[None] | None = None
        self._stream_end: _StreamEnd | None = None
        self._is_opened = False
        self._is_busy = False
        self._may_continue = spec.resume
        self._totals = totals
        self._context_window_tokens: int | None = None

    async def run(self, prompt: Prompt | None) -> AsyncIterator[SessionEvent]:
        """Run the prompt and yield its events; the last is the only `Ended`."""
        run = _ActiveRun(
            progress=RunProgress(self._gate, self._context_window_tokens),
            watchdog=Watchdog(self._limits),
            prompt_id=prompt and prompt.id,
            follows_resume=self._may_continue,
        )
        if prompt is not None:
            self._gate.begin_run()
        self._run = run
        try:
            outcome = await self._start_run(prompt)
            while outcome is None:
                item = await self._next_message(run)
                for event in self._events(run, item):
                    yield event
                outcome = await self._outcome(run, item)
            yield self._ended_event(run, outcome)
        finally:
            self._run = None

    async def interrupt(self) -> None:
        """Ask the run to end soon; does nothing if no run is active."""
        if self._run is not None and self._run.stop_outcome is None:
            await self._stop(self._run, interrupted())
            if not self._messages.full():
                self._messages.put_nowait(_WakeUp())

    async def steer(self, prompt: Prompt) -> bool:
        """Add the prompt to the active run; False if that is not possible now.

        While a tool runs, the program shows the prompt to the model after that tool. Between tools it would become a
        separate turn (both measured), and with a deferred call it would end the wait.
        """
        run = self._run
        if (
            run is None
            or run.stop_outcome is not None
            or not run.progress.in_tool
            or self._gate.has_deferred
            or self._closing is not None
        ):
            return False
        run.steers_sent.add(prompt.id)
        self._gate.on_steer()
        try:
            await self._send(prompt)
        except (ClaudeSDKError, TimeoutError):
            run.steers_sent.discard(prompt.id)
            return False
        return True

    async def close(self) -> None:
        """End the session's processes, whatever their state; never raises."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._is_busy and self._stream_end is None:
            await self._interrupt_program()
        self._reader.cancel()
        await asyncio.wait({self._reader})
        with contextlib.suppress(Exception):  # closing must not fail; the shim ends what remains
            await self._client.disconnect()

    async def _read_messages(self) -> None:
        """Move the program's messages into the queue, because a wait on the SDK itself cannot be cancelled safely."""
        error: Exception | None = None
        try:
            async for message in self._client.receive_messages():
                if isinstance(message, AssistantMessage):
                    self._gate.on_model_message(message.message_id)
                await self._messages.put(message)
        except Exception as caught:  # noqa: BLE001 - the SDK re-raises whatever ended the program
            error = caught
        await self._messages.put(_StreamEnd(error))

    async def _start_run(self, prompt: Prompt | None) -> RunOutcome | None:
        """Send the prompt; return an outcome only if the run cannot start."""
        if self._closing is not None:
            return failed("process", "the session is closed")
        if self._stream_end is not None:
            return judge_exit(self._stream_end.error, list(self._stderr))
        self._is_busy = True
        may_continue, self._may_continue = self._may_continue, False
        if prompt is None:
            if may_continue:
                return None
            return failed("process", "nothing to continue: only a new session can continue a deferred call")
        with contextlib.suppress(ClaudeSDKError, TimeoutError):  # the queue delivers the reason for the failure
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

    async def _next_message(self, run: _ActiveRun) -> Message | _StreamEnd | _WakeUp | None:
        """The next message; None when it is time to check the limits."""
        seconds = run.watchdog.wait_seconds(in_tool=run.progress.in_tool)
        if run.prompt_id is None and not run.has_messages:
            seconds = min(seconds, CONTINUE_SECONDS)
        if run.stop_outcome is not None:
            seconds = min(INTERRUPT_AGAIN_SECONDS, max(0.0, run.stop_deadline - time.monotonic()))
        try:
            async with asyncio.timeout(seconds):
                return await self._messages.get()
        except TimeoutError:
            return None

    def _events(self, run: _ActiveRun, item: Message | _StreamEnd | _WakeUp | None) -> list[SessionEvent]:
        """The session events that follow from the message or from the silence."""
        if item is None or isinstance(item, _WakeUp):
            is_newly_stalled = run.stop_outcome is None and run.watchdog.is_newly_stalled(in_tool=run.progress.in_tool)
            return [Stalled(seconds=run.watchdog.silent_seconds())] if is_newly_stalled else []
        if isinstance(item, _StreamEnd):
            return []
        run.has_messages = True
        found = list(run.progress.events(item))
        pauses = [event.delay_seconds or 0.0 for event in found if isinstance(event, Retrying)]
        run.watchdog.reset(max(pauses, default=0.0))
        if self._is_opened:
            return [event for event in found if not isinstance(event, Opened)]
        self._is_opened = any(isinstance(event, Opened) for event in found)
        return found

    async def _outcome(self, run: _ActiveRun, item: Message | _StreamEnd | _WakeUp | None) -> RunOutcome | None:
        """How the run ended; None while it continues."""
        match item:
            case ResultMessage():
                return None if self._is_stale(run, item) else self._judge_unless_pending(run, item)
            case _StreamEnd():
                return await self._judge_stream_end(run, item)
            case _WakeUp() | None:
                return await self._check_limits(run)
            case _:
                await self._fail_fast(run)
                return None

    async def _fail_fast(self, run: _ActiveRun) -> None:
        """Stop a run whose key is refused: the program would retry ten times within three minutes.

        A login gets a second attempt, because the program may have renewed it.
        """
        retry = run.progress.retry
        if run.stop_outcome is not None or retry is None or retry.status not in UNAUTHORIZED:
            return
        if retry.attempt > 1 or has_credentials(self._spec.environment):
            await self._stop(run, failed("auth", f"HTTP {retry.status}: the model's API refuses the key or login"))

    async def _check_limits(self, run: _ActiveRun) -> RunOutcome | None:
        """End a run that does not stop, stays silent, or has nothing to continue; None if it may continue."""
        if run.stop_outcome is not None:
            if time.monotonic() >= run.stop_deadline:
                self._is_busy = False
                await self.close()
                return run.stop_outcome
            await self._interrupt_program()
        elif run.cannot_continue:
            return failed("process", "nothing to continue: the conversation has no deferred call")
        elif run.watchdog.has_expired(in_tool=run.progress.in_tool):
            seconds = run.watchdog.silent_seconds()
            await self._stop(run, failed("silence", f"nothing came from claude for {format_age(seconds)}"))
        return None

    async def _stop(self, run: _ActiveRun, outcome: RunOutcome) -> None:
        run.stop_outcome = outcome
        run.stop_deadline = time.monotonic() + STOP_SECONDS
        await self._interrupt_program()

    async def _interrupt_program(self) -> None:
        """Ask the program to stop; if it does not answer, the run's deadline ends it."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CONTROL_SECONDS):
                await self._client.interrupt()

    def _is_stale(self, run: _ActiveRun, result: ResultMessage) -> bool:
        """Whether the result belongs not to this prompt but to the deferred call that a resumed program began with."""
        own = (result.user_message_uuid, *(result.user_message_uuids or []))
        return run.follows_resume and run.stop_outcome is None and run.prompt_id not in (None, *own)

    def _judge_unless_pending(self, run: _ActiveRun, result: ResultMessage) -> RunOutcome | None:
        """How the run ended; None if a steered prompt came too late for the last tool.

        The program then starts another turn of its own with that prompt, which belongs to this run.
        """
        read = {result.user_message_uuid, *(result.user_message_uuids or [])} & run.steers_sent
        run.steered += tuple(sorted(one for one in read if one is not None))
        outcome = self._judge(run, result)
        pending = run.steers_sent - set(run.steered)
        if pending and outcome.kind is SessionOutcome.COMPLETE and run.stop_outcome is None:
            self._is_busy = True
            return None
        return outcome

    def _judge(self, run: _ActiveRun, result: ResultMessage) -> RunOutcome:
        self._is_busy = False
        run.result = result
        run.totals_before = run.totals_before or self._totals
        self._totals = totals_of(result, self._totals)
        run.usage = run_totals(run.totals_before, self._totals, result, run.progress.usage)
        self._context_window_tokens = context_window_of(result) or self._context_window_tokens
        outcome = judge_result(result, run.progress.error, run.progress.error_text)
        if outcome.kind is SessionOutcome.COMPLETE and run.progress.in_tool and run.stop_outcome is None:
            run.result, run.usage = None, None  # nor are its figures to be trusted
            return failed("process", DOUBTFUL)
        if run.stop_outcome is not None and outcome.kind in (SessionOutcome.INTERRUPTED, SessionOutcome.FAILED):
            return run.stop_outcome
        return outcome

    async def _judge_stream_end(self, run: _ActiveRun, stream_end: _StreamEnd) -> RunOutcome:
        self._stream_end = stream_end
        await asyncio.sleep(STDERR_SECONDS)
        return run.stop_outcome or judge_exit(stream_end.error, list(self._stderr))

    def _ended_event(self, run: _ActiveRun, outcome: RunOutcome) -> Ended:
        text = "\n\n".join(run.progress.texts)
        usage, result = run.usage or RunTotals(None, run.progress.usage), run.result
        if result is not None and outcome.kind is SessionOutcome.COMPLETE:
            text = result.result or text
        return Ended(
            outcome=outcome.kind,
            text=text,
            reason=outcome.reason,
            detail=detail_of(outcome, run.progress),
            hint=outcome.hint,
            usage=usage.usage,
            cost_usd=self._cost_usd(run, usage),
            session_cost_usd=self._totals.cost_usd,
            deferred=deferred_of(result),
            denied=denied_of(result, self._gate.denied),
            steered=run.steered,
            resets_at=reset_of(outcome, run.progress),
        )

    def _cost_usd(self, run: _ActiveRun, usage: RunTotals) -> float | None:
        """The program's figure; without one, the price table's, if the program ended the run itself; else None."""
        if usage.cost_usd is not None or run.result is None:
            return usage.cost_usd
        return run.progress.running_cost.cost_usd
