"""Reads files of a repository that an agent may have written: regular ones only, bounded, and never waiting."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from orchestrator import untrusted
from orchestrator.domain.text import named_path

MAX_READ_BYTES = 2**20
MAX_LINKED_STORES = 5
"""object directories that name further ones in a row"""
_READ_BY_GIT = frozenset({".gitignore", ".gitattributes", ".gitmodules"})


class ChangesUnknownError(Exception):
    """Git could not find out what changed; the message says why."""


def read_bounded(path: Path, limit: int = MAX_READ_BYTES) -> bytes | None:
    """The content of a file of the repository, None if it is missing.

    Raises:
        ChangesUnknownError: it cannot be read, is not a regular file, or is larger.
    """
    try:
        content = untrusted.head(path, limit + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        reason = error.strerror or "cannot be read"
        raise ChangesUnknownError(reason if named_path(path) in reason else f"{named_path(path)}: {reason}") from error
    if len(content) > limit:
        raise ChangesUnknownError(f"{named_path(path)} has more than {limit // 2**20} MiB")
    return content


def check_regular(path: str | Path) -> None:
    """Check that the file, if it exists, is not one that git would wait for.

    Raises:
        ChangesUnknownError: it is a pipe, a socket or a device.
    """
    if is_special(path):
        raise ChangesUnknownError(f"{named_path(path)} is not a regular file, and git would wait for it")


def is_special(path: str | Path) -> bool:
    """Whether the path leads to a pipe, a socket or a device."""
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def check_objects(objects: Path, depth: int = MAX_LINKED_STORES) -> None:
    """Check what git opens by name in a directory of objects, and in those that it names.

    Raises:
        ChangesUnknownError: one is not a regular file; the message names it.
    """
    for place in ("info", "info/commit-graphs", "pack"):
        for name in untrusted.names(objects, place):
            check_regular(objects / place / name)
    for line in (read_bounded(objects / "info" / "alternates") or b"").splitlines():
        if depth > 0 and line and not line.startswith(b"#"):
            check_objects((objects / os.fsdecode(line.replace(b"\0", b""))).resolve(), depth - 1)


def special_files(root: Path, most: int) -> Iterator[Path]:
    """Yield pipes and sockets in the place of files that git reads by their name, the nearest to the root first.

    It stops after `most` entries of the tree.
    """
    folders, seen = [root], 0
    for folder in folders:
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        seen += len(entries)
        for entry in entries:
            if entry.name == ".git" and folder != root:  # git looks whether it is one of a nested repository
                marks = (Path(entry), Path(entry, "HEAD"), Path(entry, "commondir"))
                yield from filter(is_special, marks)
            elif entry.name in _READ_BY_GIT and is_special(entry.path):
                yield Path(entry)
            elif entry.name not in {".git", ".fleet"} and entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry))
        if seen > most:
            return
