"""Judges files that git passes through a filter (LFS, git-crypt), without running the filter.

What Fleet reads of such a file is what the filter would turn into something else, so a difference from HEAD says
nothing. Git's own index tells whether git knew the file to be unchanged, and a pointer of Git LFS names the content.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator import untrusted
from orchestrator.domain.checkout import CheckoutState
from orchestrator.provisioning import configuration
from orchestrator.provisioning.own_git import VIEW, OwnGit, believe, copy_index, run, unmark

MAX_POINTER_BYTES = 1024
BLOCK_BYTES = 2**20
MAX_DIGESTED_BYTES = 64 * 2**20
"""of all files of one look whose content a pointer names; beyond it they are said to be unknown"""
_POINTER = re.compile(r"version \S+\n(?:ext-\S+ \S+\n)*oid sha256:([0-9a-f]{64})\nsize (\d+)\n")


async def filtered(own: OwnGit, paths: Collection[str]) -> Mapping[str, str]:
    """The filters of those paths that have one which the user's git would run.

    Raises:
        ChangesUnknownError: git failed.
    """
    known = configuration.filters(own.settings)
    if not known or not paths:
        return {}
    text = "".join(f"{path}\0" for path in paths)
    listed = (await run(own, "check-attr", "-z", "--stdin", "filter", input_text=text)).split("\0")
    return {path: name for path, _, name in zip(*[iter(listed)] * 3, strict=False) if name in known}


@dataclass(frozen=True, kw_only=True)
class _Pointer:
    """What a pointer of Git LFS names."""

    digest: str
    size: int


_NOTHING = _Pointer(digest="", size=-1)


async def judged(own: OwnGit, now: CheckoutState, differ: Collection[str]) -> tuple[set[str], dict[str, str]]:
    """Split the files that differ from HEAD into those that changed and, with the reason, those that may have.

    Raises:
        ChangesUnknownError: git failed.
    """
    by = await filtered(own, differ)
    if not by or now.head is None:
        return set(differ), {}
    changed: set[str] = set(differ) - by.keys()
    unknown: dict[str, str] = {}
    left = MAX_DIGESTED_BYTES
    for path in sorted(await _doubtful(own, now.head, [*by])):
        pointer = await _pointer(own, now.head, path)
        if pointer is None:
            unknown[path] = f"filter {by[path]} is not run"
        elif not await asyncio.to_thread(_has_size, own.repository.checkout, path, pointer.size):
            changed.add(path)
        elif pointer.size > left:
            unknown[path] = f"too large to read, and filter {by[path]} is not run"
        else:
            left -= pointer.size
            found = await asyncio.to_thread(_digest, own.repository.checkout, path, pointer.size)
            changed |= set() if found == pointer.digest else {path}
    return changed, unknown


async def _doubtful(own: OwnGit, head: str, paths: Sequence[str]) -> set[str]:
    """Those of the paths that git's own index does not know to be as in HEAD."""
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=VIEW, dir=own.folder.parent))  # of this call alone
    try:
        index = folder / "index"
        await asyncio.to_thread(copy_index, own, index)
        if not index.exists():
            return set(paths)
        await unmark(own, index)
        await asyncio.to_thread(believe, index)
        words = ("diff-index", "--name-only", "-z", head, "--", *(f":(literal){path}" for path in paths))
        return set((await run(own, *words, index=index)).split("\0")) & set(paths)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _pointer(own: OwnGit, head: str, path: str) -> _Pointer | None:
    """The LFS pointer in HEAD, None if another content is there; where nothing is, a pointer to nothing."""
    listed = await run(own, "ls-tree", "-z", "--long", head, "--", f":(literal){path}")
    if not listed:
        return _NOTHING
    _mode, _kind, blob, size = listed.partition("\t")[0].split()
    if not size.isdigit() or int(size) > MAX_POINTER_BYTES:
        return None
    pointer = _POINTER.fullmatch(await run(own, "cat-file", "blob", blob))
    return pointer and _Pointer(digest=pointer[1], size=int(pointer[2]))


def _has_size(checkout: Path, path: str, size: int) -> bool:
    try:
        with untrusted.opened(checkout, path) as file:
            return os.fstat(file.fileno()).st_size == size
    except (OSError, ValueError):
        return False


def _digest(checkout: Path, path: str, size: int) -> str | None:
    """The SHA-256 of the first `size` bytes of the file."""
    digest = hashlib.sha256()
    try:
        with untrusted.opened(checkout, path) as file:
            while block := file.read(min(BLOCK_BYTES, size)):
                digest.update(block)
                size -= len(block)
    except (OSError, ValueError):
        return None
    return digest.hexdigest()
