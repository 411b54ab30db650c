"""The one way to the database: a writer thread that commits in groups, and readers that never block it.

Writes are plain functions `op(connection, …)` on SQLAlchemy Core. One thread takes up to 64 queued operations into one
`BEGIN IMMEDIATE`, a SAVEPOINT each, so that `synchronous=FULL` costs one fsync for many (measured: 22,000 operations a
second with 2,000 callers; async SQLAlchemy on the write path was 20 times slower). Reads use aiosqlite; WAL readers
never wait. The store does not know what the operations mean.
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

from sqlalchemy import URL, Connection, Engine, RowMapping, create_engine, event
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlmodel.ext.asyncio.session import AsyncSession

from orchestrator.errors import StoreError
from orchestrator.store.migrate import migrate

__all__ = ["Connection", "RowMapping", "Store", "open_store"]

BATCH = 64
BUSY_MILLISECONDS = 10_000
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class _Job:
    run: Callable[[Connection], Any]
    done: asyncio.Future[Any]


@dataclass(frozen=True)
class _Fate:
    job: _Job
    value: Any = None
    error: BaseException | None = None


@dataclass
class Store:
    """An open database; made by `open_store`, closed by its context."""

    path: Path
    _writer: Engine
    _reader: AsyncEngine
    _loop: asyncio.AbstractEventLoop
    _jobs: queue.SimpleQueue[_Job | None] = field(default_factory=queue.SimpleQueue[_Job | None])
    _thread: threading.Thread | None = None

    async def tx(self, op: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the operation in a transaction and return its value once it is durable.

        Whatever the operation raises undoes its own writes only and is raised here. A cancelled caller does not undo a
        commit under way.

        Raises:
            StoreError: the database could not be written (full disk, locked by another program).
        """
        if self._thread is None:
            raise StoreError("the store is closed", hint="start the daemon again: fleet up")
        job = _Job(lambda connection: op(connection, *args, **kwargs), self._loop.create_future())
        self._jobs.put(job)
        return cast("T", await job.done)

    async def look(self, op: Callable[[Connection], T]) -> T:
        """What a plain function reads on a consistent view of what is committed; it must write nothing."""
        reading = asyncio.ensure_future(self._look(op))
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            await asyncio.wait({reading})  # its thread would answer to a loop that may be gone
            raise

    async def _look(self, op: Callable[[Connection], T]) -> T:
        async with self.read() as session:
            return await session.run_sync(lambda plain: op(plain.connection()))

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncSession]:
        """A session on a consistent view of what is committed; for reading only."""
        async with AsyncSession(self._reader, expire_on_commit=False) as session:
            yield session

    def start(self) -> None:
        """Start the writer thread."""
        self._thread = threading.Thread(target=self._write, name="store-writer", daemon=True)
        self._thread.start()

    async def aclose(self) -> None:
        """Finish what is queued, then close."""
        if thread := self._thread:
            self._thread = None
            self._jobs.put(None)
            await asyncio.to_thread(thread.join)
        await self._reader.dispose()
        self._writer.dispose()

    def _write(self) -> None:
        while (job := self._jobs.get()) is not None:
            fates = _commit(self._writer, self._batch(job))
            self._loop.call_soon_threadsafe(_tell, fates)

    def _batch(self, first: _Job) -> list[_Job]:
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


def _commit(writer: Engine, jobs: list[_Job]) -> list[_Fate]:
    try:
        with writer.connect() as connection:  # gone back to the pool it is rolled back, whatever state it was in
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            fates = [_attempt(connection, job) for job in jobs]
            connection.exec_driver_sql("COMMIT")
    except Exception as error:  # noqa: BLE001 - the writer thread must outlive any failure of a batch
        failure = _readable(error)
        return [_Fate(job, error=failure) for job in jobs]
    return fates


def _attempt(connection: Connection, job: _Job) -> _Fate:
    connection.exec_driver_sql("SAVEPOINT op")
    try:
        value = job.run(connection)
    except Exception as error:
        if _is_broken(error):
            raise  # the database itself failed (disk full, I/O): nothing of this batch may be called done
        connection.exec_driver_sql("ROLLBACK TO op")
        connection.exec_driver_sql("RELEASE op")
        return _Fate(job, error=error)
    connection.exec_driver_sql("RELEASE op")
    return _Fate(job, value=value)


def _is_broken(error: Exception) -> bool:
    """Whether the file failed, not the operation: no space, I/O, locked, malformed."""
    return isinstance(error, OperationalError) or type(error) is DatabaseError


def _readable(error: Exception) -> Exception:
    if isinstance(error, DatabaseError) and _is_broken(error):
        return StoreError(
            f"the database cannot be written: {error.orig}",
            hint="free disk space, or end the program that locks it; nothing was half-done",
        )
    return error


def _tell(fates: list[_Fate]) -> None:
    for fate in fates:
        if fate.job.done.done():
            continue
        if fate.error is not None:
            fate.job.done.set_exception(fate.error)
        else:
            fate.job.done.set_result(fate.value)


def _pragmas(connection: Any, _record: object, *, read_only: bool) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
    cursor.execute("PRAGMA foreign_keys=ON")
    if read_only:
        cursor.execute("PRAGMA query_only=ON")
    cursor.close()


def _writer_engine(path: Path) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path)))

    def connected(connection: Any, record: object) -> None:
        connection.isolation_level = None  # BEGIN IMMEDIATE is ours to say
        _pragmas(connection, record, read_only=False)

    event.listen(engine, "connect", connected)
    return engine


def _reader_engine(path: Path) -> AsyncEngine:
    engine = create_async_engine(URL.create("sqlite+aiosqlite", database=str(path)))

    def connected(connection: Any, record: object) -> None:
        _pragmas(connection, record, read_only=True)

    event.listen(engine.sync_engine, "connect", connected)
    return engine


@asynccontextmanager
async def open_store(path: Path) -> AsyncGenerator[Store]:
    """The database at `path`, brought to the newest schema (after a backup); closed at the end of the context.

    Raises:
        SchemaError: a newer version of Fleet wrote it.
        StoreError: it cannot be opened or is no database.
    """
    await asyncio.to_thread(migrate, path)
    store = Store(path, _writer_engine(path), _reader_engine(path), asyncio.get_running_loop())
    store.start()
    try:
        yield store
    finally:
        await store.aclose()
