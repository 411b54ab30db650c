"""Copies the fleet's database to a file, whether or not a daemon uses it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from orchestrator import paths
from orchestrator.domain.text import is_plain
from orchestrator.errors import InvalidError
from orchestrator.store.engine.backup import PagesCopied, backup

__all__ = ["PagesCopied", "back_up"]


async def back_up(
    state: Path, target: Path, *, overwrite: bool = False, report: Callable[[PagesCopied], None] = lambda _: None
) -> int:
    """Copy the database of the state directory to `target` as it is now, and return the copy's size in bytes.

    Agents keep working meanwhile. `target` appears complete or not at all.

    Raises:
        NotFoundError: the state directory has no database yet.
        InvalidError: `target` is relative, a directory, in a missing directory, or the database itself.
        ConflictError: `target` exists and `overwrite` was not given.
        StoreError: the database cannot be read or the copy cannot be written.
    """
    if not target.is_absolute():
        raise InvalidError(f"the path {target} is relative", hint="give an absolute path")
    if not is_plain(str(target)):
        raise InvalidError(f"{str(target)!a} is not a usable path", hint="give one in UTF-8 and without NUL")
    return await backup(paths.database_path(state), target, overwrite=overwrite, report=report)
