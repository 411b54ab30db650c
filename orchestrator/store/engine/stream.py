"""Streams unbounded results row by row in constant memory, each on its own read-only connection.

A bounded read is one hop to the reader thread (`Store.read`). A history is not bounded: it would delay every other
read and fill the memory. It comes from an aiosqlite cursor instead, `CHUNK` rows at a time.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
from sqlalchemy import Select
from sqlalchemy.dialects.sqlite import dialect

from orchestrator.errors import StoreError
from orchestrator.store.engine.jobs import hint_for
from orchestrator.store.engine.prepared import decoders_of

CHUNK = 256
SNAPSHOT_SECONDS = 5.0
"""seconds after which a slow reader's snapshot is released and a new one starts after its last row, because an open
snapshot keeps the write-ahead log from being truncated
"""
BUSY_MILLISECONDS = 10_000
_DIALECT = dialect()
T = TypeVar("T")


@dataclass(frozen=True)
class _Query:
    """A compiled statement, with a converter for each of its columns."""

    sql: str
    parameters: Sequence[object]
    decoders: Sequence[Callable[[Any], Any] | None]

    def values(self, row: Iterable[Any]) -> list[Any]:
        """The values of a row, with JSON columns decoded."""
        pairs = zip(self.decoders, row, strict=True)
        return [value if decode is None or value is None else decode(value) for decode, value in pairs]


def _compiled(statement: Select[Any]) -> _Query:
    compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    names: Sequence[str] = compiled.positiontup or ()
    return _Query(str(compiled), [compiled.params[name] for name in names], decoders_of(statement))


@asynccontextmanager
async def connected(path: Path) -> AsyncGenerator[aiosqlite.Connection]:
    """A read-only connection to the database at `path`, on its own thread; closed with the context."""
    async with aiosqlite.connect(path, isolation_level=None) as connection:
        await connection.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
        await connection.execute("PRAGMA query_only=ON")
        yield connection


async def rows(
    path: Path, after: Callable[[T | None], Select[*tuple[Any, ...]]], make: Callable[..., T]
) -> AsyncGenerator[T]:
    """Yield all rows of the statement in order, each as `make(*columns)`, in constant memory.

    `after` builds the statement for the rows after the given one (None: from the first). Close the generator when you
    stop reading (`contextlib.aclosing`): it holds a connection and a thread.

    Raises:
        StoreError: the database cannot be read.
    """
    last: T | None = None
    try:
        async with connected(path) as connection:
            is_complete = False
            while not is_complete:
                query = _compiled(after(last))
                async with _snapshot(connection, query) as snapshot:
                    while chunk := await snapshot.next():
                        for row in chunk:
                            last = make(*query.values(row))
                            yield last
                is_complete = not snapshot.is_released
    except sqlite3.DatabaseError as error:
        raise StoreError(f"the database cannot be read: {error}", hint=hint_for(error)) from error


@dataclass
class _Snapshot:
    """An open cursor that is closed after `SNAPSHOT_SECONDS`, even if nobody reads from it."""

    cursor: aiosqlite.Cursor
    closing: asyncio.Task[None] | None = None

    @property
    def is_released(self) -> bool:
        """Whether the time was up before all rows were read."""
        return self.closing is not None

    async def next(self) -> list[Any]:
        """Return the next rows; none at the end, and none once it is released."""
        return [] if self.is_released else list(await self.cursor.fetchmany(CHUNK))

    def release(self) -> None:
        """Close the cursor and its snapshot."""
        self.closing = asyncio.ensure_future(self.cursor.close())


@asynccontextmanager
async def _snapshot(connection: aiosqlite.Connection, query: _Query) -> AsyncGenerator[_Snapshot]:
    snapshot = _Snapshot(await connection.execute(query.sql, query.parameters))
    timer = asyncio.get_running_loop().call_later(SNAPSHOT_SECONDS, snapshot.release)
    try:
        yield snapshot
    finally:
        timer.cancel()
        await (snapshot.closing or snapshot.cursor.close())
