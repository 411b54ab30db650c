"""Translates the program's messages into session events, and adds up what a run has said and used."""

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
from orchestrator.providers.claude.running_cost import RunningCost
from orchestrator.providers.claude.usage import call_usage, plus_call

MAX_SUMMARY_CHARACTERS = 120
SUBAGENT_TOOLS = frozenset({"Agent", "Task"})
_SUMMARY_FIELDS = (
    "file_path",
    "notebook_path",
    "command",
    "pattern",
    "url",
    "query",
    "description",
    "skill",
    "subject",
)


class RunProgress:
    """What one run has said and used so far, and which tools are running."""

    def __init__(self, gate: Gate, context_window_tokens: int | None) -> None:
        self._gate = gate
        self._calls_seen: set[str] = set()
        self._running: dict[str, str] = {}
        self.texts: list[str] = []
        self.usage = Usage(context_window_tokens=context_window_tokens)
        self.error: str | None = None
        self.error_text = ""
        self.retry: Retrying | None = None
        self.limit_text = ""
        self.resets_at: float | None = None
        self.running_cost = RunningCost()

    @property
    def in_tool(self) -> bool:
        """Whether a tool is running; a sub-agent does not count, because its own calls are seen too."""
        return any(name not in SUBAGENT_TOOLS for name in self._running.values())

    def events(self, message: Message) -> Iterator[SessionEvent]:
        """The session events that the message translates to."""
        match message:
            case SystemMessage(subtype="init", data=data):
                yield Opened(session_id=str(data.get("session_id", "")), model=_text_or_none(data.get("model")))
            case SystemMessage(subtype="api_retry", data=data):
                self.retry = _retrying(data)
                yield self.retry
            case AssistantMessage():
                yield from self._assistant(message)
            case UserMessage(content=list() as blocks):
                yield from (self._ended(block) for block in blocks if isinstance(block, ToolResultBlock))
            case RateLimitEvent(rate_limit_info=limit) if limit.status == "rejected":
                self.resets_at = None if limit.resets_at is None else float(limit.resets_at)
                resets_at = limit.resets_at or "an unknown time"
                self.limit_text = f"limit {limit.rate_limit_type or ''} resets at {resets_at}"
            case _:
                return

    def _assistant(self, message: AssistantMessage) -> Iterator[SessionEvent]:
        self.error = message.error
        if message.error is not None:
            self.error_text = "\n".join(block.text for block in message.content if isinstance(block, TextBlock))
            return
        yield from self._used(message)
        if message.usage and (estimate := self.running_cost.add(message, call_usage(message.usage))) is not None:
            yield estimate
        for block in message.content:
            match block:
                case TextBlock(text=text) if text.strip():
                    if message.parent_tool_use_id is None:
                        self.texts.append(text)
                        yield Said(text=text)
                case ToolUseBlock(id=call_id, name=name, input=tool_input):
                    self._running[call_id] = name
                    yield ToolStarted(call_id=call_id, tool=name, summary=summary(tool_input), input=tool_input)
                case _:
                    continue

    def _used(self, message: AssistantMessage) -> Iterator[Used]:
        """Count each model call once, although it arrives as one message per block, all with the same id."""
        usage, key = message.usage, message.message_id
        if not usage or not key or key in self._calls_seen:
            return
        self._calls_seen.add(key)
        in_subagent = message.parent_tool_use_id is not None
        self.usage = plus_call(self.usage, call_usage(usage), in_subagent=in_subagent)
        yield Used(usage=self.usage, model=message.model)

    def _ended(self, block: ToolResultBlock) -> ToolEnded:
        name = self._running.pop(block.tool_use_id, "") or self._gate.name_of(block.tool_use_id)
        files = self._gate.finish_call(block.tool_use_id)
        return ToolEnded(
            call_id=block.tool_use_id,
            tool=name,
            ok=not block.is_error,
            summary=_one_line(_result_text(block)) if block.is_error else "",
            consumed=files.consumed,
            produced=files.produced,
        )


def summary(tool_input: Json) -> str:
    """One short line that identifies a tool call: its file, command, pattern or address, else all of its input."""
    for name in _SUMMARY_FIELDS:
        value = tool_input.get(name)
        if isinstance(value, str) and value.strip():
            return _one_line(value)
    return _one_line(" ".join(f"{name}={value}" for name, value in tool_input.items()))


def _one_line(text: str) -> str:
    """The text as one line, cut to the length of a summary."""
    line = " ".join(text[: 4 * MAX_SUMMARY_CHARACTERS].split())
    return line if len(line) <= MAX_SUMMARY_CHARACTERS else f"{line[: MAX_SUMMARY_CHARACTERS - 1]}…"


def _result_text(block: ToolResultBlock) -> str:
    text = block.content or ""
    if isinstance(text, list):
        text = "\n".join(str(part.get("text", "")) for part in text)
    return text.removeprefix("<tool_use_error>").removesuffix("</tool_use_error>")


def _text_or_none(value: object) -> str | None:
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
