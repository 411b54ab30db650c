"""What a terminal gets: data on stdout, talk on stderr; nothing that an agent wrote can steer the terminal."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = 1
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
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC, DCS, SOS, PM, APC
    r"|\x9b[0-?]*[ -/]*[@-~]"  # CSI as one C1 byte
    r"|\x1b[ -/]*[0-~]?"  # any other escape sequence
)
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def scrub(text: str) -> str:
    """The text without terminal escapes, C0 and C1 controls (newline and tab stay) and bidirectional overrides."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n")))


def line(text: str, limit: int = 160) -> str:
    """The text on one scrubbed line of at most `limit` characters; a cut shows as `…`."""
    flat = " ".join(scrub(text).split())
    return flat if len(flat) <= limit else flat[: limit - 1].rstrip() + "…"


def answer_command(agent: str, kind: str, question_id: str) -> str:
    """What a person types to answer this question or permission of the agent, and no later one."""
    words = 'allow | always | "deny: why"' if kind == "permission" else '"…"'
    return f"fleet answer {line(agent)} {words} --question {line(question_id[:QUESTION_CHARACTERS])}"


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
    say(f"fleet: {scrub(message)}")
    if hint:
        say(f"  -> {scrub(hint)}")


SIXTY = 60
SHOWN_IN_HOURS = 48


def shown_age(seconds: float | None) -> str:
    """A duration for a reader: 8s, 3m05s, 2h10m, 4d; ? if unknown."""
    if seconds is None:
        return "?"
    whole = max(0, int(seconds))
    if whole < SIXTY:
        return f"{whole}s"
    minutes, rest = divmod(whole, SIXTY)
    if minutes < SIXTY:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, SIXTY)
    return f"{hours}h{minutes:02}m" if hours < SHOWN_IN_HOURS else f"{hours // 24}d"


def shown_clock(at: str) -> str:
    """The local wall-clock time of an ISO 8601 moment."""
    return datetime.fromisoformat(at).astimezone().strftime("%H:%M:%S")
