"""The program's messages as session events, and what a run adds up to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from claude_agent_sdk import (
    AssistantMessage,
    Message,
    RateLimitEvent,
    SystemMessage,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)

from orchestrator.domain.event import Opened, Retrying, Said, SessionEvent, ToolEnded, ToolStarted, Used
from orchestrator.domain.tool import Json
from orchestrator.domain.usage import Usage
from orchestrator.providers.claude.gate import Gate
from orchestrator.providers.claude.running_cost import Spend
from orchestrator.providers.claude.usage import call_usage, plus_call

MAX_SUMMARY_CHARACTERS = 120
SUBAGENT_TOOLS = frozenset({"Agent", "Task"})
_TELLING = ("file_path", "notebook_path", "command", "pattern", "url", "query", "description", "skill", "subject")


class RunProgress:
    """What one run has said, used and left running so far."""

    def __init__(self, gate: Gate, context_window_tokens: int | None) -> None:
        self._gate = gate
        self._calls_seen: set[str] = set()
        self._running: dict[str, str] = {}
        self.said: list[str] = []
        self.usage = Usage(context_window_tokens=context_window_tokens)
        self.error: str | None = None
        self.told = ""
        self.retry: Retrying | None = None
        self.limit = ""
        self.resets_at: float | None = None
        self.spend = Spend()

    @property
    def in_tool(self) -> bool:
        """Whether a tool runs; a sub-agent is none, since its own calls are seen too."""
        return any(name not in SUBAGENT_TOOLS for name in self._running.values())

    def events(self, message: Message) -> Iterator[SessionEvent]:
        """What the message means."""
        match message:
            case SystemMessage(subtype="init", data=data):
                yield Opened(session_id=str(data.get("session_id", "")), model=_text(data.get("model")))
            case SystemMessage(subtype="api_retry", data=data):
                self.retry = _retrying(data)
                yield self.retry
            case AssistantMessage():
                yield from self._assistant(message)
            case UserMessage(content=list() as blocks):
                yield from (self._ended(block) for block in blocks if isinstance(block, ToolResultBlock))
            case RateLimitEvent(rate_limit_info=limit) if limit.status == "rejected":
                self.resets_at = None if limit.resets_at is None else float(limit.resets_at)
                self.limit = f"limit {limit.rate_limit_type or ''} resets at {limit.resets_at or 'an unknown time'}"
            case _:
                return

    def _assistant(self, message: AssistantMessage) -> Iterator[SessionEvent]:
        self.error = message.error
        if message.error is not None:
            self.told = "\n".join(block.text for block in message.content if isinstance(block, TextBlock))
            return
        yield from self._used(message)
        if message.usage and (spent := self.spend.add(message, call_usage(message.usage))) is not None:
            yield spent
        for block in message.content:
            match block:
                case TextBlock(text=text) if text.strip():
                    if message.parent_tool_use_id is None:
                        self.said.append(text)
                        yield Said(text=text)
                case ToolUseBlock(id=call_id, name=name, input=tool_input):
                    self._running[call_id] = name
                    yield ToolStarted(call_id=call_id, tool=name, summary=summary(tool_input), input=tool_input)
                case _:
                    continue

    def _used(self, message: AssistantMessage) -> Iterator[Used]:
        """Count a call of the model once: it comes as one message per block, all with the same id."""
        usage, key = message.usage, message.message_id
        if not usage or not key or key in self._calls_seen:
            return
        self._calls_seen.add(key)
        in_subagent = message.parent_tool_use_id is not None
        self.usage = plus_call(self.usage, call_usage(usage), in_subagent=in_subagent)
        yield Used(usage=self.usage, model=message.model)

    def _ended(self, block: ToolResultBlock) -> ToolEnded:
        name = self._running.pop(block.tool_use_id, "") or self._gate.name_of(block.tool_use_id)
        touched = self._gate.end(block.tool_use_id)
        return ToolEnded(
            call_id=block.tool_use_id,
            tool=name,
            ok=not block.is_error,
            summary=_line(_result_text(block)) if block.is_error else "",
            consumed=touched.consumed,
            produced=touched.produced,
        )


def summary(tool_input: Json) -> str:
    """One short line that tells a tool call from others: its file, command, pattern or address, else its input."""
    for name in _TELLING:
        value = tool_input.get(name)
        if isinstance(value, str) and value.strip():
            return _line(value)
    return _line(" ".join(f"{name}={value}" for name, value in tool_input.items()))


def _line(text: str) -> str:
    """The first words of a text as one line."""
    line = " ".join(text[: 4 * MAX_SUMMARY_CHARACTERS].split())
    return line if len(line) <= MAX_SUMMARY_CHARACTERS else f"{line[: MAX_SUMMARY_CHARACTERS - 1]}…"


def _result_text(block: ToolResultBlock) -> str:
    text = block.content or ""
    if isinstance(text, list):
        text = "\n".join(str(part.get("text", "")) for part in text)
    return text.removeprefix("<tool_use_error>").removesuffix("</tool_use_error>")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _retrying(data: Mapping[str, object]) -> Retrying:
    status, delay = data.get("error_status"), data.get("retry_delay_ms")
    return Retrying(
        attempt=cast("int", data.get("attempt") or 0),
        max_attempts=cast("int", data.get("max_retries") or 0),
        status=status if isinstance(status, int) else None,
        error=str(data.get("error") or "unknown"),
        delay_seconds=delay / 1000 if isinstance(delay, int | float) else None,
    )
