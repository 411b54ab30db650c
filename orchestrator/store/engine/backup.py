"""Copies a database while others write to it, with SQLite's online backup: a consistent copy, complete or absent."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiosqlite

from orchestrator.domain.text import one_line
from orchestrator.errors import ConflictError, InvalidError, NotFoundError, StoreError
from orchestrator.store.engine.stream import connected

PAGES = 1024
"""pages per step, 4 MB; progress is reported and cancellation noticed between steps"""
BESIDE = ("", "-wal", "-shm", "-journal", ".last")
"""suffixes of the files that make up a database"""


@dataclass(frozen=True, kw_only=True)
class PagesCopied:
    """The progress of a backup."""

    done: int
    total: int
    """in pages"""


Report = Callable[[PagesCopied], None]


async def backup(path: Path, target: Path, *, overwrite: bool = False, report: Report = lambda _: None) -> int:
    """Copy a consistent snapshot of the database at `path` to `target`; returns the size of the copy in bytes.

    `target` appears complete and durable (mode 0600) or not at all; writers are not delayed. `report` is called on
    the event loop.

    Raises:
        NotFoundError: `path` holds no database.
        InvalidError: `target` cannot be a backup: its directory is missing, or it is the database itself.
        ConflictError: `target` exists and `overwrite` was not given.
        StoreError: the database cannot be read or the copy not written, for instance because the disk is full.
    """
    try:
        _check(path, target, overwrite=overwrite)
    except OSError as error:
        hint = "give a shorter path, or one that you may read"
        raise InvalidError(f"{one_line(str(target))} cannot be used: {error.strerror}", hint=hint) from error
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        try:
            part.touch(mode=0o600)
            await _copy(path, part, report)
            await asyncio.to_thread(_publish, part, target, overwrite=overwrite)
        finally:
            part.unlink(missing_ok=True)
    except (sqlite3.DatabaseError, OSError) as error:
        raise StoreError(
            f"the backup {target} cannot be written: {error}",
            hint="free disk space or give another path; nothing was left behind",
        ) from error
    return target.stat().st_size


def _check(path: Path, target: Path, *, overwrite: bool) -> None:
    if not path.is_file():
        raise NotFoundError(f"no database at {path}", hint="FLEET_STATE chooses the state directory")
    if not target.parent.is_dir():
        raise InvalidError(f"{target.parent} is not a directory", hint="create it, or give another path")
    if target.is_dir():
        raise InvalidError(f"{target} is a directory", hint=f"name a file in it: {target / 'fleet.db.bak'}")
    if target.resolve() in {path.resolve().with_name(path.name + end) for end in BESIDE}:
        raise InvalidError(f"{target} belongs to the database itself", hint="give another path")
    if not overwrite and os.path.lexists(target):
        raise _exists(target)


def _exists(target: Path) -> ConflictError:
    return ConflictError(f"{target} exists", hint="give another path, or replace it: fleet backup --force")


class _StoppedError(Exception):
    """Raised on the copying thread once the caller no longer waits."""


async def _copy(path: Path, part: Path, report: Report) -> None:
    """Copy all pages; if the caller is cancelled, wait until no thread writes to `part` any more."""
    stop = threading.Event()
    copying = asyncio.create_task(_pages(path, part, report, stop))
    try:
        await asyncio.shield(copying)
    except asyncio.CancelledError:
        stop.set()
        while not copying.done():  # every further cancellation must wait for the thread, too
            with suppress(asyncio.CancelledError):
                await asyncio.wait([copying])
        copying.exception()
        raise


async def _pages(path: Path, part: Path, report: Report, stop: threading.Event) -> None:
    loop = asyncio.get_running_loop()

    def step(_status: int, remaining: int, total: int) -> None:  # runs on the copying thread
        if stop.is_set():
            raise _StoppedError
        loop.call_soon_threadsafe(report, PagesCopied(done=total - remaining, total=total))

    async with _empty(part) as copy, connected(path) as source:  # source's thread copies, so it is closed first
        await source.execute("BEGIN")  # one snapshot; otherwise each commit of another connection restarts the copy
        await source.execute("SELECT count(*) FROM sqlite_master")
        await source.backup(copy, pages=PAGES, progress=step, sleep=0)


@asynccontextmanager
async def _empty(part: Path) -> AsyncGenerator[aiosqlite.Connection]:
    async with aiosqlite.connect(part, isolation_level=None) as connection:
        await connection.execute("PRAGMA journal_mode=OFF")  # an incomplete copy is deleted, never rolled back
        await connection.execute("PRAGMA synchronous=OFF")  # made durable once, when complete
        yield connection


def _publish(part: Path, target: Path, *, overwrite: bool) -> None:
    _sync(part)
    if overwrite:
        part.replace(target)
    else:
        try:
            os.link(part, target, follow_symlinks=False)
        except FileExistsError:
            raise _exists(target) from None
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
