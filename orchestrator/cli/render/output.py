"""What reaches the terminal: data on stdout, messages on stderr, without control sequences written by an agent."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, TextIO

from orchestrator.domain.text import named_path, one_line

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = 2
"""version of all JSON documents and lines that commands print"""
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_TIMEOUT = 4
EXIT_NEEDS_ANSWER = 5
EXIT_INTERRUPTED = 130

QUESTION_CHARACTERS = 11
"""of a question's id, when shown inside a command to type"""
_PIPE_WIDTH = 4000
MAX_MESSAGE_CHARACTERS = 4000


def answer_command(agent: str, kind: str, question_id: str) -> str:
    """Return the command that answers this question or permission of the agent, and no later one."""
    words = 'allow | always | "deny: why"' if kind == "permission" else '"…"'
    return f"fleet answer {one_line(agent)} {words} --question {one_line(question_id[:QUESTION_CHARACTERS])}"


def moved_words(note: tuple[int, str]) -> str:
    """Return in one sentence that this state directory took the place of another; an agent may have named that one."""
    pid, place = note
    return f"this is not the state directory of the daemon {pid}, which found its own at {named_path(place)}"


def coloured(stream: TextIO) -> bool:
    """Whether to use colour: never with NO_COLOR, always with FORCE_COLOR, otherwise on a terminal that supports it."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in {"", "0"}:
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def console(*, stderr: bool = False) -> Console:
    """Return a rich console without markup or highlighting, and wide if its output does not go to a terminal."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    colour = coloured(stream)
    return Console(
        file=stream,
        color_system="auto" if colour else None,
        no_color=not colour,
        force_terminal=colour or None,
        width=None if stream.isatty() else _PIPE_WIDTH,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=not stream.isatty(),
    )


def document(value: Mapping[str, object]) -> None:
    """Print the JSON document of a command."""
    print(json.dumps({"schema": SCHEMA, **value}, ensure_ascii=False, indent=2))


def json_line(value: Mapping[str, object]) -> None:
    """Print one line of an NDJSON stream and flush it."""
    print(json.dumps({"schema": SCHEMA, **value}, ensure_ascii=False), flush=True)


def say(text: str) -> None:
    """Print a message to stderr; stdout is reserved for data."""
    print(text, file=sys.stderr, flush=True)


def complain(kind: str, message: str, hint: str = "", *, as_json: bool = False) -> None:
    """Print what failed and what to do next; with `as_json`, as the JSON document on stdout."""
    if as_json:
        document({"error": {"kind": kind, "message": message, "hint": hint}})
        return
    say(f"fleet: {one_line(message, MAX_MESSAGE_CHARACTERS)}")
    if hint:
        say(f"  -> {one_line(hint, MAX_MESSAGE_CHARACTERS)}")


def shown_clock(at: str) -> str:
    """Return the local time of day of an ISO 8601 timestamp."""
    return datetime.fromisoformat(at).astimezone().strftime("%H:%M:%S")
