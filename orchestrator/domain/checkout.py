"""Values only: the recorded state of a git checkout, and the difference between two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

WORKTREE = "worktree:"
"""prefix of the name of a linked worktree's lease, which is separate from the lease of a directory around it"""


@dataclass(frozen=True, kw_only=True)
class CheckoutState:
    """A checkout at one moment: the tree of all files that are not ignored, and what HEAD named."""

    tree: str
    head: str | None
    branch: str = ""
    """'' if HEAD is detached"""
    log_bytes: int = 0
    """the length of HEAD's log: what is appended to it says how later commits came"""
    log_end: str = ""
    """a mark of its last entry, which finds the place again when git drops old entries"""
    at: float = field(default=0.0, compare=False)
    """when"""
    large: Mapping[str, str] = field(default_factory=dict[str, str])
    """files too large to read: their size, time and inode stand for their content"""
    nested: Mapping[str, CheckoutState] = field(default_factory=dict[str, "CheckoutState"])
    """submodules and other repositories inside, by path"""


@dataclass(frozen=True, kw_only=True)
class Committed:
    """The commits that a turn made, and what is in them."""

    commit: str
    """the newest"""
    branch: str
    """a branch that ends in it, '' if none does"""
    inside: str = ""
    """the submodule or other inner repository that has it"""
    files: tuple[str, ...]
    """the first 100 paths"""
    files_changed: int
    insertions: int
    deletions: int


@dataclass(frozen=True, kw_only=True)
class CheckoutDiff:
    """What changed between two snapshots."""

    files: tuple[str, ...]
    """the first 100 changed paths, relative to the checkout"""
    files_changed: int
    insertions: int
    deletions: int
    commits: int
    """how many the turn made, or may have made"""
    commits_shared: int = 0
    """of these, how many somebody else may have made"""
    committed: Committed | None = None
    moved: str = ""
    """where HEAD went otherwise: pulled, merged, checked out or reset"""
    files_moved: int = 0
    """files that differ only because HEAD moved; they are not among `files`"""
    shared: tuple[str, ...] = ()
    """the first 100 of `files` that somebody else may have changed"""
    files_shared: int = 0
    shared_with: tuple[str, ...] = ()
    """agents that may have changed or made them; none: the user, or a process in the background"""
    files_of_others: int = 0
    """files that others changed meanwhile; they are not among `files`"""


def state_of(stored: Mapping[str, Any]) -> CheckoutState:
    """Return the state as `asdict` stored it."""
    nested = {path: state_of(inner) for path, inner in stored.get("nested", {}).items()}
    rest = {name: value for name, value in stored.items() if name != "nested"}
    return CheckoutState(**rest, nested=nested)


def trees_of(state: CheckoutState) -> list[str]:
    """Return the tree of the checkout and those of the repositories inside it."""
    return [state.tree, *(tree for inner in state.nested.values() for tree in trees_of(inner))]
