"""Access to the database: one writer thread that commits in groups, and readers that never block it.

Writes are plain functions `op(connection, …)` on SQLAlchemy Core. One thread takes up to 64 queued operations into one
`BEGIN IMMEDIATE`, a SAVEPOINT each, so that `synchronous=FULL` costs one fsync for many (measured: 22,000 operations a
second with 2,000 callers; async SQLAlchemy on the write path was 20 times slower). Reads are plain functions, too,
each one hop to a reader thread; in WAL mode they never wait. This module does not know what operations mean.

One process owns a database. Operations run one after the other on its writer thread, so what an operation reads stays
true until it commits: it takes no locks. ADR 25 lists the operations that rely on this, which say so.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import sqlalchemy
from sqlalchemy import URL, Engine, Select, create_engine, event

from orchestrator.errors import StoreError
from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.high_water_mark import HighWaterMark, last_event
from orchestrator.store.engine.jobs import Job, JobResult, deliver, is_broken, readable
from orchestrator.store.engine.migrate import migrate
from orchestrator.store.engine.reader import Reader, open_reader
from orchestrator.store.engine.stream import rows

BATCH = 64
BUSY_MILLISECONDS = 10_000
CACHE_KB = 16_384
"""cache of reader and writer, in pages: a thousand agents do not fit into SQLite's default of 2 MB, and reading them
again each time takes three times as long (measured)
"""
P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class Store:
    """An open database; created by `open_store`, which closes it with its context."""

    path: Path
    lost_events: int
    """events that the database once held, according to its high-water mark, but not when it was opened"""
    _reader: Reader
    _jobs: queue.SimpleQueue[Job | None]
    """what the writer thread does, in order; None ends it"""
    _loop: asyncio.AbstractEventLoop
    _is_open: bool = True

    async def write(self, op: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the operation in a transaction and return its value once it is durable.

        An exception undoes only the operation's own writes and is raised here. Cancelling the caller does not undo a
        commit in progress.

        Raises:
            StoreError: the database could not be written (full disk, locked by another program).
        """
        if not self._is_open:
            raise StoreError("the store is closed", hint="start the daemon again: fleet up")
        job = Job(lambda connection: op(connection, *args, **kwargs), self._loop.create_future())
        self._jobs.put(job)
        return cast("T", await job.done)

    async def read(self, op: Callable[[Connection], T]) -> T:
        """Run the function on a consistent view of what is committed and return its value; it must not write.

        Raises:
            StoreError: the database cannot be read.
        """
        return await self._reader.read(op)

    def stream(
        self, after: Callable[[T | None], Select[*tuple[Any, ...]]], make: Callable[..., T]
    ) -> AsyncGenerator[T]:
        """Yield the rows of a statement in constant memory, each as `make(*columns)`.

        It has its own read-only connection, so it delays no other read; close it when you stop reading
        (`contextlib.aclosing`). `after` builds the statement for the rows after a given one, or for all.
        """
        return rows(self.path, after, make)

    def close(self) -> None:
        """Accept nothing more; the writer thread ends once what is queued is done."""
        self._is_open = False
        self._jobs.put(None)


def _write_jobs(
    writer: Engine, mark: HighWaterMark, jobs: queue.SimpleQueue[Job | None], loop: asyncio.AbstractEventLoop
) -> None:
    """The writer thread."""
    while (job := jobs.get()) is not None:
        loop.call_soon_threadsafe(deliver, _commit(writer, mark, _batch(job, jobs)))


def _batch(first: Job, jobs: queue.SimpleQueue[Job | None]) -> list[Job]:
    batch = [first]
    while len(batch) < BATCH:
        try:
            job = jobs.get_nowait()
        except queue.Empty:
            break
        if job is None:
            jobs.put(None)
            break
        batch.append(job)
    return batch


def _commit(writer: Engine, mark: HighWaterMark, jobs: list[Job]) -> list[JobResult]:
    try:
        with writer.connect() as connection:  # rolled back when returned to the pool, whatever its state
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            results = [_attempt(connection, job) for job in jobs]
            last = last_event(connection)
            connection.exec_driver_sql("COMMIT")
            mark.note(last)
    except Exception as error:  # noqa: BLE001 - the writer thread must survive any failure of a batch
        failure = readable(error, "written")
        return [JobResult(job, error=failure) for job in jobs]
    return results


def _attempt(connection: sqlalchemy.Connection, job: Job) -> JobResult:
    connection.exec_driver_sql("SAVEPOINT op")
    try:
        value = job.run(connection)
    except Exception as error:
        if is_broken(error):
            raise  # the database itself failed (disk full, I/O): nothing in this batch may be reported as done
        connection.exec_driver_sql("ROLLBACK TO op")
        connection.exec_driver_sql("RELEASE op")
        return JobResult(job, error=error)
    connection.exec_driver_sql("RELEASE op")
    return JobResult(job, value=value)


def _pragmas(connection: Any, _record: object, *, read_only: bool) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
    cursor.execute("PRAGMA foreign_keys=ON")
    if read_only:
        cursor.execute("PRAGMA query_only=ON")
    cursor.close()


def _plain_engine(path: Path, *, read_only: bool) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path)))

    def connected(connection: Any, record: object) -> None:
        connection.isolation_level = None  # this module issues BEGIN itself
        _pragmas(connection, record, read_only=read_only)
        connection.execute(f"PRAGMA cache_size=-{CACHE_KB}")

    event.listen(engine, "connect", connected)
    return engine


@asynccontextmanager
async def open_store(path: Path) -> AsyncGenerator[Store]:
    """Open the database at `path`, upgraded to the newest schema (after a backup); closed at the end of the context.

    Raises:
        SchemaError: a newer version of Fleet wrote it.
        StoreError: it cannot be opened or is not a database.
    """
    await migrate(path)
    loop, jobs = asyncio.get_running_loop(), queue.SimpleQueue[Job | None]()
    with ExitStack() as closing:
        writer = _plain_engine(path, read_only=False)
        closing.callback(writer.dispose)
        mark = HighWaterMark(path)
        closing.callback(mark.close)
        with writer.connect() as connection:
            last = last_event(connection)
        lost_events = mark.lost(last)
        mark.note(last)
        async with open_reader(_plain_engine(path, read_only=True), loop) as reader:
            store = Store(path, lost_events, reader, jobs, loop)
            thread = threading.Thread(
                target=_write_jobs, args=(writer, mark, jobs, loop), name="store-writer", daemon=True
            )
            thread.start()
            try:
                yield store
            finally:
                store.close()
                await asyncio.to_thread(thread.join)
