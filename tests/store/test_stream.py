"""Histories of any length: streamed row by row, in constant memory, next to all other work."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import tracemalloc
from collections.abc import AsyncGenerator
from contextlib import aclosing, closing
from pathlib import Path

import pytest
from sqlalchemy import literal, select

from orchestrator.errors import StoreError
from orchestrator.store.engine import stream
from orchestrator.store.engine.database import Store, open_store
from orchestrator.store.schema.tables import EVENT
from orchestrator.store.turns.events import EventRow, events_after, history
from tests.fixtures.daemon import wait_until
from tests.store.test_survival import create, note

pytestmark = pytest.mark.anyio
LONG = 200_000
ADD = """WITH RECURSIVE number(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM number WHERE n < {count})
    INSERT INTO event (agent_id, seq, turn, kind, at, body)
    SELECT 'ag_1', 1000 + n, 1, 'progress', n, '{{"text": "' || n || '"}}' FROM number"""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[Store]:
    async with open_store(tmp_path / "fleet.db") as store:
        await store.write(create, 1)
        await store.write(create, 2)
        yield store


def add(path: Path, count: int) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(ADD.format(count=count))


def all_of(store: Store, agent_id: str | None = None) -> AsyncGenerator[EventRow]:
    return history(store, 0, project=None, agent_id=agent_id)


@pytest.mark.requirement("store:history:constant-memory")
async def test_a_history_of_any_length_is_read_in_constant_memory(store: Store) -> None:
    add(store.path, LONG)
    tracemalloc.start()
    seen = 0
    try:
        async for _ in all_of(store):
            seen += 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == LONG + 4
    assert peak < 3_000_000


async def test_a_history_tells_what_single_reads_tell(store: Store) -> None:
    add(store.path, 700)
    read = await store.read(lambda connection: events_after(connection, 3, project="/p", agent_id="ag_1", limit=9999))
    async with aclosing(history(store, 3, project=None, agent_id="ag_1")) as events:
        assert [event async for event in events] == read
    assert read[-1].body == {"text": "700"}
    assert {event.agent_id async for event in all_of(store, "ag_2")} == {"ag_2"}


async def test_a_history_holds_up_neither_reads_nor_writes(store: Store) -> None:
    add(store.path, 1000)
    async with aclosing(all_of(store)) as events:
        await anext(events)
        assert await store.write(note, "ag_2", "meanwhile") == 3
        assert await store.read(lambda connection: connection.execute(select(literal(1))).scalar_one()) == 1
        told = [event async for event in events]
    assert told[-1].body != {"text": "meanwhile"}, "one view, of the moment when it began"


async def test_a_consumer_that_stops_reading_keeps_no_snapshot_and_misses_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SNAPSHOT_SECONDS", 0.01)
    add(store.path, 1000)
    numbers: list[int] = []
    async with aclosing(all_of(store)) as events:
        numbers.append((await anext(events)).id)
        await store.write(note, "ag_2", "meanwhile")
        await asyncio.to_thread(wait_until, lambda: not _is_busy(store.path), "an empty log", seconds=20)
        last = None
        async for event in events:
            numbers.append(event.id)
            last = event
    assert last is not None
    assert last.body == {"text": "meanwhile"}
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 1005


def _is_busy(path: Path) -> bool:
    """Whether the log cannot be emptied: somebody holds a snapshot that is older than its end."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA busy_timeout=0")
        return bool(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])


async def test_a_history_that_is_left_early_leaves_no_thread(store: Store) -> None:
    add(store.path, 1000)
    before = set(threading.enumerate())
    async with aclosing(all_of(store)) as events:
        await anext(events)
        (its_own,) = set(threading.enumerate()) - before
    its_own.join(20)
    assert not its_own.is_alive()


async def test_a_history_of_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="not a database") as failure:
        async for _ in stream.rows(path, lambda _: select(EVENT), EventRow):
            pass
    assert "backup" in failure.value.hint
