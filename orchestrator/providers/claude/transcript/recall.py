"""Reads from a transcript how far a turn has come.

Measured with Claude Code 2.1.329: a prompt is a `user` line with the uuid that it was sent with; an answer ends with
`stop_reason` `end_turn`; a failed model call is an `assistant` line with `isApiErrorMessage`; a deferred call is an
attachment `hook_deferred_tool`, open until a `tool_result` with the same id follows; a steered prompt is an attachment
`queued_command` with its `source_uuid`. The line that a killed program was writing is cut off.
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


def transcript_state(lines: Iterable[str], prompts: Sequence[str]) -> TranscriptState:
    """How far the turn with these prompts has come, according to these lines of a transcript."""
    parsed = (entry for line in lines if (entry := _entry(line)) is not None)
    entries = list(
        dropwhile(lambda entry: entry.get("uuid") not in prompts, parsed)
    )  # what precedes the turn can be long
    prompt_places = [place for place, entry in enumerate(entries) if entry.get("uuid") in prompts]
    if not prompt_places:
        return TranscriptState(status=TranscriptStatus.ABSENT)
    turn_entries = entries[prompt_places[0] :]
    found = TranscriptState(status=TranscriptStatus.OPEN, usage=_usage(turn_entries), steered=_steered(turn_entries))
    last_entries = entries[prompt_places[-1] :]
    if (deferred := _deferred(turn_entries)) is not None:
        return replace(found, status=TranscriptStatus.DEFERRED, deferred=deferred)
    if (text := _answer(last_entries)) is not None:
        return replace(found, status=TranscriptStatus.ANSWERED, text=text)
    return found


def _entry(line: str) -> Entry | None:
    try:
        found: object = json.loads(line)
    except (ValueError, RecursionError):  # cut off, or nested maliciously
        return None
    return cast("Entry", found) if isinstance(found, dict) else None


def _message(entry: Entry) -> Mapping[str, object]:
    """The message of an entry of the main conversation; empty for any other entry."""
    if entry.get("isSidechain") or entry.get("isApiErrorMessage"):
        return {}
    return _mapping(entry.get("message"))


def _mapping(value: object) -> Mapping[str, object]:
    """The value if it is a JSON object, else an empty one."""
    return cast("Mapping[str, object]", value) if isinstance(value, dict) else {}


def _blocks(message: Mapping[str, object], kind: str) -> list[Mapping[str, object]]:
    content = message.get("content")
    blocks = cast("list[object]", content) if isinstance(content, list) else []
    return [block for each in blocks if (block := _mapping(each)).get("type") == kind]


def _answer(entries: Sequence[Entry]) -> str | None:
    """The final text, if the model has finished its answer and nothing was said since."""
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
        found = _mapping(entry.get("attachment"))
        if found.get("type") == "hook_deferred_tool":
            name, tool_input = str(found.get("toolName")), cast("Json", _mapping(found.get("toolInput")))
            waiting = ToolCall(id=str(found.get("toolUseID")), name=name, input=tool_input)
        results = _blocks(_message(entry), "tool_result")
        if waiting is not None and any(result.get("tool_use_id") == waiting.id for result in results):
            waiting = None
    return waiting


def _steered(entries: Sequence[Entry]) -> tuple[str, ...]:
    """The ids of all texts that came after the first prompt: those read at a tool, and those that began a run."""
    attached = [_mapping(entry.get("attachment")) for entry in entries]
    taken = [str(one.get("source_uuid")) for one in attached if one.get("type") == "queued_command"]
    begun = [
        str(one.get("uuid")) for one in entries[1:] if isinstance(_message(one).get("content"), str) and _is_user(one)
    ]
    return tuple(taken + begun)


def _is_user(entry: Entry) -> bool:
    return entry.get("type") == "user" and not entry.get("isMeta")


def _usage(entries: Sequence[Entry]) -> Usage:
    """What the main conversation's model calls used; each is counted once, although it has one line per block."""
    calls: dict[str, Usage] = {}
    for entry in entries:
        message = _message(entry)
        usage = message.get("usage")
        if entry.get("type") == "assistant" and isinstance(usage, dict):
            calls[str(message.get("id"))] = call_usage(cast("Mapping[str, object]", usage))
    return reduce(plus_call, calls.values(), Usage())
