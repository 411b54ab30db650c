"""Finds the worktrees of a repository and the branch of a checkout, from git's files alone: nothing is run.

An agent may have written these files, so they are read bounded, and a worktree counts only if both sides name each
other: the repository lists it, and its own `.git` leads back to the repository.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from orchestrator import untrusted
from orchestrator.domain.text import named
from orchestrator.provisioning.checkouts import checkout_of

MAX_BYTES = 4096
MAX_WORKTREES = 1000
SHOWN_COMMIT = 8
MAX_PLACE_CHARACTERS = 120
MAX_BRANCH_CHARACTERS = 60
ELSEWHERE = ", not the project's own checkout"


def are_of_one_repository(checkout: Path, other: Path) -> bool:
    """Return whether both directories are worktrees (the main one or linked ones) of the same repository."""
    common = _common_dir(checkout)
    if common is None or _common_dir(other) != common:
        return False
    known = _worktrees(common)
    return all(os.path.realpath(one) in known for one in (checkout, other))


def main_checkout_of(checkout: Path) -> Path | None:
    """Return the main checkout, or bare repository, of this linked worktree; None if it is not a linked worktree."""
    common, git_dir = _common_dir(checkout), _git_dir(checkout)
    if common is None or git_dir is None or os.path.realpath(git_dir) == common:
        return None
    if os.path.realpath(checkout) not in _worktrees(common):
        return None
    return Path(common).parent if Path(common).name == ".git" else Path(common)


def branch_of(checkout: Path) -> str:
    """Return the branch that is checked out, a commit's first digits if none is, or '' if that cannot be read."""
    git_dir = _git_dir(checkout)
    head = "" if git_dir is None else _text(git_dir / "HEAD")
    if head.startswith("ref:"):
        return head.removeprefix("ref:").strip().removeprefix("refs/heads/")
    return f"commit {head[:SHOWN_COMMIT]}" if head else ""


def place_of(project: Path, cwd: Path) -> str:
    """Return in words where an agent works, with its branch, if that is not the directory of its project; otherwise ''.

    They say if that is another checkout. A name that is not one plain word is quoted: an agent may have chosen it.
    """
    if cwd == project:
        return ""
    checkout = checkout_of(cwd) or cwd
    elsewhere = "" if checkout == (checkout_of(project) or project) else ELSEWHERE
    shown = os.path.relpath(cwd, project) if project in cwd.parents else str(cwd)
    branch = branch_of(checkout)
    words = named(shown, MAX_PLACE_CHARACTERS)
    return (f"{words} on {named(branch, MAX_BRANCH_CHARACTERS)}" if branch else words) + elsewhere


def _git_dir(checkout: Path) -> Path | None:
    entry = checkout / ".git"
    if entry.is_dir():
        return entry
    prefix, _, path = _text(entry).partition(":")  # a linked worktree or a submodule
    return Path(os.path.realpath(checkout / path.strip())) if prefix == "gitdir" and path.strip() else None


def _common_dir(checkout: Path) -> str | None:
    git_dir = _git_dir(checkout)
    if git_dir is None or not git_dir.is_dir():
        return None
    common = _text(git_dir / "commondir")
    return os.path.realpath(git_dir / common) if common else os.path.realpath(git_dir)


def _worktrees(common: str) -> set[str]:
    """The real paths of the worktrees that the repository lists, the main one among them."""
    found = {str(Path(common).parent)}
    with suppress(OSError):
        for entry in untrusted.names(Path(common), "worktrees")[:MAX_WORKTREES]:
            mark = _text(Path(common) / "worktrees" / entry / "gitdir")
            if mark:
                found.add(os.path.realpath(Path(mark).parent))
    return found


def _text(path: Path) -> str:
    """The line in a small file; '' if the file is missing or irregular, has more lines, or contains a NUL."""
    try:
        line = os.fsdecode(untrusted.head(path, MAX_BYTES)).strip()
    except (OSError, ValueError):
        return ""
    return "" if "\0" in line or "\n" in line else line
