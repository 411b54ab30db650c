"""A request for a reply, as every wire format can say it: who asks, and with what history."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

_REMINDER = re.compile(r"<system-reminder>.*?(</system-reminder>|\Z)", re.DOTALL)
_NOT_A_TASK = frozenset(
    {
        "Continue from where you left off.",
        "[Request interrupted by user]",
        "[Request interrupted by user for tool use]",
    }
)
"""What the Claude CLI itself says in the user's name."""
_CALL_ID = re.compile(r"toolu_(?P<name>\w+)-(?P<reply>[0-9a-f]{16})-(?P<many>m?)(?P<index>\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gave back for the call `call_id`."""

    call_id: str
    text: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the history: its own texts and the tool results it carries."""

    role: Literal["user", "assistant"]
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
    """The latest thing that was asked for. `index` is its message's place, -1 where no message asks for anything."""

    index: int
    text: str


@dataclass(slots=True)
class Results:
    """Tool results by the names of their calls: later ones replace earlier ones, `for_each` gives a list of texts."""

    texts: dict[str, object] = field(default_factory=dict[str, object])
    errors: list[str] = field(default_factory=list[str])
    _lists: dict[tuple[str, str], dict[int, str]] = field(default_factory=dict[tuple[str, str], dict[int, str]])

    def add(self, result: ToolResult) -> None:
        """Take in one result; one that no script called is ignored."""
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
    """The id of the `index`-th call of a reply: it carries the result's name, so nothing is remembered."""
    return f"toolu_{name}-{fingerprint}-{'m' if many else ''}{index}"


def own_text(message: Message) -> str:
    """What the message itself says, without what the CLI adds to it."""
    said = (_REMINDER.sub("", text).strip() for text in message.texts)
    return "\n\n".join(text for text in said if text and text not in _NOT_A_TASK)


def latest_task(messages: tuple[Message, ...]) -> Task:
    """The last user message with text of its own and without tool results."""
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if message.role == "user" and not message.results and (said := own_text(message)):
            return Task(index, said)
    return Task(-1, "")


def turn_starts(messages: tuple[Message, ...], after: int) -> list[int]:
    """Where each assistant turn after the message `after` begins; consecutive assistant messages are one turn."""
    return [
        index
        for index in range(after + 1, len(messages))
        if messages[index].role == "assistant"
        and (index == 0 or messages[index - 1].role != "assistant" or index == after + 1)
    ]
