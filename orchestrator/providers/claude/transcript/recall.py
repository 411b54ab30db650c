"""Reads from a transcript how far a turn has come. Facts are of Claude Code 2.1.329, measured.

A prompt stands there as a `user` line with the uuid that it was sent under; an answer ends with `stop_reason`
`end_turn`; a failed call of the model is an `assistant` line with `isApiErrorMessage`; a deferred call is an
attachment `hook_deferred_tool`, open until a `tool_result` of the same id follows; a text that was handed in is an
attachment `queued_command` with its `source_uuid`. A line that a killed program was writing is cut.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from itertools import dropwhile
from typing import cast

from orchestrator.domain.tool import Json, ToolCall
from orchestrator.domain.transcript_state import TranscriptState, TranscriptStatus
from orchestrator.domain.usage import Usage
from orchestrator.providers.claude.usage import call_usage, plus_call

Entry = Mapping[str, object]
END = "end_turn"


def standing(lines: Iterable[str], prompts: Sequence[str]) -> TranscriptState:
    """Where the turn with these prompts stands in these lines of a transcript."""
    read = (entry for line in lines if (entry := _entry(line)) is not None)
    entries = list(dropwhile(lambda entry: entry.get("uuid") not in prompts, read))  # what was before can be long
    sent = [place for place, entry in enumerate(entries) if entry.get("uuid") in prompts]
    if not sent:
        return TranscriptState(stand=TranscriptStatus.ABSENT)
    own = entries[sent[0] :]
    told = TranscriptState(stand=TranscriptStatus.OPEN, usage=_usage(own), steered=_steered(own))
    latest = entries[sent[-1] :]
    if (deferred := _deferred(own)) is not None:
        return replace(told, stand=TranscriptStatus.DEFERRED, deferred=deferred)
    if (text := _answer(latest)) is not None:
        return replace(told, stand=TranscriptStatus.ANSWERED, text=text)
    return told


def _entry(line: str) -> Entry | None:
    try:
        found: object = json.loads(line)
    except (ValueError, RecursionError):  # cut, or nested to do harm
        return None
    return cast("Entry", found) if isinstance(found, dict) else None


def _message(entry: Entry) -> Mapping[str, object]:
    """The message of an entry of the main conversation; empty if it is none."""
    if entry.get("isSidechain") or entry.get("isApiErrorMessage"):
        return {}
    return _mapping(entry.get("message"))


def _mapping(value: object) -> Mapping[str, object]:
    """The value, if it is an object of JSON; else an empty one."""
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else {}


def _blocks(message: Mapping[str, object], kind: str) -> list[Mapping[str, object]]:
    content = message.get("content")
    blocks = cast("list[object]", content) if isinstance(content, list) else []
    return [block for each in blocks if (block := _mapping(each)).get("type") == kind]


def _answer(entries: Sequence[Entry]) -> str | None:
    """The final text, if the model has ended its answer and nobody has spoken since."""
    last: Mapping[str, object] = {}
    for entry in entries:
        if entry.get("type") in ("assistant", "user"):
            last = _message(entry)
    if last.get("stop_reason") != END:
        return None
    parts = [_message(entry) for entry in entries]
    same = [part for part in parts if part.get("id") == last.get("id")]
    texts = [str(block.get("text", "")) for part in same for block in _blocks(part, "text")]
    return "\n\n".join(text for text in texts if text.strip())


def _deferred(entries: Sequence[Entry]) -> ToolCall | None:
    waiting: ToolCall | None = None
    for entry in entries:
        told = _mapping(entry.get("attachment"))
        if told.get("type") == "hook_deferred_tool":
            name, given = str(told.get("toolName")), cast("Json", _mapping(told.get("toolInput")))
            waiting = ToolCall(id=str(told.get("toolUseID")), name=name, input=given)
        results = _blocks(_message(entry), "tool_result")
        if waiting is not None and any(result.get("tool_use_id") == waiting.id for result in results):
            waiting = None
    return waiting


def _steered(entries: Sequence[Entry]) -> tuple[str, ...]:
    told = [_mapping(entry.get("attachment")) for entry in entries]
    return tuple(str(one.get("source_uuid")) for one in told if one.get("type") == "queued_command")


def _usage(entries: Sequence[Entry]) -> Usage:
    """What the main conversation's calls used, each counted once though it has a line per block."""
    calls: dict[str, Usage] = {}
    for entry in entries:
        message = _message(entry)
        usage = message.get("usage")
        if entry.get("type") == "assistant" and isinstance(usage, dict):
            calls[str(message.get("id"))] = call_usage(cast("Mapping[str, object]", usage))
    return reduce(plus_call, calls.values(), Usage())
