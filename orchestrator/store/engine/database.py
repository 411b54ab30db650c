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
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import sqlalchemy
from sqlalchemy import URL, Engine, Select, create_engine, event

from orchestrator.errors import StoreError
from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.high_water_mark import HighWaterMark, last_event
from orchestrator.store.engine.jobs import Job, JobResult, deliver, is_broken, readable
from orchestrator.store.engine.migrate import migrate
from orchestrator.store.engine.reader import Reader
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
    _writer: Engine
    _reader: Reader
    _loop: asyncio.AbstractEventLoop
    _jobs: queue.SimpleQueue[Job | None] = field(default_factory=queue.SimpleQueue[Job | None])
    _thread: threading.Thread | None = None
    lost_events: int = 0
    """events that the database once held, according to its high-water mark, but not when it was opened"""
    _witness: HighWaterMark | None = None

    async def write(self, op: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the operation in a transaction and return its value once it is durable.

        An exception undoes only the operation's own writes and is raised here. Cancelling the caller does not undo a
        commit in progress.

        Raises:
            StoreError: the database could not be written (full disk, locked by another program).
        """
        if self._thread is None:
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

    def start(self) -> None:
        """Compare the history with its high-water mark, and start the threads."""
        self._witness = witness = HighWaterMark(self.path)
        with self._writer.connect() as connection:
            last = last_event(connection)
        self.lost_events = witness.lost(last)
        witness.note(last)
        self._reader.start()
        self._thread = threading.Thread(target=self._write, name="store-writer", daemon=True)
        self._thread.start()

    async def aclose(self) -> None:
        """Complete queued operations, then close."""
        if thread := self._thread:
            self._thread = None
            self._jobs.put(None)
            await asyncio.to_thread(thread.join)
        await self._reader.aclose()
        self._writer.dispose()
        if self._witness is not None:
            self._witness.close()

    def _write(self) -> None:
        while (job := self._jobs.get()) is not None:
            fates = _commit(self._writer, self._witness, self._batch(job))
            self._loop.call_soon_threadsafe(deliver, fates)

    def _batch(self, first: Job) -> list[Job]:
        jobs = [first]
        while len(jobs) < BATCH:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            jobs.append(job)
        return jobs


def _commit(writer: Engine, witness: HighWaterMark | None, jobs: list[Job]) -> list[JobResult]:
    try:
        with writer.connect() as connection:  # rolled back when returned to the pool, whatever its state
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            fates = [_attempt(connection, job) for job in jobs]
            last = last_event(connection)
            connection.exec_driver_sql("COMMIT")
            if witness is not None:
                witness.note(last)
    except Exception as error:  # noqa: BLE001 - the writer thread must survive any failure of a batch
        failure = readable(error, "written")
        return [JobResult(job, error=failure) for job in jobs]
    return fates


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
    loop = asyncio.get_running_loop()
    reader = Reader(_plain_engine(path, read_only=True), loop)
    store = Store(path, _plain_engine(path, read_only=False), reader, loop)
    store.start()
    try:
        yield store
    finally:
        await store.aclose()
