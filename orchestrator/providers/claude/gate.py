"""The gate that every tool call of a session passes before it runs; it also records the files that tools touched.

Measured with Claude Code 2.1.329: when a hook raises, the tool runs unless the hook is set to block on failure; of two
calls deferred in one message only the last survives; a deferred call in a sub-agent is lost.
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

from orchestrator.domain.tool import Allow, Decide, Defer, Deny, GateDecision, Json, ToolCall

GATE_SECONDS = 600.0
FILE_TOOLS = "Read|Write|Edit|NotebookEdit|Grep|Glob"
MAX_FOUND_FILES = 50
ONE_AT_A_TIME = "one question at a time: ask again after this answer (a permission is a question, too)"
READ_FIRST = "a new message for you comes first: read it, then call this again if it still fits"
NOT_IN_A_SUBAGENT = "a sub-agent cannot wait for an answer: end, and report the question as your result"


@dataclass(frozen=True)
class TouchedFiles:
    """The files that one tool call read (`consumed`) and wrote (`produced`), as absolute paths."""

    consumed: tuple[str, ...] = ()
    produced: tuple[str, ...] = ()


class Gate:
    """Asks `decide` exactly once per tool call of a session, and records each call's tool and touched files."""

    def __init__(self, decide: Decide) -> None:
        self._decide = decide
        self._verdicts: dict[str, GateDecision] = {}
        self._touched: dict[str, TouchedFiles] = {}
        self._names: dict[str, str] = {}
        self._deferred: str | None = None
        self._message: str | None = None
        self._steer_unread_since: str | None = None
        self.denied: set[str] = set()

    def begin_run(self) -> None:
        """Start a new run, in which one call may be deferred again."""
        self._deferred = self._steer_unread_since = None
        self.denied = set()

    def on_model_message(self, message_id: str | None) -> None:
        """Note a message of the model; the first new one after a steer means that the model has read it."""
        self._message = message_id
        if self._steer_unread_since != message_id:
            self._steer_unread_since = None

    def on_steer(self) -> None:
        """Note that a prompt was added to the run: no call is deferred until the model has read it."""
        self._steer_unread_since = self._message or ""

    @property
    def has_deferred(self) -> bool:
        """Whether a call of this run is deferred and waits for its answer."""
        return self._deferred is not None

    def name_of(self, call_id: str) -> str:
        """The tool of a call that passed the gate; '' for an unknown call."""
        return self._names.get(call_id, "")

    def finish_call(self, call_id: str) -> TouchedFiles:
        """Forget a finished call and return the files it touched."""
        self._verdicts.pop(call_id, None)
        self._names.pop(call_id, None)
        return self._touched.pop(call_id, TouchedFiles())

    def hooks(self) -> dict[HookEvent, list[HookMatcher]]:
        """The hooks to start the session with."""
        before = cast("HookCallback", self._before)
        after = cast("HookCallback", self._after)
        return {
            "PreToolUse": [HookMatcher(hooks=[before], timeout=GATE_SECONDS, on_failure="block")],
            "PostToolUse": [HookMatcher(matcher=FILE_TOOLS, hooks=[after])],
        }

    async def can_use_tool(
        self, name: str, tool_input: Mapping[str, object], context: ToolPermissionContext
    ) -> PermissionResultAllow | PermissionResultDeny:
        """The same verdict where the program asks without calling the hook (writes to `.claude/` and `.git/`)."""
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

    async def _verdict(self, call: ToolCall) -> GateDecision:
        self._names[call.id] = call.name
        if call.id and call.id in self._verdicts:
            return self._verdicts[call.id]
        verdict = self._supported(call, await self._decide(call))
        self._verdicts[call.id] = verdict
        if not isinstance(verdict, Allow):
            self.denied.add(call.id)
        return verdict

    def _supported(self, call: ToolCall, verdict: GateDecision) -> GateDecision:
        """The verdict, or a denial if the program cannot carry it out."""
        if not isinstance(verdict, Defer):
            return verdict
        if call.in_subagent:
            return Deny(NOT_IN_A_SUBAGENT)
        if self._deferred not in (None, call.id):
            return Deny(ONE_AT_A_TIME)
        if self._steer_unread_since is not None:
            return Deny(READ_FIRST)
        self._deferred = call.id
        return verdict

    async def _after(self, hook: HookInput, _call_id: str | None, _context: HookContext) -> HookJSONOutput:
        given = cast("Mapping[str, object]", hook)
        self._touched[str(given["tool_use_id"])] = touched_files(
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


def touched_files(tool: str, tool_input: Json, response: object, cwd: Path) -> TouchedFiles:
    """The files of one finished call; a search consumes the files that its result names, at most 50."""
    match tool:
        case "Read":
            return TouchedFiles(consumed=_absolute([tool_input.get("file_path")], cwd))
        case "Write" | "Edit" | "NotebookEdit":
            return TouchedFiles(
                produced=_absolute([tool_input.get("file_path") or tool_input.get("notebook_path")], cwd)
            )
        case "Grep" | "Glob":
            return TouchedFiles(consumed=_absolute(_files_in_result(response, tool_input, cwd), cwd))
        case _:
            return TouchedFiles()


def _files_in_result(response: object, tool_input: Json, cwd: Path) -> Sequence[object]:
    """The files in a search result: its list of names, else what precedes the first colon of each line."""
    fields = cast("dict[str, object]", response if isinstance(response, dict) else {})
    filenames = fields.get("filenames")
    if isinstance(filenames, list) and filenames:
        return cast("list[object]", filenames)[:MAX_FOUND_FILES]
    content = fields.get("content")
    if not isinstance(content, str) or not content:
        return []
    place = tool_input.get("path")
    if isinstance(place, str) and (cwd / place).is_file():
        return [place]
    candidates = dict.fromkeys(line.partition(":")[0] for line in content.splitlines())
    return [head for head in list(candidates)[:MAX_FOUND_FILES] if head and (cwd / head).is_file()]


def _absolute(paths: Sequence[object], cwd: Path) -> tuple[str, ...]:
    return tuple(str(cwd / path) for path in paths if isinstance(path, str) and path)
