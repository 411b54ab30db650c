"""Helpers to write scripts and conversations, and to act as a rehearsal's client without HTTP."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace

from orchestrator.rehearsal.conversation import Conversation, Message, ToolResult
from orchestrator.rehearsal.play import Answer, choose
from orchestrator.rehearsal.script import Loaded, parse


def script(replies: str, match: str = "{}") -> Loaded:
    """A script with one part, whose `replies` are YAML."""
    listed = textwrap.indent(textwrap.dedent(replies).strip(), "      ")
    return parse(f"name: short\nparts:\n  - part: only\n    match: {match}\n    replies:\n{listed}\n", "short.yaml")


def asked(*messages: Message, **fields: str) -> Conversation:
    """A conversation; its fingerprint tells how long it is."""
    return replace(Conversation(messages, fingerprint=f"{len(messages):016x}"), **fields)  # pyright: ignore[reportArgumentType] - all fields given here are text


def user(*texts: str) -> Message:
    return Message("user", texts)


def assistant(*texts: str) -> Message:
    return Message("assistant", texts)


def results(answer: Answer, texts: Mapping[str, str] | Sequence[str] = (), errors: Sequence[int] = ()) -> Message:
    """What the tools give for the calls of `answer`: a text for each call, by place or by the name of the tool."""
    given = [
        texts.get(call.tool, "") if isinstance(texts, Mapping) else texts[place]
        for place, call in enumerate(answer.calls)
    ]
    return Message(
        "user",
        (),
        tuple(
            ToolResult(call.id, text, place in errors)
            for place, (call, text) in enumerate(zip(answer.calls, given, strict=True))
        ),
    )


def play_on(loaded: Loaded, *messages: Message, tool_says: str = "ok", turns: int = 20) -> list[Answer]:
    """Every answer until the first that calls no tool; each tool says `tool_says`."""
    history = list(messages)
    answers: list[Answer] = []
    for _ in range(turns):
        answer = choose(loaded, asked(*history))
        answers.append(answer)
        if not answer.calls:
            break
        history += [assistant(), results(answer, [tool_says] * len(answer.calls))]
    return answers
