"""Where the programs lie that Fleet itself runs: never where an agent works."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from orchestrator import paths


def find(name: str, path: str | None) -> str | None:
    """The absolute path of a program on `path`, the same one as long as this process lives; None if there is none.

    Left out are relative directories, which lead into whatever directory is current, and those of a project or of a
    virtual environment, which an agent may write: its next `git` would run outside of every tier of supervision.
    """
    try:
        return _find(name, os.defpath if path is None else path)
    except FileNotFoundError:
        return None


@cache
def _find(name: str, path: str) -> str:
    """As `find`; that it is missing is not kept, because somebody may install it."""
    for folder in path.split(os.pathsep):
        found = Path(folder, name)
        if found.is_absolute() and os.access(found, os.X_OK) and found.is_file() and not _is_a_projects(found):
            return str(found)
    raise FileNotFoundError(name)


def _is_a_projects(program: Path) -> bool:
    """Whether the program, or the file that it is a link to, lies in a working tree of git or a virtual environment."""
    for place in {program.parent, program.resolve().parent}:
        if Path(paths.project_of(place), ".git").exists():
            return True
        if any((above / "pyvenv.cfg").is_file() for above in (place, place.parent)):
            return True
    return False
