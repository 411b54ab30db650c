"""Hand-offs through files: results go from agent to agent without passing through the orchestrator."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator import untrusted
from orchestrator.domain.text import fenced, named, quantity
from orchestrator.errors import FleetError

MAX_TASK_CHARACTERS = 8000


@dataclass(frozen=True, kw_only=True)
class SourceResult:
    """What one agent hands on: its text and the file name for it.

    `status` says how it ended and `changes` what its turn changed, both in Fleet's words; `task` is what it was told,
    for those who judge its result.
    """

    agent: str
    persona: str
    status: str
    produces: str
    text: str
    may_change: bool = False
    """its report is about its own changes, so it has a file of its own even beside others of that name"""
    changes: str = ""
    task: str = ""
    turn: int = 0
    """its ordinal, where several turns of the agent are handed on"""
    left_out: int = 0
    """earlier turns that are not handed on"""


def write_inputs(desk: Path, results: Sequence[SourceResult]) -> list[Path]:
    """Make the desk and write the results into it: one file per name, one heading and one fenced text per result.

    Findings of several agents under one name are one file; reports of agents that change files are one file each.

    Returns the files in the order of their first result.

    Raises:
        FleetError: the desk cannot be written; the turn has not started.
    """
    _make(desk)
    groups: dict[str, list[SourceResult]] = {}
    for result in results:
        groups.setdefault(_file_name(result, results), []).append(result)
    return [_write(desk, name, "\n\n".join(map(_section, group))) for name, group in groups.items()]


def write_result(desk: Path, name: str, text: str) -> Path:
    """Write an agent's own result into its desk, complete.

    Raises:
        FleetError: the desk cannot be written.
    """
    return _write(desk, name, text)


def _file_name(result: SourceResult, results: Sequence[SourceResult]) -> str:
    others = [one for one in results if one.produces == result.produces and one.agent != result.agent]
    if not others or not result.may_change:
        return result.produces
    name = Path(result.produces)
    return f"{name.stem}-{result.agent}{name.suffix}"


def _section(result: SourceResult) -> str:
    ended = "" if result.status == "complete" else f" — {result.status}"
    cut = "\n(cut: the task is longer)" if len(result.task) > MAX_TASK_CHARACTERS else ""
    task = fenced(result.task[:MAX_TASK_CHARACTERS].strip("\n") + cut)
    told = ["Its task was:", task, "Its result:"] if result.task else []
    body = fenced(result.text.strip("\n")) if result.text.strip() else "(no text)"
    missing = f"{quantity(result.left_out, 'earlier turn')} left out" if result.left_out else ""
    known = "; ".join(filter(None, [missing, result.changes]))
    facts = [f"[Fleet's facts: {known}]"] if known else []
    which = f", turn {result.turn}" if result.turn else ""
    return "\n".join([f"# {result.agent} ({named(result.persona)}){which}{ended}", *facts, *told, body, ""])


def _make(desk: Path) -> None:
    """Make the desk if it is missing; its `.gitignore` keeps scratch files out of the project's changes."""
    with _named(desk):
        if not untrusted.is_file(desk.parents[2], _place(desk, ".gitignore")):
            _put(desk, ".gitignore", b"*\n")


def _write(desk: Path, name: str, text: str) -> Path:
    _make(desk)
    with _named(desk):
        _put(desk, name, text.encode("utf-8", "replace"))
    return desk / name


def _place(desk: Path, name: str) -> str:
    return f"{desk.parent.parent.name}/{desk.parent.name}/{desk.name}/{name}"


def _put(desk: Path, name: str, content: bytes) -> None:
    """Write atomically, and only through directories that are not links: an agent may have planted one."""
    untrusted.write(desk.parents[2], _place(desk, name), content, mode=0o644, folder_mode=0o777)


@contextmanager
def _named(desk: Path) -> Generator[None]:
    """Make errors of the system name the desk."""
    try:
        yield
    except OSError as error:
        raise FleetError(
            f"the desk {named(str(desk))} cannot be written: {error.strerror or error}",
            hint="free disk space or correct its permissions, then command the agent again",
        ) from error
