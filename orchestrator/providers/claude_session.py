"""One conversation with the real `claude` program, from its start to the end of its processes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import cast

from claude_agent_sdk import ClaudeSDKClient, ClaudeSDKError, Message, ResultMessage

from orchestrator.domain.event import Ended, Opened, Outcome, Retrying, SessionEvent, Stalled
from orchestrator.domain.tool import ToolCall
from orchestrator.domain.usage import Usage
from orchestrator.errors import ProviderError
from orchestrator.providers.base import Prompt, SessionSpec
from orchestrator.providers.claude_ends import (
    STDERR_LINES,
    UNAUTHORIZED,
    Verdict,
    failed,
    interrupted,
    judge_death,
    judge_result,
)
from orchestrator.providers.claude_hooks import Gate
from orchestrator.providers.claude_messages import Turn, counted
from orchestrator.providers.claude_options import Program, brings_key, session_options
from orchestrator.providers.silence import Limits, Watch

INBOX_MESSAGES = 100
STOP_SECONDS = 5.0
"""How long an interrupted run may take to end by itself; then its processes are ended."""
REPEAT_SECONDS = 0.5
"""An interrupt that came before its prompt was read has no effect (measured), so it is repeated."""
CONTROL_SECONDS = 1.0
SEND_SECONDS = 60.0
CONTINUE_SECONDS = 30.0
LAST_WORDS_SECONDS = 0.1
UNKNOWN_MODEL = "[claude-code:unrecognized_model]"


@dataclass(frozen=True)
class _Gone:
    """The program says no more; `error` is what the SDK saw of its end."""

    error: Exception | None


class _Nudge:
    """Something changed for the run: look again."""


@dataclass
class _Run:
    """The run under way."""

    turn: Turn
    watch: Watch
    prompt_id: str | None
    stop: Verdict | None = None
    stop_by: float = 0.0
    heard: bool = False
    began: float = field(default_factory=time.monotonic)

    @property
    def waits_in_vain(self) -> bool:
        """Whether a continued run shows no sign that anything was deferred."""
        return self.prompt_id is None and not self.heard and time.monotonic() - self.began > CONTINUE_SECONDS


async def open_session(spec: SessionSpec, program: Program, limits: Limits) -> ClaudeSession:
    """Start the program and return its session.

    Raises:
        ProviderError: it does not start; with its own words.
    """
    stderr: deque[str] = deque(maxlen=STDERR_LINES * 5)
    gate = Gate(spec.decide, spec.cwd)
    try:
        client = ClaudeSDKClient(session_options(spec, program, gate, stderr.append))
        await client.connect()
    except (ClaudeSDKError, OSError) as error:
        raise _cannot_start(error, stderr) from error
    except ProviderError:
        raise
    except Exception as error:  # the SDK raises plain Exception when initialize fails or takes over 60 s
        raise _cannot_start(error, stderr) from error
    return ClaudeSession(client, spec, gate, stderr, limits)


def _cannot_start(error: Exception, stderr: deque[str]) -> ProviderError:
    words = "\n".join(list(stderr)[-STDERR_LINES:])
    return ProviderError(
        f"claude does not start: {words or error}"[:2_000],
        hint="`claude --version` and `fleet doctor` tell more; the path is CLAUDE_CODE_PATH or the bundled one",
    )


class ClaudeSession:
    """A live program and the one task that drives it."""

    def __init__(
        self, client: ClaudeSDKClient, spec: SessionSpec, gate: Gate, stderr: deque[str], limits: Limits
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
        self._cost_usd = spec.session_cost_usd if spec.resume else 0.0
        self._context_window_tokens: int | None = None

    async def run(self, prompt: Prompt | None) -> AsyncIterator[SessionEvent]:
        """Yield what happens, ending with exactly one `Ended`."""
        run = _Run(Turn(self._gate, self._context_window_tokens), Watch(self._limits), prompt and prompt.id)
        self._gate.begin()
        self._run = run
        try:
            verdict = await self._begin(prompt)
            while verdict is None:
                item = await self._next(run)
                if isinstance(item, ResultMessage):
                    if not self._is_stale(run, item):
                        yield self._result(run, item)
                        return
                elif isinstance(item, _Gone):
                    verdict = await self._death(run, item)
                elif item is None or isinstance(item, _Nudge):
                    if run.watch.is_stalled(in_tool=run.turn.in_tool) and run.stop is None:
                        yield Stalled(seconds=run.watch.quiet_seconds())
                    verdict = await self._look(run)
                else:
                    for event in self._events(run, item):
                        yield event
                    await self._fail_fast(run)
            yield self._end(run, verdict)
        finally:
            self._run = None

    async def interrupt(self) -> None:
        """Ask the run to end soon; harmless when nothing runs."""
        if self._run is not None and self._run.stop is None:
            await self._stop(self._run, interrupted())
            if not self._inbox.full():
                self._inbox.put_nowait(_Nudge())

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
        message: dict[str, object] = {
            "type": "user",
            "uuid": prompt.id,
            "message": {"role": "user", "content": prompt.text},
            "parent_tool_use_id": None,
        }

        async def messages() -> AsyncIterator[dict[str, object]]:
            yield message

        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._client.query(messages())
        except (ClaudeSDKError, TimeoutError):
            return None  # why it does not listen arrives in the inbox, or the silence is noticed
        return None

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

    def _events(self, run: _Run, message: Message) -> list[SessionEvent]:
        run.heard = True
        found: list[SessionEvent] = []
        pause_seconds = 0.0
        for event in run.turn.events(message):
            if isinstance(event, Retrying):
                pause_seconds = event.delay_seconds or 0.0
            if isinstance(event, Opened):
                if self._is_opened:
                    continue
                self._is_opened = True
            found.append(event)
        run.watch.hear(pause_seconds)
        return found

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
        """Whether a result belongs to something before this prompt: a deferred call that was asked for at the start."""
        return run.prompt_id is not None and result.deferred_tool_use is not None and result.user_message_uuid is None

    def _result(self, run: _Run, result: ResultMessage) -> Ended:
        self._is_busy = False
        verdict = judge_result(result, run.turn.error, run.turn.told)
        if run.stop is not None and verdict.outcome in (Outcome.INTERRUPTED, Outcome.FAILED):
            verdict = run.stop
        windows = [usage["contextWindow"] for usage in (result.model_usage or {}).values()]
        self._context_window_tokens = max(windows, default=None) or self._context_window_tokens
        return self._end(run, verdict, result)

    async def _death(self, run: _Run, gone: _Gone) -> Verdict:
        self._gone = gone
        await asyncio.sleep(LAST_WORDS_SECONDS)
        return run.stop or judge_death(gone.error, list(self._stderr))

    def _end(self, run: _Run, verdict: Verdict, result: ResultMessage | None = None) -> Ended:
        text = "\n\n".join(run.turn.said)
        usage = run.turn.usage
        if result is not None:
            text = result.result or text if verdict.outcome is Outcome.COMPLETE else text
            usage = _exact(usage, result, self._context_window_tokens)
        return Ended(
            outcome=verdict.outcome,
            text=text,
            reason=verdict.reason,
            detail=_detail(verdict, run.turn),
            hint=verdict.hint,
            usage=usage,
            cost_usd=self._cost(result),
            session_cost_usd=self._cost_usd,
            deferred=_deferred(result),
            denied=_denied(result, self._gate.denied),
        )

    def _cost(self, result: ResultMessage | None) -> float | None:
        """The run's own cost; None if the program does not know the model's price, or died before it said."""
        total, before = None if result is None else result.total_cost_usd, self._cost_usd
        if total is None or any(UNKNOWN_MODEL in line for line in self._stderr):
            return None
        self._cost_usd = total
        return None if before is None or total < before else total - before


def _exact(usage: Usage, result: ResultMessage, window: int | None) -> Usage:
    """The program's own sum of the run, where it gives one: single messages carry no final output figure."""
    exact = counted(result.usage or {})
    if not exact.total_tokens:
        return replace(usage, context_window_tokens=window)
    return replace(
        exact, context_tokens=usage.context_tokens, context_window_tokens=window, model_calls=usage.model_calls
    )


def _detail(verdict: Verdict, turn: Turn) -> str:
    """The verdict's sentence, and for a quota when it ends as far as that is known."""
    if verdict.reason != "quota":
        return verdict.detail
    parts = [verdict.detail, turn.limit]
    if turn.retry is not None and turn.retry.delay_seconds is not None:
        parts.append(f"last told to retry after {turn.retry.delay_seconds:.0f} s")
    return "; ".join(part for part in parts if part)


def _deferred(result: ResultMessage | None) -> ToolCall | None:
    deferred = None if result is None else result.deferred_tool_use
    return None if deferred is None else ToolCall(id=deferred.id, name=deferred.name, input=deferred.input)


def _denied(result: ResultMessage | None, by_gate: AbstractSet[str]) -> tuple[str, ...]:
    """Calls that the program refused though the gate had not, by tool name."""
    denials = cast("list[Mapping[str, object]]", (result.permission_denials if result else None) or [])
    return tuple(str(denial.get("tool_name", "?")) for denial in denials if denial.get("tool_use_id") not in by_gate)
