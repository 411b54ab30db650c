"""What an agent may have to be answered before a tool call goes on: a question, or a permission."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from orchestrator.domain.text import one_line, storable, visible
from orchestrator.errors import InvalidError

ALLOW = "allow"
ALWAYS = "always"
DENY = "deny:"
ANSWERS = "allow, always, or deny: <why>"
NOBODY = "nobody answered: decide yourself and say so"
_TELLING = ("command", "file_path", "notebook_path", "url", "pattern", "query", "path", "prompt")


class QuestionKind(StrEnum):
    """What is asked for; it is also the reason for which the agent waits."""

    QUESTION = "question"
    PERMISSION = "permission"
    CHILDREN = "children"
    """The end of the last of its children, who answer by it, a call or a plan; it stands in nobody's inbox."""
    AGENTS = "agents"
    """What wakes an orchestrator that Fleet runs: its fleet is done or needs it. It stands in nobody's inbox."""


INBOX = frozenset({QuestionKind.QUESTION, QuestionKind.PERMISSION})
"""what somebody must answer"""


class AnsweredBy(StrEnum):
    """Who answered."""

    ORCHESTRATOR = "orchestrator"
    PERSON = "person"
    POLICY = "policy"
    DEADLINE = "deadline"
    CHILDREN = "children"
    AGENTS = "agents"


class QuestionState(StrEnum):
    """Where a question stands; an agent has at most one that is open."""

    OPEN = "open"
    ANSWERED = "answered"
    """The answer is there, its call has not gone on yet."""
    SETTLED = "settled"
    """The very call that asked went on with it."""
    DROPPED = "dropped"
    """Nobody asks any more: its turn ended otherwise."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """An answer that the persona gives at once; what it does not name fits everything. The first that fits counts."""

    answer: str
    kind: str | None = None
    tool: str | None = None

    def fits(self, kind: QuestionKind, tool: str) -> bool:
        """Whether it answers this."""
        return self.kind in {None, str(kind)} and self.tool in {None, tool}


@dataclass(frozen=True, kw_only=True)
class CallRecord:
    """What became of the question of one tool call; `withdrawn`: the call belongs to a turn that is over."""

    kind: QuestionKind
    answer: str | None = None
    withdrawn: bool = False


@dataclass(frozen=True, kw_only=True)
class Grant:
    """A call that was once answered `always`."""

    tool: str
    input: Mapping[str, Any]


def checked_answer(kind: QuestionKind, text: str) -> str:
    """The answer as it is stored: for a permission `allow`, `always` or `deny: why`.

    Raises:
        InvalidError: it is none of them.
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
    """The telling part of a tool's input on one line; a long one is cut in its middle, so that its end is seen.

    What cannot be seen is named: a command must not look like another one to whoever permits it.
    """
    text = next((str(tool_input[name]) for name in _TELLING if isinstance(tool_input.get(name), str)), "")
    rest = {name: value for name, value in tool_input.items() if value != text and name != "description"}
    whole = " ".join(filter(None, [text, _compact(rest) if rest else ""]))
    return shortened(visible(whole), limit_characters)


def shortened(text: str, limit_characters: int) -> str:
    """The text on one line; a long one is cut in its middle, with a mark that says how much is missing."""
    flat = one_line(text, len(text) + 1)
    if len(flat) <= limit_characters:
        return flat
    tail = limit_characters // 3
    head = limit_characters - tail
    return f"{flat[:head].rstrip()} [… {len(flat) - head - tail} characters …] {flat[-tail:].lstrip()}"


def _compact(value: object) -> str:
    return storable(json.dumps(value, ensure_ascii=False, separators=(", ", ": "), default=str))


def fallback(kind: QuestionKind, default_answer: str, within: str) -> str:
    """What counts as the answer when the deadline has come."""
    if kind is QuestionKind.PERMISSION:
        return f"{DENY} nobody answered within {within}; go on without it, or report what you need"
    return default_answer or NOBODY
