"""A request for a reply, independent of the wire format: who asks, and with what history."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

_REMINDER = re.compile(r"<system-reminder>.*?(</system-reminder>|\Z)", re.DOTALL)
_INTERRUPTED = frozenset({"[Request interrupted by user]", "[Request interrupted by user for tool use]"})
_NOT_A_TASK = _INTERRUPTED | {
    "Continue from where you left off.",
    "Your call above has its result now. Go on with your task.",
}
"""What the Claude CLI itself says in the user's name (CLI 2.1.329, measured), also in the words that Fleet gives it."""
_NOT_A_TURN = "No response requested."
"""What it says in the model's name after a turn that a dead process left open."""
_STEER = re.compile(
    r"The user sent a new message while you were working:\n(.*?)\n\nThis is how Claude Code surfaces", re.DOTALL
)
_CALL_ID = re.compile(r"toolu_(?P<name>\w+)-(?P<reply>[0-9a-f]{16})-(?P<many>m?)(?P<index>\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool returned for the call `call_id`."""

    call_id: str
    text: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the history: its own texts and the tool results it carries."""

    role: Literal["user", "assistant", "system"]
    texts: tuple[str, ...] = ()
    results: tuple[ToolResult, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """Everything a reply depends on.

    `fingerprint` is 16 hexadecimal digits, equal for the same request sent again and different for any other.
    `request_bytes` is the size of the request's body.
    """

    messages: tuple[Message, ...]
    system: str = ""
    model: str = ""
    agent: str = ""
    persona: str = ""
    fingerprint: str = "0" * 16
    request_bytes: int = 0
    tools: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """The latest request in the conversation. `index` is its message's position, -1 if no message asks for anything."""

    index: int
    text: str


@dataclass(slots=True)
class Results:
    """What is known so far: tool results by the names of their calls, and what a person said while the turn ran.

    Later results replace earlier ones; a `for_each` yields a list of texts.
    """

    texts: dict[str, object] = field(default_factory=dict[str, object])
    steers: list[str] = field(default_factory=list[str])
    errors: list[str] = field(default_factory=list[str])
    _lists: dict[tuple[str, str], dict[int, str]] = field(default_factory=dict[tuple[str, str], dict[int, str]])

    def read(self, message: Message) -> None:
        """Add the contents of one message."""
        for result in message.results:
            self._add(result)
        if message.role != "assistant":
            self.steers += [found.strip() for text in message.texts for found in _STEER.findall(text)]

    def _add(self, result: ToolResult) -> None:
        found = _CALL_ID.fullmatch(result.call_id)
        if found is None:
            return
        name, key, is_first = found["name"], (found["name"], found["reply"]), True
        if found["many"]:
            is_first = key not in self._lists
            items = self._lists.setdefault(key, {})
            items[int(found["index"])] = result.text
            self.texts[name] = [items[index] for index in sorted(items)]
        else:
            self.texts[name] = result.text
        if is_first and name in self.errors:
            self.errors.remove(name)
        if result.is_error and name not in self.errors:
            self.errors.append(name)


def call_id(name: str, fingerprint: str, index: int, *, many: bool) -> str:
    """The id of the `index`-th call of a reply: it carries the result's name, so no state is needed."""
    return f"toolu_{name}-{fingerprint}-{'m' if many else ''}{index}"


def own_text(message: Message) -> str:
    """What a user's message itself asks for, without the CLI's additions.

    A message with tool results has no text of the user's own, except after the mark of an interrupt: the CLI sends the
    next prompt in one message with the results of the calls that it stopped.
    """
    said = [_REMINDER.sub("", text).strip() for text in message.texts]
    if message.results:
        marks = [place for place, text in enumerate(said) if text in _INTERRUPTED]
        said = said[marks[-1] :] if marks else []
    return "\n\n".join(text for text in said if text and text not in _NOT_A_TASK)


def latest_task(messages: tuple[Message, ...]) -> Task:
    """The last user message that asks for something (`own_text`)."""
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if message.role == "user" and (said := own_text(message)):
            return Task(index, said)
    return Task(-1, "")


def turn_starts(messages: tuple[Message, ...], after: int) -> list[int]:
    """The index where each assistant turn after message `after` begins; consecutive assistant messages are one turn."""
    starts: list[int] = []
    inside = False
    for index in range(after + 1, len(messages)):
        role = messages[index].role
        if role == "assistant" and not inside and not _is_filler(messages[index]):
            starts.append(index)
            inside = True
        elif role == "user":
            inside = False
    return starts


def _is_filler(message: Message) -> bool:
    return message.texts == (_NOT_A_TURN,)
