"""The one gate before every tool call, and the record of the files that tools touched.

Facts about the program are of Claude Code 2.1.329, measured: a hook that raises lets the tool run unless it blocks on
failure; of two calls deferred in one message only the last survives; in a sub-agent a deferred call is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from claude_agent_sdk import (
    HookCallback,
    HookContext,
    HookInput,
    HookJSONOutput,
    HookMatcher,
    PermissionResultAllow,
    PermissionResultDeny,
    ToolPermissionContext,
)
from claude_agent_sdk.types import HookEvent

from orchestrator.domain.tool import Allow, Decide, Defer, Deny, Json, ToolCall, Verdict

GATE_SECONDS = 600.0
FILE_TOOLS = "Read|Write|Edit|NotebookEdit|Grep|Glob"
MAX_FOUND_FILES = 50
ONE_AT_A_TIME = "one question at a time: ask again after this answer (a permission is a question, too)"
READ_FIRST = "a new message for you comes first: read it, then call this again if it still fits"
NOT_IN_A_SUBAGENT = "a sub-agent cannot wait for an answer: end, and report the question as your result"


@dataclass(frozen=True)
class Touched:
    """The files that one tool call read and wrote, as absolute paths."""

    consumed: tuple[str, ...] = ()
    produced: tuple[str, ...] = ()


class Gate:
    """Asks `decide` once per tool call of a session, and remembers what each call was and touched."""

    def __init__(self, decide: Decide) -> None:
        self._decide = decide
        self._verdicts: dict[str, Verdict] = {}
        self._touched: dict[str, Touched] = {}
        self._names: dict[str, str] = {}
        self._deferred: str | None = None
        self._message: str | None = None
        self._unread_since: str | None = None
        self.denied: set[str] = set()

    def begin(self) -> None:
        """A new run starts: one call may be deferred again."""
        self._deferred = self._unread_since = None
        self.denied = set()

    def heard(self, message_id: str | None) -> None:
        """The model has spoken: with a new message it has read what was handed in before."""
        self._message = message_id
        if self._unread_since != message_id:
            self._unread_since = None

    def handed_in(self) -> None:
        """A prompt was handed into the run: nothing is deferred before the model has read it."""
        self._unread_since = self._message or ""

    @property
    def defers(self) -> bool:
        """Whether a call of this run waits for its answer."""
        return self._deferred is not None

    def name_of(self, call_id: str) -> str:
        """The tool of a call that was asked for; '' if it never was."""
        return self._names.get(call_id, "")

    def end(self, call_id: str) -> Touched:
        """Forget a call that is over, and return what it touched."""
        self._verdicts.pop(call_id, None)
        self._names.pop(call_id, None)
        return self._touched.pop(call_id, Touched())

    def hooks(self) -> dict[HookEvent, list[HookMatcher]]:
        """The hooks that the session is started with."""
        before = cast("HookCallback", self._before)
        after = cast("HookCallback", self._after)
        return {
            "PreToolUse": [HookMatcher(hooks=[before], timeout=GATE_SECONDS, on_failure="block")],
            "PostToolUse": [HookMatcher(matcher=FILE_TOOLS, hooks=[after])],
        }

    async def can_use_tool(
        self, name: str, tool_input: Mapping[str, object], context: ToolPermissionContext
    ) -> PermissionResultAllow | PermissionResultDeny:
        """The same verdict for what the program asks besides the hook (writes to `.claude/` and `.git/`)."""
        call = ToolCall(
            id=context.tool_use_id or "", name=name, input=tool_input, in_subagent=context.agent_id is not None
        )
        match await self._verdict(call):
            case Allow():
                return PermissionResultAllow()
            case Deny(reason):
                return PermissionResultDeny(message=reason)
            case Defer():
                return PermissionResultDeny(message=ONE_AT_A_TIME)

    async def _before(self, hook: HookInput, _call_id: str | None, _context: HookContext) -> HookJSONOutput:
        given = cast("Mapping[str, object]", hook)
        call = ToolCall(
            id=str(given["tool_use_id"]),
            name=str(given["tool_name"]),
            input=cast("Json", given["tool_input"]),
            in_subagent=bool(given.get("agent_id")),
        )
        match await self._verdict(call):
            case Allow():
                return _decision("allow", "Fleet allows it")
            case Deny(reason):
                return _decision("deny", reason)
            case Defer():
                return _decision("defer", "waiting for an answer")

    async def _verdict(self, call: ToolCall) -> Verdict:
        self._names[call.id] = call.name
        if call.id and call.id in self._verdicts:
            return self._verdicts[call.id]
        verdict = self._possible(call, await self._decide(call))
        self._verdicts[call.id] = verdict
        if not isinstance(verdict, Allow):
            self.denied.add(call.id)
        return verdict

    def _possible(self, call: ToolCall, verdict: Verdict) -> Verdict:
        """What of the verdict the program can keep."""
        if not isinstance(verdict, Defer):
            return verdict
        if call.in_subagent:
            return Deny(NOT_IN_A_SUBAGENT)
        if self._deferred not in (None, call.id):
            return Deny(ONE_AT_A_TIME)
        if self._unread_since is not None:
            return Deny(READ_FIRST)
        self._deferred = call.id
        return verdict

    async def _after(self, hook: HookInput, _call_id: str | None, _context: HookContext) -> HookJSONOutput:
        given = cast("Mapping[str, object]", hook)
        self._touched[str(given["tool_use_id"])] = touched(
            str(given["tool_name"]),
            cast("Json", given["tool_input"]),
            given.get("tool_response"),
            Path(str(given["cwd"])),
        )
        return {}


def _decision(decision: str, reason: str) -> HookJSONOutput:
    return cast(
        "HookJSONOutput",
        {
            "hookSpecificOutput": {
                "hookEventName": "PreToolUse",
                "permissionDecision": decision,
                "permissionDecisionReason": reason,
            }
        },
    )


def touched(tool: str, tool_input: Json, response: object, cwd: Path) -> Touched:
    """The files of one finished call; a search consumed the files that its result names, at most 50."""
    match tool:
        case "Read":
            return Touched(consumed=_absolute([tool_input.get("file_path")], cwd))
        case "Write" | "Edit" | "NotebookEdit":
            return Touched(produced=_absolute([tool_input.get("file_path") or tool_input.get("notebook_path")], cwd))
        case "Grep" | "Glob":
            return Touched(consumed=_absolute(_found(response, tool_input, cwd), cwd))
        case _:
            return Touched()


def _found(response: object, tool_input: Json, cwd: Path) -> Sequence[object]:
    """The files that a search names: as a list, else before the first colon of its lines."""
    told = cast("dict[str, object]", response if isinstance(response, dict) else {})
    names = told.get("filenames")
    if isinstance(names, list) and names:
        return cast("list[object]", names)[:MAX_FOUND_FILES]
    content = told.get("content")
    if not isinstance(content, str) or not content:
        return []
    place = tool_input.get("path")
    if isinstance(place, str) and (cwd / place).is_file():
        return [place]
    heads = dict.fromkeys(line.partition(":")[0] for line in content.splitlines())
    return [head for head in list(heads)[:MAX_FOUND_FILES] if head and (cwd / head).is_file()]


def _absolute(paths: Sequence[object], cwd: Path) -> tuple[str, ...]:
    return tuple(str(cwd / path) for path in paths if isinstance(path, str) and path)
