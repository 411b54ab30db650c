"""Questions and permissions: what an agent waits for in the middle of a tool call."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from orchestrator.domain.text import ForeignText, blanks_shown, exact, exact_ends, is_plain, quoted, raw, spread
from orchestrator.errors import InvalidError

ALLOW = "allow"
ALWAYS = "always"
DENY = "deny:"
ANSWERS = "allow, always, or deny: <why>"
NOBODY = "nobody answered: decide yourself and say so"
MAX_TEXT_CHARACTERS = 2000
"""of a permission's text where its reader asks for the agent; `whole_text` has the rest"""
MAX_LINE_CHARACTERS = 300
"""of a permission's text wherever an agent is shown"""
SHELLS = frozenset({"Bash"})
"""tools whose input is a program"""
_WORDS = "description"
"""the field in which a shell call describes itself"""
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
        f"{quoted(text, 60)} does not answer a permission",
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


def input_text(tool: str, tool_input: Mapping[str, Any]) -> str:
    """Return a tool's input as text that no other input has: a shell's command as it is, everything else as JSON.

    A shell call's description of itself is left out: it has no effect.
    """
    given = {name: value for name, value in tool_input.items() if tool not in SHELLS or name != _WORDS}
    command = given.get("command")
    if tool in SHELLS and len(given) == 1 and isinstance(command, str) and is_plain(command) and not _is_json(command):
        return command
    return exact(given)


def shown_text(tool: str, tool_input: Mapping[str, Any]) -> str:
    """Return the same text, with the middle of a long one cut out so that its end shows."""
    text = input_text(tool, tool_input)
    if len(text) <= MAX_TEXT_CHARACTERS:
        return text
    tail = MAX_TEXT_CHARACTERS // 3
    head = MAX_TEXT_CHARACTERS - tail
    return f"{text[:head]} [… {len(text) - head - tail} characters …] {text[-tail:]}"


def whole_text(kind: QuestionKind, text: ForeignText | str, tool: str, tool_input: Mapping[str, Any]) -> str:
    """Return all of what is asked: the question, or the tool's input on several lines, as `lines_of` has it."""
    return raw(text) if kind is QuestionKind.QUESTION else spread(_exact(input_text(tool, tool_input)))


def is_whole(kind: QuestionKind, text: ForeignText | str, limit_characters: int = MAX_TEXT_CHARACTERS) -> bool:
    """Whether `limit_characters` show all of what is asked; by default, those shown for an agent asked for by name."""
    return kind is QuestionKind.QUESTION or _fits(_shown(text), limit_characters)


def fits_line(kind: QuestionKind, text: ForeignText | str) -> bool:
    """Whether every door that shows the agent shows all of what is asked."""
    return is_whole(kind, text, MAX_LINE_CHARACTERS)


def line_of(text: ForeignText | str, limit_characters: int = MAX_LINE_CHARACTERS) -> str:
    """Return a permission's text on one line that no other permission has; a long one as its beginning and end."""
    shown = _shown(text)
    return shown if _fits(shown, limit_characters) else exact_ends(raw(text), limit_characters)


def lines_of(text: ForeignText | str) -> str:
    """Return the same on several lines, however long; each line but the last ends with an escaped line feed."""
    shown = raw(text)
    return spread(exact(shown) if len(shown) > MAX_TEXT_CHARACTERS else _exact(shown))  # a cut text is not JSON


def _shown(text: ForeignText | str) -> str:
    return blanks_shown(_exact(raw(text)))


def _exact(text: str) -> str:
    return text if _is_json(text) else exact(text)


def _is_json(text: str) -> bool:
    """Whether the text of a permission is its input as `exact` shows it."""
    return text.startswith("{")


def _fits(shown: str, limit_characters: int) -> bool:
    return len(shown) <= limit_characters and len(shown.encode()) <= 2 * limit_characters


def fallback(kind: QuestionKind, default_answer: str, within: str) -> str:
    """Return what counts as the answer when the deadline passes."""
    if kind is QuestionKind.PERMISSION:
        return f"{DENY} nobody answered within {within}; go on without it, or report what you need"
    return default_answer or NOBODY
