"""A sleep: a wait of an orchestrator that outlives its connection. MCP calls it a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from orchestrator.domain.question import ALLOW, ALWAYS, DENY
from orchestrator.errors import InvalidError

DENIED = DENY.removesuffix(":")
NO_REASON = "the person said no and gave no reason"

ANSWER = "answer"
"""the field of every form"""
WHY = "why"
"""the second field of a permission's form"""


class SleepStatus(StrEnum):
    """Where a sleep stands, in the words of SEP-2663; the last three end it."""

    WORKING = "working"
    INPUT_REQUIRED = "input_required"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True)
class Form:
    """A question for the person behind the client: what is asked, and the JSON schema of the answer's fields."""

    text: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Sleep:
    """A sleep as its client may see it.

    `created_at` and `updated_at` are seconds since the epoch; `result` is what the tool says once it is completed,
    `error` why it failed. A key of `forms` never comes back with another question.
    """

    id: str
    status: SleepStatus
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
    """What the person did with a form; `fields` is None if they declined it or closed it."""

    fields: Mapping[str, Any] | None


def question_form(agent: str, text: str, options: tuple[str, ...]) -> Form:
    """The form that puts an agent's question to a person: one field, with its options as choices."""
    field_schema: dict[str, Any] = {"type": "string", "title": "Answer"}
    if options:
        field_schema["enum"] = list(dict.fromkeys(options))
    else:
        field_schema["minLength"] = 1
    schema = {"type": "object", "properties": {ANSWER: field_schema}, "required": [ANSWER]}
    return Form(text=f"{agent} asks: {text}", schema=schema)


def permission_form(agent: str, tool: str, text: str) -> Form:
    """The form that asks a person for a permission: allowed, always, or denied with a reason that the agent reads."""
    fields: dict[str, Any] = {
        ANSWER: {"type": "string", "title": "Decision", "enum": [ALLOW, ALWAYS, DENIED]},
        WHY: {"type": "string", "title": "Why not"},
    }
    return Form(
        text=f"{agent} wants to use {tool}: {text}",
        schema={"type": "object", "properties": fields, "required": [ANSWER]},
    )


def answer_in(fields: Mapping[str, Any], *, permission: bool) -> str:
    """The answer that the fields of a reply mean.

    Raises:
        InvalidError: there is none in them.
    """
    answer = fields.get(ANSWER)
    if not isinstance(answer, str) or not answer.strip():
        raise InvalidError(f"the reply has no text in {ANSWER!r}", hint=f"fill in the form's field {ANSWER!r}")
    if not permission or answer != DENIED:
        return answer
    return f"{DENY} {str(fields.get(WHY) or '').strip() or NO_REASON}"
