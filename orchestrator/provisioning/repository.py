"""Reads a repository of the user without git: where it is, and what HEAD and the branches name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

from orchestrator.provisioning.configuration import GitSettings, check_files, read_git_settings
from orchestrator.provisioning.files import ChangesUnknownError, read_bounded

MAX_PACKED_REFS_BYTES = 64 * 2**20
MAX_BRANCHES = 10_000
MAX_SYMBOLIC_REFS = 5
"""in a row"""
_OBJECT_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_HEADS = "refs/heads/"
_REMOTES = "refs/remotes/"
Packed = Callable[[], Mapping[str, str]]
"""reads the packed refs, the first time that it is called"""


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A checkout and its git directories; a linked worktree shares `common` with others."""

    checkout: Path
    git_dir: Path
    common: Path
    settings: GitSettings
    """the repository's own"""

    @property
    def object_format(self) -> str:
        """The hash of its object ids: sha1 or sha256."""
        return self.settings.get("extensions.objectformat", "sha1").lower()


@dataclass(frozen=True, kw_only=True)
class Refs:
    """The commits that branches name."""

    branches: Mapping[str, str]
    """at most 10,000 local ones, by their names"""
    remote: Sequence[str]
    """of at most 10,000 branches of remotes"""


@dataclass(frozen=True, kw_only=True)
class Head:
    """What HEAD names: a commit (None before the first one), and its branch ('' if detached)."""

    commit: str | None
    branch: str


def read_repository(checkout: Path) -> Repository:
    """Find the git directories of the checkout and read its configuration.

    Raises:
        ChangesUnknownError: it is not a checkout, or Fleet cannot read it; the message says why.
    """
    git_dir = _git_dir(checkout)
    if not git_dir.is_dir():
        raise ChangesUnknownError(f"{checkout} is not a git checkout")
    common = _common_dir(git_dir)
    settings = read_git_settings(common / "config")
    found = Repository(checkout=checkout, git_dir=git_dir, common=common, settings=settings)
    if found.object_format not in {"sha1", "sha256"}:
        raise ChangesUnknownError(f"its object ids are {found.object_format[:20]!a}; Fleet reads sha1 and sha256")
    if (storage := settings.get("extensions.refstorage", "files")) != "files":
        raise ChangesUnknownError(f"its branches are stored as {storage[:20]!a}; Fleet reads files")
    return found


def checked_git_dir(checkout: Path, environment: Mapping[str, str]) -> Path:
    """The git directory, if git can read its settings and HEAD without waiting.

    Raises:
        ChangesUnknownError: it would wait for another file, or one cannot be read; the message names it.
    """
    git_dir = _git_dir(checkout)
    common = _common_dir(git_dir)
    check_files([common / "config", git_dir / "config.worktree"], environment)
    found = Repository(checkout=checkout, git_dir=git_dir, common=common, settings={})
    if (head := read_bounded(git_dir / "HEAD")) is not None:
        _resolved(found, os.fsdecode(head).strip(), _read_once(found))
    return git_dir


def shallow_commits(repository: Repository) -> bytes:
    """The commits at which the history of a shallow clone is cut off, one on a line; empty in a whole one.

    Raises:
        ChangesUnknownError: they cannot be read.
    """
    lines = (read_bounded(repository.common / "shallow") or b"").splitlines()
    return b"".join(line + b"\n" for line in lines if _OBJECT_ID.fullmatch(os.fsdecode(line)))


def _git_dir(checkout: Path) -> Path:
    entry = checkout / ".git"
    if entry.is_dir():
        return entry
    prefix, _, path = os.fsdecode(read_bounded(entry) or b"").partition(":")  # a linked worktree or a submodule
    if prefix != "gitdir" or "\0" in path:
        raise ChangesUnknownError(f"{entry} names no git directory")
    return (checkout / path.strip()).resolve()


def _common_dir(git_dir: Path) -> Path:
    file = git_dir / "commondir"
    if (content := read_bounded(file)) is None:
        return git_dir
    if b"\0" in content:
        raise ChangesUnknownError(f"{file} names no git directory")
    return (git_dir / os.fsdecode(content).strip()).resolve()


def head_of(repository: Repository) -> Head:
    """What HEAD names now.

    Raises:
        ChangesUnknownError: it cannot be read.
    """
    content = read_bounded(repository.git_dir / "HEAD")
    if content is None:
        raise ChangesUnknownError(f"{repository.git_dir} has no HEAD")
    text = os.fsdecode(content).strip()
    name = text.removeprefix("ref:").strip() if text.startswith("ref:") else ""
    branch = name.removeprefix(_HEADS) if name.startswith(_HEADS) else ""
    return Head(commit=_resolved(repository, text, _read_once(repository)), branch=branch)


def refs_of(repository: Repository) -> Refs:
    """What the branches name now; packed ones are read once.

    Raises:
        ChangesUnknownError: they cannot be read.
    """
    packed = _read_once(repository)
    branches = _refs_below(repository, _HEADS, packed)
    remote = _refs_below(repository, _REMOTES, packed)
    return Refs(branches=branches, remote=[*remote.values()])


def _refs_below(repository: Repository, prefix: str, packed: Packed) -> dict[str, str]:
    names = (name for name in packed() if name.startswith(prefix))
    found = {name.removeprefix(prefix): packed()[name] for name in islice(names, MAX_BRANCHES)}
    root = repository.common / prefix
    files = (Path(folder, file) for folder, _, files in islice(os.walk(root), MAX_BRANCHES) for file in files)
    for path in islice(files, MAX_BRANCHES):
        name = path.relative_to(root).as_posix()
        if (value := _resolved(repository, f"ref: {prefix}{name}", packed)) is not None:
            found[name] = value
    return found


def _resolved(repository: Repository, text: str, packed: Packed) -> str | None:
    """The object id that the content of a ref leads to."""
    for _ in range(MAX_SYMBOLIC_REFS):
        if not text.startswith("ref:"):
            return text if _OBJECT_ID.fullmatch(text) else None
        name = text.removeprefix("ref:").strip()
        if not name.startswith("refs/") or "\0" in name or ".." in name.split("/"):
            return None
        content = _ref_file(repository, name)
        if content is None:
            return packed().get(name)
        text = os.fsdecode(content).strip()
    return None


def _read_once(repository: Repository) -> Packed:
    return cache(lambda: dict(_packed(repository)))


def _ref_file(repository: Repository, name: str) -> bytes | None:
    is_own = name.startswith(("refs/bisect/", "refs/worktree/", "refs/rewritten/"))
    path = (repository.git_dir if is_own else repository.common) / name
    return None if path.is_dir() else read_bounded(path)


def _packed(repository: Repository) -> Iterator[tuple[str, str]]:
    content = read_bounded(repository.common / "packed-refs", MAX_PACKED_REFS_BYTES) or b""
    for line in content.splitlines():
        value, _, name = os.fsdecode(line).partition(" ")
        if _OBJECT_ID.fullmatch(value):
            yield name, value
