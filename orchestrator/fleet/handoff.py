"""Hand-offs through files: results go from agent to agent without the orchestrator in the middle."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import FleetError


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one agent hands on: its text, and under which file name."""

    agent: str
    persona: str
    status: str
    produces: str
    text: str


def write_inputs(desk: Path, results: Sequence[Result]) -> list[Path]:
    """Write the results into the desk, one file for each name that they are produced under, a heading each.

    Returns the files in the order of their first result.

    Raises:
        FleetError: the desk cannot be written; nothing of the turn has begun.
    """
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.produces, []).append(result)
    return [_write(desk, name, "\n\n".join(map(_section, group))) for name, group in groups.items()]


def write_result(desk: Path, name: str, text: str) -> Path:
    """Write an agent's own result into its desk, complete.

    Raises:
        FleetError: the desk cannot be written.
    """
    return _write(desk, name, text)


def _section(result: Result) -> str:
    ended = "" if result.status == "complete" else f" — it ended as {result.status}"
    return f"# {result.agent} ({result.persona}){ended}\n\n{result.text.strip() or '(no text)'}\n"


def _write(desk: Path, name: str, text: str) -> Path:
    """Write atomically, through directories that are no links: an agent may have put one there."""
    try:
        make_desk(desk)
        target = desk / name
        draft = desk / f".{name}.draft"
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
        draft.replace(target)
    except OSError as error:
        raise FleetError(
            f"the desk {desk} cannot be written: {error.strerror or error}",
            hint="free disk space or correct its permissions, then command the agent again",
        ) from error
    return target


def make_desk(desk: Path) -> None:
    """Create the desk, ignored by git, if it is not there yet.

    Raises:
        OSError: it cannot be made, or a link stands in its way.
    """
    for folder in (desk.parent.parent, desk.parent, desk):
        if folder.is_symlink():
            raise NotADirectoryError(20, f"{folder} is a link", str(folder))
        folder.mkdir(exist_ok=True)
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(desk / ".gitignore", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        with os.fdopen(descriptor, "w") as ignore:
            ignore.write("*\n")
