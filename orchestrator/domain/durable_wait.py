"""A durable wait: an orchestrator's wait that outlives its connection. MCP calls it a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, cast

from orchestrator.domain.question import ALLOW, ALWAYS, DENY
from orchestrator.domain.text import ForeignText, labelled, named, one_line, raw
from orchestrator.errors import InvalidError

MAX_OPTION_CHARACTERS = 200

DENIED = DENY.removesuffix(":")
NO_REASON = "the person said no and gave no reason"

ANSWER = "answer"
"""the field of every form"""
WHY = "why"
"""the second field of a permission's form"""


class DurableWaitStatus(StrEnum):
    """The state of a durable wait, in the words of SEP-2663; the last three end it."""

    WORKING = "working"
    INPUT_REQUIRED = "input_required"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


MAX_WAIT_SECONDS = 7 * 86_400
MAX_CURSOR_DIGITS = 18
"""so that it fits the 64 bits of a row id"""
UNTIL = ("all", "any")


@dataclass(frozen=True, kw_only=True)
class WaitRequest:
    """What a caller wants to wait for."""

    agents: Sequence[str] = ()
    until: str = "all"
    timeout_seconds: float | None = None
    since: str | None = None


@dataclass(frozen=True, kw_only=True)
class NewDurableWait:
    """A new durable wait; `agents` are the ids that it waits for, empty for all of its orchestrator's."""

    id: str
    project: str
    orchestrator: str
    until: str
    expires_at: float
    call_key: str | None = None
    agents: Sequence[str] = ()
    since: str | None = None
    asks_person: bool = False
    deadline: float | None = None
    question_id: str | None = None
    """the question that its end answers, if its orchestrator is one that Fleet runs"""


@dataclass(frozen=True, kw_only=True)
class WaitEnd:
    """What a durable wait ends with: the result of the call, and the turns whose outcomes are in it."""

    result: str = ""
    is_error: bool = False
    outcomes: Sequence[str] = ()


def wait_request_of(arguments: Mapping[str, Any]) -> WaitRequest | None:
    """Build the request from the arguments of `wait_for_agents`; None if they are not valid."""
    arguments = {name: value for name, value in arguments.items() if value is not None}
    names: object = arguments.get("agents", [])
    until, seconds, since = arguments.get("until", "all"), arguments.get("timeout_seconds"), arguments.get("since")
    if set(arguments) - {"agents", "until", "timeout_seconds", "since"} or until not in UNTIL:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in cast("list[object]", names)):
        return None
    if seconds is not None and not (_is_number(seconds) and 0 <= seconds <= MAX_WAIT_SECONDS):
        return None
    if since is not None and not _is_cursor(since):
        return None
    return WaitRequest(agents=tuple(cast("list[str]", names)), until=str(until), timeout_seconds=seconds, since=since)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_cursor(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= MAX_CURSOR_DIGITS


@dataclass(frozen=True, kw_only=True)
class Form:
    """A form for the person behind the client: the question, and the JSON schema of the fields to fill in."""

    text: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class DurableWait:
    """A durable wait as its client sees it.

    `created_at` and `updated_at` are seconds since the epoch; `result` is the tool's text once it is completed,
    `error` why it failed. A key of `forms` is never reused for another question.
    """

    id: str
    status: DurableWaitStatus
    created_at: float
    updated_at: float
    ttl_seconds: float | None
    message: str = ""
    forms: Mapping[str, Form] = field(default_factory=dict[str, Form])
    result: str = ""
    is_error: bool = False
    error: tuple[int, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the person did with a form; `fields` is None if they declined or closed it."""

    fields: Mapping[str, Any] | None


def question_form(agent: str, text: ForeignText, options: tuple[ForeignText, ...]) -> Form:
    """Build the form for an agent's question: one field, with the question's options as choices."""
    field_schema: dict[str, Any] = {"type": "string", "title": "Answer"}
    if options:
        field_schema["enum"] = list(dict.fromkeys(one_line(raw(option), MAX_OPTION_CHARACTERS) for option in options))
    else:
        field_schema["minLength"] = 1
    schema = {"type": "object", "properties": {ANSWER: field_schema}, "required": [ANSWER]}
    return Form(text="\n".join(labelled(f"{agent} asks", text)), schema=schema)


def permission_form(agent: str, tool: ForeignText, text: str, *, whole: bool) -> Form:
    """Build the form for a permission: allow, always, or deny with a reason that the agent reads.

    `text` is what the tool does, exact. If the form does not show the whole input, it only denies.
    """
    decisions = [ALLOW, ALWAYS, DENIED] if whole else [DENIED]
    rest = "" if whole else f"\n(cut: to allow it, read it with `fleet output {agent}` and answer with `fleet answer`)"
    fields: dict[str, Any] = {
        ANSWER: {"type": "string", "title": "Decision", "enum": decisions},
        WHY: {"type": "string", "title": "Why not"},
    }
    return Form(
        text="\n".join(labelled(f"{agent} wants to use {named(tool)}", text)) + rest,
        schema={"type": "object", "properties": fields, "required": [ANSWER]},
    )


def answer_in(fields: Mapping[str, Any], *, permission: bool) -> str:
    """Return the answer in the fields of a reply.

    Raises:
        InvalidError: the fields contain no answer.
    """
    answer = fields.get(ANSWER)
    if not isinstance(answer, str) or not answer.strip():
        raise InvalidError(f"the reply has no text in {ANSWER!r}", hint=f"fill in the form's field {ANSWER!r}")
    if not permission or answer != DENIED:
        return answer
    return f"{DENY} {str(fields.get(WHY) or '').strip() or NO_REASON}"
