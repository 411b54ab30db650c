"""What only SQLite has: files, their modes and logs, and what happens when they are damaged."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import aclosing, closing
from pathlib import Path

import pytest
from sqlalchemy import select, text

from orchestrator.errors import StoreError
from orchestrator.store.engine import stream
from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.database import Store, open_store
from orchestrator.store.schema.tables import EVENT
from orchestrator.store.turns.events import EventRow, history
from tests.fixtures.daemon import wait_until
from tests.store.engine.driver import DRIVERS, create, note

pytestmark = pytest.mark.anyio


@pytest.fixture
def engine() -> str:
    """The one that `driver` and `store` are of here."""
    return "sqlite"


@pytest.mark.requirement("store:tables:durable-nouns")
async def test_agents_turns_events_artifacts_inputs_and_leases_are_tables(store: Store) -> None:
    with closing(sqlite3.connect(store.path)) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert {"agent", "turn", "event", "artifact", "input", "lease"} <= names
    assert store.path.stat().st_mode & 0o777 == 0o600


@pytest.fixture(params=["fleet.db", "odd ?#%&=ü' dir/fleet.db"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where the database lies."""
    path = tmp_path / str(request.param)
    path.parent.mkdir(exist_ok=True)
    return path


async def test_every_connection_has_a_write_ahead_log_and_waits_for_the_disk(path: Path) -> None:
    async with open_store(path) as store:
        assert await store.write(_pragmas) == ("wal", 2, 1)
        assert await store.read(_pragmas) == ("wal", 2, 1)
        assert path.exists()
    assert sorted(one.name for one in path.parent.iterdir()) == ["fleet.db", "fleet.db.last"]


def _pragmas(connection: Connection) -> tuple[object, ...]:
    names = ("journal_mode", "synchronous", "foreign_keys")
    return tuple(connection.execute(text(f"PRAGMA {name}")).scalar_one() for name in names)


async def test_a_consumer_that_stops_reading_keeps_no_snapshot_and_misses_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SNAPSHOT_SECONDS", 0.01)
    await store.write(create, 1)
    await store.write(create, 2)
    DRIVERS["sqlite"].add_events(store.path, 1000)
    numbers: list[int] = []
    async with aclosing(history(store, 0, project=None, agent_id=None)) as events:
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


async def test_a_history_of_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError, match="not a database") as failure:
        async for _ in stream.rows(path, lambda _: select(EVENT), EventRow):
            pass
    assert "backup" in failure.value.hint
