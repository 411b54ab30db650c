"""What a terminal gets: data on stdout, talk on stderr; nothing that an agent wrote can steer the terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, TextIO

from orchestrator.domain.text import clean, one_line

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = 2
"""Version of every JSON document and line that a command prints."""
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_FOUND = 3
EXIT_TIMEOUT = 4
EXIT_NEEDS_ANSWER = 5
EXIT_INTERRUPTED = 130

QUESTION_CHARACTERS = 11
"""of a question's id, in a command that a person types"""
_PIPE_WIDTH = 4000


def answer_command(agent: str, kind: str, question_id: str) -> str:
    """What a person types to answer this question or permission of the agent, and no later one."""
    words = 'allow | always | "deny: why"' if kind == "permission" else '"…"'
    return f"fleet answer {one_line(agent)} {words} --question {one_line(question_id[:QUESTION_CHARACTERS])}"


def coloured(stream: TextIO) -> bool:
    """Whether colour is wanted: NO_COLOR says never, FORCE_COLOR always, else only on a terminal that can."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in {"", "0"}:
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def console(*, stderr: bool = False) -> Console:
    """A rich console that takes text as it is: no markup, no highlighting; wide where nobody's terminal would wrap."""
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
    """Print the one JSON document of a command."""
    print(json.dumps({"schema": SCHEMA, **value}, ensure_ascii=False, indent=2))


def json_line(value: Mapping[str, object]) -> None:
    """Print one line of an NDJSON stream, at once."""
    print(json.dumps({"schema": SCHEMA, **value}, ensure_ascii=False), flush=True)


def say(text: str) -> None:
    """Talk: to stderr, so that stdout holds nothing but data."""
    print(text, file=sys.stderr, flush=True)


def complain(kind: str, message: str, hint: str = "", *, as_json: bool = False) -> None:
    """Say what failed and what to do next; with `as_json` as the one document on stdout."""
    if as_json:
        document({"error": {"kind": kind, "message": message, "hint": hint}})
        return
    say(f"fleet: {clean(message)}")
    if hint:
        say(f"  -> {clean(hint)}")


def shown_clock(at: str) -> str:
    """The local wall-clock time of an ISO 8601 moment."""
    return datetime.fromisoformat(at).astimezone().strftime("%H:%M:%S")
