"""Jobs for the store's threads, and how their results reach the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import DatabaseError, OperationalError

from orchestrator.errors import StoreError
from orchestrator.store.engine.connection import Connection


@dataclass(frozen=True)
class Job:
    """An operation, and the future that waits for its value."""

    run: Callable[[Connection], Any]
    done: asyncio.Future[Any]


@dataclass(frozen=True)
class JobResult:
    """The result of a job."""

    job: Job
    value: Any = None
    error: BaseException | None = None


def is_broken(error: Exception) -> bool:
    """Whether the file failed, not the operation: no space, I/O error, locked, malformed."""
    return isinstance(error, OperationalError) or type(error) is DatabaseError


def readable(error: Exception, verb: str) -> Exception:
    """Return the error as a readable sentence; `verb`: written, read."""
    if isinstance(error, DatabaseError) and is_broken(error):
        return StoreError(
            f"the database cannot be {verb}: {error.orig}",
            hint=hint_for(error.orig),
        )
    return error


def hint_for(error: BaseException | None) -> str:
    """Return what to do about this error of the driver."""
    if any(word in str(error) for word in ("malformed", "not a database")):
        return "the file is damaged: fleet down, then put a backup in its place (fleet.db.*.bak), or move it away"
    return "free disk space, or end the program that locks it; nothing was half-done"


def deliver(results: Sequence[JobResult]) -> None:
    """Complete the futures; call it on their event loop."""
    for result in results:
        if result.job.done.done():
            continue
        if result.error is not None:
            result.job.done.set_exception(result.error)
        else:
            result.job.done.set_result(result.value)
