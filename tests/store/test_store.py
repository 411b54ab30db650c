"""Database access on a real file: what is reported is durable and complete, and reads never wait."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncGenerator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select

from orchestrator.domain.agent import Status
from orchestrator.errors import ConflictError, StoreError
from orchestrator.store.agents import lifecycle
from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.database import Store, open_store
from orchestrator.store.schema.tables import AGENT
from orchestrator.store.schema.transitions import agent_row
from tests.store.world import agent_values

pytestmark = pytest.mark.anyio
SECONDS = 20


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[Store]:
    async with open_store(tmp_path / "fleet.db") as store:
        yield store


def create(connection: Connection, number: int) -> str:
    values = agent_values(str(number), float(number)) | {"name": f"agent-{number}"}
    return lifecycle.create(connection, values, turn_id=f"tn_{number}", inputs=(), desk=f"desk-{number}")[0]


def counted(path: Path, table: str) -> int:
    """How many rows another program sees, at this moment."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


@pytest.mark.requirement("store:tables:durable-nouns")
async def test_agents_turns_events_artifacts_inputs_and_leases_are_tables(store: Store) -> None:
    with closing(sqlite3.connect(store.path)) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert {"agent", "turn", "event", "artifact", "input", "lease"} <= names
    assert store.path.stat().st_mode & 0o777 == 0o600


async def test_what_a_transaction_told_is_in_the_file_for_everyone(store: Store) -> None:
    assert await store.write(create, 1) == "ag_1"
    assert [counted(store.path, table) for table in ("agent", "turn", "lease")] == [1, 1, 1]
    assert await store.read(lambda connection: connection.execute(select(AGENT.c.name)).scalars().all()) == ["agent-1"]


@pytest.mark.requirement("store:transaction:change-and-event")
async def test_a_change_and_its_event_are_committed_together_or_not_at_all(store: Store) -> None:
    def fail_behind(connection: Connection) -> None:
        create(connection, 1)
        raise ConflictError("changed my mind")

    with pytest.raises(ConflictError, match="changed my mind"):
        await store.write(fail_behind)
    assert [counted(store.path, table) for table in ("agent", "turn", "event", "lease")] == [0, 0, 0, 0]
    await store.write(create, 2)
    await store.write(lifecycle.delete, "ag_2", 3.0)
    with closing(sqlite3.connect(store.path)) as connection:
        kinds = [kind for (kind,) in connection.execute("SELECT kind FROM event ORDER BY seq")]
        numbers = [seq for (seq,) in connection.execute("SELECT seq FROM event ORDER BY id")]
    assert (kinds[0], kinds[-1]) == ("agent.created", "agent.deleted")
    assert numbers == list(range(1, len(kinds) + 1))


@pytest.mark.requirement("store:transaction:change-and-event")
async def test_no_reader_ever_sees_an_agent_without_its_event(store: Store) -> None:
    created = asyncio.gather(*(store.write(create, number) for number in range(300)))
    query = "SELECT (SELECT count(*) FROM agent), (SELECT count(*) FROM event WHERE kind = 'agent.created')"
    looked = 0
    with closing(sqlite3.connect(f"file:{store.path}?mode=ro", uri=True)) as connection:
        while not created.done() or looked == 0:
            rows, events = connection.execute(query).fetchone()
            assert rows == events
            looked += 1
            await asyncio.sleep(0)
    assert len(await created) == 300


@pytest.mark.requirement("store:writer:group-commit")
async def test_operations_that_wait_together_are_committed_at_once(store: Store) -> None:
    held, go_on = threading.Event(), threading.Event()
    seen: list[int] = []

    def hold(connection: Connection) -> None:
        create(connection, 0)
        held.set()
        assert go_on.wait(SECONDS)

    def create_and_look(connection: Connection, number: int) -> None:
        create(connection, number)
        seen.append(counted(store.path, "agent"))

    first = asyncio.create_task(store.write(hold))
    assert await asyncio.to_thread(held.wait, SECONDS)
    others = [asyncio.create_task(store.write(create_and_look, number)) for number in range(1, 51)]
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(first, *others)
    assert seen == [1] * 50
    assert counted(store.path, "agent") == 51


@pytest.mark.requirement("store:writer:group-commit")
async def test_an_operation_that_fails_spoils_none_that_is_committed_with_it(store: Store) -> None:
    results = await asyncio.gather(*(store.write(create, number % 40) for number in range(50)), return_exceptions=True)
    failures = [result for result in results if isinstance(result, BaseException)]
    assert len(failures) == 10
    assert all(isinstance(failure, ConflictError) for failure in failures)
    assert "is taken by ag_0" in str(failures[0])
    assert (counted(store.path, "agent"), counted(store.path, "turn")) == (40, 40)


@pytest.mark.requirement("store:readers:never-blocked")
async def test_readers_go_on_while_a_transaction_is_open(store: Store) -> None:
    await store.write(create, 1)
    held, go_on = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        create(connection, 2)
        held.set()
        assert go_on.wait(SECONDS)

    writing = asyncio.create_task(store.write(hold))
    assert await asyncio.to_thread(held.wait, SECONDS)
    during = await store.read(lambda connection: connection.execute(select(AGENT.c.id)).scalars().all())
    assert not writing.done()
    go_on.set()
    await writing
    assert during == ["ag_1"]
    assert counted(store.path, "agent") == 2


async def test_readers_cannot_write(store: Store) -> None:
    with pytest.raises(StoreError, match="readonly"):
        await store.read(lambda connection: connection.execute(AGENT.delete()))


async def test_a_caller_that_leaves_undoes_no_commit(store: Store) -> None:
    held, go_on = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        held.set()
        assert go_on.wait(SECONDS)
        create(connection, 1)

    leaving = asyncio.create_task(store.write(hold))
    assert await asyncio.to_thread(held.wait, SECONDS)
    leaving.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert (await store.write(agent_row, "ag_1")).name == "agent-1"


async def test_what_is_queued_at_the_end_is_still_written(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    async with open_store(path) as store:
        tasks = [asyncio.create_task(store.write(create, number)) for number in range(100)]
        await asyncio.sleep(0)
    assert len(await asyncio.gather(*tasks)) == 100
    assert counted(path, "agent") == 100
    with pytest.raises(StoreError, match="closed"):
        await store.write(create, 200)


async def test_a_database_that_another_program_locks_is_said_to_be_locked_and_serves_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.store.engine.database.BUSY_MILLISECONDS", 50)
    async with open_store(tmp_path / "fleet.db") as store:
        with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="locked"):
                await store.write(create, 1)
            other.execute("ROLLBACK")
        await store.write(create, 1)
        assert (await store.write(agent_row, "ag_1")).status == Status.QUEUED
