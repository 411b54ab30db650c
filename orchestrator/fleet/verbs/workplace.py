"""Decides in which directory a new agent works: where its orchestrator's session works now, or where it is told to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator import paths
from orchestrator.domain.text import is_plain, named
from orchestrator.errors import InvalidError, RefusedError
from orchestrator.provisioning.worktrees import are_of_one_repository

MAX_PATH_CHARACTERS = 4000


def workplace(project: str, roots: Sequence[str] | None, asked: str | None) -> Path:
    """Return the real path of the directory: `asked`, relative to where the session works, or that place itself.

    It is inside the project, or in another worktree of the project's repository. If Fleet does not know which of them
    the session works in now (`roots` is None), the path must be absolute.

    Raises:
        InvalidError: the path does not exist, or is not a directory.
        RefusedError: the path is outside of these; or none was given, and the session has left the project or nobody
            can say where it works.
    """
    home = Path(project).resolve()
    if roots is None and (asked is None or not Path(asked).is_absolute()):
        raise RefusedError(
            "your host did not say in which directory the session works now (its roots/list failed)",
            hint=f"give cwd as an absolute path, e.g. {named(str(home))}",
        )
    here = _session_place(home, roots or ())
    if asked is None:
        return _entered(home, here, roots or ())
    if not is_plain(asked) or len(asked) > MAX_PATH_CHARACTERS:
        raise InvalidError(f"cwd {asked[:80]!a} is not a valid path", hint="give a directory of the project")
    wanted = (here or home) / asked
    try:
        path = wanted.resolve(strict=True)
    except OSError as error:
        raise InvalidError(
            f"cwd {named(str(wanted))} cannot be used: {error.strerror}", hint="create it first, or omit cwd"
        ) from error
    if not path.is_dir():
        raise InvalidError(f"cwd {named(str(path))} is not a directory", hint="give a directory of the project")
    if not _belongs(home, path):
        raise RefusedError(
            f"cwd {named(str(path))} is outside the project {named(str(home))} and no worktree of its repository",
            hint="start your session in that project",
        )
    return path


def _entered(home: Path, here: Path | None, roots: Sequence[str]) -> Path:
    if here is None:
        raise RefusedError(
            f"your session works in {named(roots[0])} now, outside the project {named(str(home))} "
            "in which it was started",
            hint="give cwd, a directory of that project, or start a session where the agent should work",
        )
    return here


def _session_place(project: Path, roots: Sequence[str]) -> Path | None:
    """The checkout that the session works in: the project itself unless it went elsewhere; None if it left it."""
    tops = [Path(paths.project_of(root)) for root in roots]
    if not tops or any(top == project or top in project.parents for top in tops):
        return project
    return next((top for top in tops if _belongs(project, top)), None)


def _belongs(project: Path, path: Path) -> bool:
    if path == project or project in path.parents:
        return True
    return are_of_one_repository(project, Path(paths.project_of(path)))
