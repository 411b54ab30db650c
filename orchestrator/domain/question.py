"""Questions and permissions: what an agent waits for in the middle of a tool call."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from orchestrator.domain.text import ForeignText, one_line, quoted, quoted_ends, raw, shortened, storable, visible
from orchestrator.errors import InvalidError

ALLOW = "allow"
ALWAYS = "always"
DENY = "deny:"
ANSWERS = "allow, always, or deny: <why>"
NOBODY = "nobody answered: decide yourself and say so"
MAX_TEXT_CHARACTERS = 2000
"""of a tool's input in the text of its permission; `whole_text` has the rest"""
MAX_LINE_CHARACTERS = 300
MAX_LINE_BYTES = 600
"""what every door shows of a permission's text wherever it shows the agent"""
_TELLING = ("command", "file_path", "notebook_path", "url", "pattern", "query", "path", "prompt")
_NUMBER = re.compile(r"[0-9]{1,3}")


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


ANSWERED_BY: Mapping[AnsweredBy | None, str] = {
    AnsweredBy.ORCHESTRATOR: "an orchestrator",
    AnsweredBy.PERSON: "a person",
    AnsweredBy.POLICY: "its persona's policy",
    AnsweredBy.DEADLINE: "its time-out",
}
"""who gave an answer, in words"""


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


def chosen(options: Sequence[str], text: str) -> str:
    """Return the option whose number, from 1, is the answer; any other answer as it is."""
    number = text.strip()
    if number in options or not _NUMBER.fullmatch(number) or not 1 <= int(number) <= len(options):
        return text
    return options[int(number) - 1]


def reads_as_answer(kind: QuestionKind, options: Sequence[str], answer: str | None, text: str) -> bool:
    """Whether a text makes sense as an answer to this question and hardly as a task.

    It is the answer that counted, an option, a number, yes or no, or a word for a permission.
    """
    word = text.strip()
    if answer is not None and word == answer.strip():
        return True
    if kind is QuestionKind.PERMISSION:
        return word.lower() in {ALLOW, ALWAYS} or word.lower().startswith(DENY)
    return word in options or word.lower() in {"yes", "no"} or _NUMBER.fullmatch(word) is not None


def input_text(tool_input: Mapping[str, Any]) -> str:
    """Return the relevant part of a tool's input, whole.

    Invisible characters are named, so that a command cannot look like another one to the person who permits it.
    """
    text = next((str(tool_input[name]) for name in _TELLING if isinstance(tool_input.get(name), str)), "")
    words = {"description"} if "command" in tool_input else set[str]()  # what a shell command says of itself
    rest = {name: value for name, value in tool_input.items() if value != text and name not in words}
    return visible(" ".join(filter(None, [text, _compact(rest) if rest else ""])))


def shown_input(tool_input: Mapping[str, Any], limit_characters: int) -> str:
    """Return the same on one line, with a sign for each line feed; a cut is in the middle, so that its end shows."""
    return shortened(input_text(tool_input).replace("\n", " ⏎ "), limit_characters)


def whole_text(kind: QuestionKind, text: ForeignText | str, tool_input: Mapping[str, Any]) -> str:
    """Return all of what is asked: the question, or the tool's input."""
    return raw(text) if kind is QuestionKind.QUESTION else input_text(tool_input)


def is_whole(kind: QuestionKind, text: ForeignText | str) -> bool:
    """Whether a question's stored text is all of what is asked; `asked` cuts the input of a tool."""
    return kind is QuestionKind.QUESTION or len(text) < MAX_TEXT_CHARACTERS


def fits_line(kind: QuestionKind, text: ForeignText | str) -> bool:
    """Whether every door that shows the agent shows all of what is asked."""
    return is_whole(kind, text) and line_of(text) == quoted(text, len(text) + 1)


def line_of(text: ForeignText | str) -> str:
    """Return a permission's text as it is quoted in a list: its beginning and its end, because either may matter."""
    shown = quoted_ends(text, MAX_LINE_CHARACTERS)
    return shown if len(shown.encode()) <= MAX_LINE_BYTES else quoted_ends(text, MAX_LINE_BYTES // 5)


def _compact(value: object) -> str:
    return storable(json.dumps(value, ensure_ascii=False, separators=(", ", ": "), default=str))


def fallback(kind: QuestionKind, default_answer: str, within: str) -> str:
    """Return what counts as the answer when the deadline passes."""
    if kind is QuestionKind.PERMISSION:
        return f"{DENY} nobody answered within {within}; go on without it, or report what you need"
    return default_answer or NOBODY
