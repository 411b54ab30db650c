"""Judges files that git passes through a filter (LFS, git-crypt), without running the filter.

What Fleet reads of such a file is what the filter would turn into something else, so a difference from HEAD says
nothing. Git's own index tells whether git knew the file to be unchanged, and a pointer of Git LFS names the content.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from orchestrator import untrusted
from orchestrator.domain.checkout import CheckoutState
from orchestrator.provisioning import configuration
from orchestrator.provisioning.own_git import OwnGit, believe, copy_index, run, unmark

MAX_POINTER_BYTES = 1024
BLOCK_BYTES = 2**20
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


async def judged(own: OwnGit, now: CheckoutState, differ: Collection[str]) -> tuple[set[str], dict[str, str]]:
    """Split files that differ from HEAD: those that changed, and those of which only their filter could tell.

    Raises:
        ChangesUnknownError: git failed.
    """
    changed, unclear = set(differ), dict(await filtered(own, differ))
    if not unclear or now.head is None:
        return changed, {}
    index = own.folder / "witness"
    await asyncio.to_thread(copy_index, own, index)
    if index.exists():
        await unmark(own, index)
        await asyncio.to_thread(believe, index)
    words = ("diff-index", "--name-only", "-z", now.head, "--", *(f":(literal){path}" for path in unclear))
    doubtful = set((await run(own, *words, index=index)).split("\0")) if index.exists() else set(unclear)
    for path in sorted(unclear):
        is_same = True if path not in doubtful else await _is_pointed_at(own, now.head, path)
        if is_same is not False:
            changed.discard(path)
        if is_same is not None:
            del unclear[path]
    return changed, unclear


async def _is_pointed_at(own: OwnGit, head: str, path: str) -> bool | None:
    """Whether the LFS pointer in HEAD names the content of the file; None if HEAD has no pointer there."""
    listed = await run(own, "ls-tree", "-z", "--long", head, "--", f":(literal){path}")
    if not listed:
        return False
    _mode, _kind, blob, size = listed.partition("\t")[0].split()
    if not size.isdigit() or int(size) > MAX_POINTER_BYTES:
        return None
    pointer = _POINTER.fullmatch(await run(own, "cat-file", "blob", blob))
    if pointer is None:
        return None
    found = await asyncio.to_thread(_digest, own.repository.checkout, path, int(pointer[2]))
    return found == pointer[1]


def _digest(checkout: Path, path: str, size: int) -> str | None:
    """The SHA-256 of the file if it has this size."""
    try:
        with untrusted.opened(checkout, path) as file:
            if file.seek(0, 2) != size:
                return None
            file.seek(0)
            digest = hashlib.sha256()
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
            return digest.hexdigest()
    except (OSError, ValueError):
        return None
