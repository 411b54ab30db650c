"""Finds the programs that Fleet itself runs, never in a directory that an agent can write."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from orchestrator import paths


def find(name: str, path: str | None) -> str | None:
    """The absolute path of a program on `path`, cached for the life of this process; None if it is not found.

    It skips relative directories, which depend on the current directory, and directories in a project or virtual
    environment, where an agent could plant a `git` that would then run outside of every supervision tier.
    """
    try:
        return _find(name, os.defpath if path is None else path)
    except FileNotFoundError:
        return None


@cache
def _find(name: str, path: str) -> str:
    """Like `find`, but raises if the program is missing, which is not cached: it may be installed later."""
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
