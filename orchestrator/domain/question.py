"""Questions and permissions: what an agent waits for in the middle of a tool call."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from orchestrator.domain.text import one_line, shortened, storable, visible
from orchestrator.errors import InvalidError

ALLOW = "allow"
ALWAYS = "always"
DENY = "deny:"
ANSWERS = "allow, always, or deny: <why>"
NOBODY = "nobody answered: decide yourself and say so"
_TELLING = ("command", "file_path", "notebook_path", "url", "pattern", "query", "path", "prompt")


class QuestionKind(StrEnum):
    """What a question asks for; also the kind of the agent's wait."""

    QUESTION = "question"
    PERMISSION = "permission"
    CHILDREN = "children"
    """Answered by its last child's end: a call or a plan. Shown in no inbox."""
    AGENTS = "agents"
    """Wakes an orchestrator that Fleet runs when its agents are done or need it. Shown in no inbox."""


INBOX = frozenset({QuestionKind.QUESTION, QuestionKind.PERMISSION})
"""kinds that a person or an orchestrator must answer"""


class AnsweredBy(StrEnum):
    """Who answered a question."""

    ORCHESTRATOR = "orchestrator"
    PERSON = "person"
    POLICY = "policy"
    DEADLINE = "deadline"
    CHILDREN = "children"
    AGENTS = "agents"


class QuestionState(StrEnum):
    """The state of a question; an agent has at most one open question."""

    OPEN = "open"
    ANSWERED = "answered"
    """It is answered; its call has not run yet."""
    SETTLED = "settled"
    """The call that asked has run with the answer."""
    DROPPED = "dropped"
    """Its turn ended without it, so nobody needs the answer any more."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """An answer that a persona gives at once. A field that is not set matches everything; the first match counts."""

    answer: str
    kind: str | None = None
    tool: str | None = None

    def fits(self, kind: QuestionKind, tool: str) -> bool:
        """Whether it answers this question."""
        return self.kind in {None, str(kind)} and self.tool in {None, tool}


@dataclass(frozen=True, kw_only=True)
class NewQuestion:
    """What a tool call asks before it runs; for a plan, `call_id` is the id of the prompt with the answer.

    `fallback` is the answer that applies from `deadline_at` on; without a deadline it waits forever.
    """

    kind: QuestionKind
    call_id: str
    tool: str
    input: Mapping[str, Any]
    text: str
    asked_at: float
    options: Sequence[str] = ()
    deadline_at: float | None = None
    fallback: str = ""


@dataclass(frozen=True, kw_only=True)
class CallRecord:
    """The state of one tool call's question; `withdrawn`: the call belongs to a turn that has ended."""

    kind: QuestionKind
    answer: str | None = None
    withdrawn: bool = False


@dataclass(frozen=True, kw_only=True)
class Grant:
    """A call that was answered `always`."""

    tool: str
    input: Mapping[str, Any]


def checked_answer(kind: QuestionKind, text: str) -> str:
    """Return the answer as it is stored; for a permission: `allow`, `always` or `deny: why`.

    Raises:
        InvalidError: it does not answer a permission.
    """
    if kind is QuestionKind.QUESTION:
        return text
    word = text.strip()
    if word.lower() in {ALLOW, ALWAYS}:
        return word.lower()
    if word.lower().startswith(DENY) and word[len(DENY) :].strip():
        return f"{DENY} {word[len(DENY) :].strip()}"
    raise InvalidError(
        f"{one_line(text, 60)!r} does not answer a permission",
        hint=f"answer {ANSWERS}; the agent reads why",
    )


def shown_input(tool_input: Mapping[str, Any], limit_characters: int) -> str:
    """Return the relevant part of a tool's input on one line; a long one is cut in the middle, so its end is visible.

    Invisible characters are named, so that a command cannot look like another one to the person who permits it.
    """
    text = next((str(tool_input[name]) for name in _TELLING if isinstance(tool_input.get(name), str)), "")
    rest = {name: value for name, value in tool_input.items() if value != text and name != "description"}
    whole = " ".join(filter(None, [text, _compact(rest) if rest else ""]))
    return shortened(visible(whole), limit_characters)


def _compact(value: object) -> str:
    return storable(json.dumps(value, ensure_ascii=False, separators=(", ", ": "), default=str))


def fallback(kind: QuestionKind, default_answer: str, within: str) -> str:
    """Return what counts as the answer when the deadline passes."""
    if kind is QuestionKind.PERMISSION:
        return f"{DENY} nobody answered within {within}; go on without it, or report what you need"
    return default_answer or NOBODY
