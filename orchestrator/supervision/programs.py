"""Finds the programs that Fleet itself runs, never in a directory where an agent works."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from orchestrator import paths


def find(name: str, path: str | None) -> str | None:
    """The absolute path of a program on `path`, the same one while this process lives; None if there is none.

    It skips relative directories, which depend on the current directory, and those of a project or a virtual
    environment, which an agent may write: its next `git` would run outside of every tier of supervision.
    """
    try:
        return _find(name, os.defpath if path is None else path)
    except FileNotFoundError:
        return None


@cache
def _find(name: str, path: str) -> str:
    """Like `find`, but a missing program is not cached, because it may be installed later."""
    for folder in path.split(os.pathsep):
        found = Path(folder, name)
        if found.is_absolute() and os.access(found, os.X_OK) and found.is_file() and not _is_a_projects(found):
            return str(found)
    raise FileNotFoundError(name)


def _is_a_projects(program: Path) -> bool:
    """Whether the program, or the file it links to, is inside a git working tree or a virtual environment."""
    for place in {program.parent, program.resolve().parent}:
        if Path(paths.project_of(place), ".git").exists():
            return True
        if any((above / "pyvenv.cfg").is_file() for above in (place, place.parent)):
            return True
    return False
