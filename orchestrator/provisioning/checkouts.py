"""Finds the git checkout that contains a directory, and names the area in which writers take turns."""

from __future__ import annotations

from pathlib import Path

from orchestrator import untrusted
from orchestrator.domain.checkout import WORKTREE

MAX_LINK_BYTES = 2**12


def checkout_of(directory: Path) -> Path | None:
    """The root of the git checkout that contains the directory; None outside of one.

    A directory that may not be read counts as one, so that its reader learns why that fails.
    """
    for path in (directory, *directory.parents):
        try:
            if (path / ".git").exists():
                return path
        except PermissionError:
            return path
    return None


def write_area(directory: Path) -> str:
    """The name of the lease of those who write in this directory: the root of its checkout, or the directory itself.

    Names of which one contains the other are one lease, because the writer of a project also writes in its submodules
    and folders. A linked worktree is apart from a project that contains it: it exists to be written at the same time.
    """
    root = checkout_of(directory) or directory
    inside = any(_is_linked_worktree(path) for path in (root, *root.parents))
    return f"{WORKTREE if inside else ''}{root}"


def _is_linked_worktree(path: Path) -> bool:
    """Whether `.git` is the file with which git marks a linked worktree; that of a submodule names no `worktrees`."""
    try:
        mark = untrusted.head(path / ".git", MAX_LINK_BYTES)
    except OSError:
        return False
    return mark.startswith(b"gitdir:") and Path(mark.decode(errors="replace").strip()).parent.name == "worktrees"
