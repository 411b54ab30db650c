"""Streams an unbounded result row by row in constant memory, on a read-only connection of its own.

A bounded read is one hop to the reader's thread (`Store.read`). A history is not bounded: it would hold up every other
read for its length, and fill the memory. It comes from an aiosqlite cursor instead, `CHUNK` rows at a time.
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
"""A stream that is read more slowly than this lets go of its snapshot and starts another behind its last row:
a snapshot that is kept stops the write-ahead log from being emptied."""
BUSY_MILLISECONDS = 10_000
_DIALECT = dialect()
T = TypeVar("T")


@dataclass(frozen=True)
class _Query:
    """A statement as the driver takes it, and what turns a stored value of each column into a Python one."""

    sql: str
    parameters: Sequence[object]
    decoders: Sequence[Callable[[Any], Any] | None]

    def values(self, row: Iterable[Any]) -> list[Any]:
        """The row's values, JSON columns decoded."""
        pairs = zip(self.decoders, row, strict=True)
        return [value if decode is None or value is None else decode(value) for decode, value in pairs]


def _compiled(statement: Select[Any]) -> _Query:
    compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    names: Sequence[str] = compiled.positiontup or ()
    return _Query(str(compiled), [compiled.params[name] for name in names], decoders_of(statement))


@asynccontextmanager
async def connected(path: Path) -> AsyncGenerator[aiosqlite.Connection]:
    """A read-only connection to the database at `path`, on a thread of its own; closed with the context."""
    async with aiosqlite.connect(path, isolation_level=None) as connection:
        await connection.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
        await connection.execute("PRAGMA query_only=ON")
        yield connection


async def rows(path: Path, after: Callable[[T | None], Select[Any]], make: Callable[..., T]) -> AsyncGenerator[T]:
    """All rows of the statement, in its order, each as `make(*columns)`; memory does not grow with their number.

    `after` builds the statement for the rows behind the given one (None: from the first). Close the generator with
    its consumer (`contextlib.aclosing`): it holds a connection and a thread.

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
    """An open cursor that is closed after `SNAPSHOT_SECONDS`, even if nobody reads on."""

    cursor: aiosqlite.Cursor
    closing: asyncio.Task[None] | None = None

    @property
    def is_released(self) -> bool:
        """Whether the time was up before the rows were."""
        return self.closing is not None

    async def next(self) -> list[Any]:
        """The next rows; none at the end, and none once it is released."""
        return [] if self.is_released else list(await self.cursor.fetchmany(CHUNK))

    def release(self) -> None:
        """Close the cursor and with it the snapshot."""
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
