"""Options and arguments that several commands share, and how a command reaches its daemon."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator import paths
from orchestrator.errors import InvalidError

if TYPE_CHECKING:
    from orchestrator.cli.http.client import Client, Target

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON: one document, or one per line for streams.")]
Agent = Annotated[str, typer.Argument(help="Agent's name, id, or unique prefix of its id.", show_default=False)]
Task = Annotated[str, typer.Argument(help="What to do and what to report (-: read stdin).", show_default=False)]
Cwd = Annotated[str | None, typer.Option(help="Directory inside the project to work in.", show_default=False)]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", help="Agent whose result is handed to this one (repeatable).", show_default=False),
]


def own_target(settings: Mapping[str, str] | None = None) -> Target:
    """Return the daemon of this process's environment, with these settings over it, for the current project."""
    from orchestrator.cli.http.client import target

    return target({**os.environ, **(settings or {})}, str(here()))


def own_home() -> Path | None:
    """Return the user's home directory, or None if the environment does not name it."""
    home = os.environ.get("HOME")
    return Path(home) if home else None


@contextmanager
def connected(settings: Mapping[str, str] | None = None) -> Generator[Client]:
    """Yield a client for the current directory's project; a daemon that it starts gets these settings.

    Raises:
        FleetError: the daemon failed to start, or a daemon of another build runs.
    """
    from orchestrator.cli.http.client import Client

    with Client(own_target(settings)) as client:
        client.require_daemon()
        yield client


def here() -> Path:
    """Return the current directory.

    Raises:
        InvalidError: it no longer exists, or its path is not UTF-8.
    """
    try:
        return Path(paths.check_place(str(Path.cwd())))
    except FileNotFoundError as error:
        raise InvalidError("the current directory no longer exists", hint="cd into your project") from error
    except paths.PlaceError as error:
        raise InvalidError(str(error), hint="cd into another directory") from error


def given_text(text: str) -> str:
    """Return the text, or all of stdin for `-`.

    Raises:
        InvalidError: stdin is not text.
    """
    try:
        return sys.stdin.read() if text == "-" else text
    except UnicodeDecodeError as error:
        raise InvalidError(
            f"stdin is not {error.encoding} text", hint="convert it first, for example with iconv"
        ) from error


def in_path(agent: str) -> str:
    """Return the agent's name or id as one segment of a URL path.

    Raises:
        InvalidError: it is empty.
    """
    from urllib.parse import quote

    if not agent.strip():
        raise InvalidError("the agent's name is empty", hint="fleet ps lists the names")
    return quote(agent, safe="", errors="replace").replace(".", "%2E")  # a bare `..` would be resolved as the parent
