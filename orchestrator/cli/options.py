"""Options and arguments that several commands share, and how a command gets at its daemon."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.errors import InvalidError

if TYPE_CHECKING:
    from orchestrator.cli.http.client import Client

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document (streams: one per line).")]
Agent = Annotated[str, typer.Argument(help="Name, id, or unique prefix of the id.", show_default=False)]
Task = Annotated[str, typer.Argument(help="What to do and what to report; - reads it from stdin.", show_default=False)]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", help="Agent whose result is handed over; may be repeated.", show_default=False),
]


@contextmanager
def connected() -> Generator[Client]:
    """A client of this directory's project at the daemon that runs, or that is started now.

    Raises:
        FleetError: no daemon can be had, or one of another build runs.
    """
    from orchestrator.cli.http.client import Client, target

    with Client(target(os.environ, str(here()))) as client:
        client.require_daemon()
        yield client


def here() -> Path:
    """The current directory.

    Raises:
        InvalidError: it no longer exists.
    """
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise InvalidError("the current directory no longer exists", hint="cd into your project") from error


def given_text(text: str) -> str:
    """The text itself, or all of stdin for `-`.

    Raises:
        InvalidError: stdin holds no text.
    """
    try:
        return sys.stdin.read() if text == "-" else text
    except UnicodeDecodeError as error:
        raise InvalidError(f"stdin is no {error.encoding} text", hint="convert it, for example with iconv") from error


def in_path(agent: str) -> str:
    """The agent's name or id as one segment of a path.

    Raises:
        InvalidError: it is empty, so it names nobody.
    """
    from urllib.parse import quote

    if not agent.strip():
        raise InvalidError("the agent's name is empty", hint="fleet ps shows the names")
    return quote(agent, safe="", errors="replace").replace(".", "%2E")  # a bare `..` would be taken for a step up
