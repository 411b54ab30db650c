"""Values only: the recorded state of a git checkout, and the difference between two."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CheckoutState:
    """A checkout at one moment: the tree of all files that are not ignored, and the commit at HEAD."""

    tree: str
    head: str | None


@dataclass(frozen=True, kw_only=True)
class CheckoutDiff:
    """What changed between two snapshots."""

    files: tuple[str, ...]
    """the first 100 changed paths, relative to the checkout"""
    files_changed: int
    insertions: int
    deletions: int
    commits: int
