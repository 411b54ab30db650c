"""Database access on a real file: what is reported is durable and complete, and reads never wait."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from sqlalchemy import select

from orchestrator.domain.agent import Status
from orchestrator.errors import ConflictError, StoreError
from orchestrator.store.agents import lifecycle
from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.database import Store
from orchestrator.store.schema.tables import AGENT
from orchestrator.store.schema.transitions import agent_row
from tests.store.engine.driver import Driver, create, note

pytestmark = pytest.mark.anyio
SECONDS = 20


async def test_what_a_transaction_told_is_in_the_file_for_everyone(driver: Driver, store: Store) -> None:
    assert await store.write(create, 1) == "ag_1"
    assert [driver.count(store.path, table) for table in ("agent", "turn", "lease")] == [1, 1, 1]
    assert await store.read(lambda connection: connection.execute(select(AGENT.c.name)).scalars().all()) == ["agent-1"]


@pytest.mark.requirement("store:transaction:change-and-event")
async def test_a_change_and_its_event_are_committed_together_or_not_at_all(driver: Driver, store: Store) -> None:
    def fail_behind(connection: Connection) -> None:
        create(connection, 1)
        raise ConflictError("changed my mind")

    with pytest.raises(ConflictError, match="changed my mind"):
        await store.write(fail_behind)
    assert [driver.count(store.path, table) for table in ("agent", "turn", "event", "lease")] == [0, 0, 0, 0]
    await store.write(create, 2)
    await store.write(lifecycle.delete, "ag_2", 3.0)
    kinds = [kind for (kind,) in driver.query(store.path, "SELECT kind FROM event ORDER BY seq")]
    numbers = [seq for (seq,) in driver.query(store.path, "SELECT seq FROM event ORDER BY id")]
    assert (kinds[0], kinds[-1]) == ("agent.created", "agent.deleted")
    assert numbers == list(range(1, len(kinds) + 1))


@pytest.mark.requirement("store:transaction:change-and-event")
async def test_no_reader_ever_sees_an_agent_without_its_event(driver: Driver, store: Store) -> None:
    created = asyncio.gather(*(store.write(create, number) for number in range(300)))
    query = "SELECT (SELECT count(*) FROM agent), (SELECT count(*) FROM event WHERE kind = 'agent.created')"
    looked = 0
    while not created.done() or looked == 0:
        ((rows, events),) = driver.query(store.path, query)
        assert rows == events
        looked += 1
        await asyncio.sleep(0)
    assert len(await created) == 300


@pytest.mark.requirement("store:writer:group-commit")
async def test_operations_that_wait_together_are_committed_at_once(driver: Driver, store: Store) -> None:
    held, go_on = threading.Event(), threading.Event()
    seen: list[int] = []

    def hold(connection: Connection) -> None:
        create(connection, 0)
        held.set()
        assert go_on.wait(SECONDS)

    def create_and_look(connection: Connection, number: int) -> None:
        create(connection, number)
        seen.append(driver.count(store.path, "agent"))

    first = asyncio.create_task(store.write(hold))
    assert await asyncio.to_thread(held.wait, SECONDS)
    others = [asyncio.create_task(store.write(create_and_look, number)) for number in range(1, 51)]
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(first, *others)
    assert seen == [1] * 50
    assert driver.count(store.path, "agent") == 51


@pytest.mark.requirement("store:writer:group-commit")
async def test_an_operation_that_fails_spoils_none_that_is_committed_with_it(driver: Driver, store: Store) -> None:
    results = await asyncio.gather(*(store.write(create, number % 40) for number in range(50)), return_exceptions=True)
    failures = [result for result in results if isinstance(result, BaseException)]
    assert len(failures) == 10
    assert all(isinstance(failure, ConflictError) for failure in failures)
    assert "is taken by ag_0" in str(failures[0])
    assert (driver.count(store.path, "agent"), driver.count(store.path, "turn")) == (40, 40)


@pytest.mark.requirement("store:readers:never-blocked")
async def test_readers_go_on_while_a_transaction_is_open(driver: Driver, store: Store) -> None:
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
    assert driver.count(store.path, "agent") == 2


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


async def test_what_is_queued_at_the_end_is_still_written(driver: Driver, tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    async with driver.open(path) as store:
        tasks = [asyncio.create_task(store.write(create, number)) for number in range(100)]
        await asyncio.sleep(0)
    assert len(await asyncio.gather(*tasks)) == 100
    assert driver.count(path, "agent") == 100
    with pytest.raises(StoreError, match="closed"):
        await store.write(create, 200)


async def test_a_database_that_another_program_locks_is_said_to_be_locked_and_serves_again(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.store.engine.database.BUSY_MILLISECONDS", 50)
    async with driver.open(tmp_path / "fleet.db") as store:
        with driver.locked(store.path):
            with pytest.raises(StoreError, match="locked") as failure:
                await store.write(create, 1)
            assert "end the program that locks it" in failure.value.hint
        await store.write(create, 1)
        assert (await store.write(agent_row, "ag_1")).status == Status.QUEUED


@pytest.mark.requirement("store:transaction:change-and-event")
async def test_crowds_of_writers_keep_every_agents_events_dense(store: Store) -> None:
    for number in range(4):
        await store.write(create, number)
    numbers = await asyncio.gather(*[store.write(note, f"ag_{i % 4}", "x") for i in range(400)])
    for agent in range(4):
        mine = [seq for i, seq in enumerate(numbers) if i % 4 == agent]
        assert mine == list(range(3, 103))
