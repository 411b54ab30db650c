"""Histories of any length: streamed row by row, in constant memory, next to all other work."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from sqlalchemy import literal, select

from orchestrator.store.engine.database import Store
from orchestrator.store.turns.events import EventRow, events_after, history
from tests.store.engine.driver import Driver, create, note

pytestmark = pytest.mark.anyio
LONG = 200_000


@pytest.fixture
async def store(store: Store) -> Store:
    """A store with two agents."""
    await store.write(create, 1)
    await store.write(create, 2)
    return store


def all_of(store: Store, agent_id: str | None = None) -> AsyncGenerator[EventRow]:
    return history(store, 0, project=None, agent_id=agent_id)


@pytest.mark.requirement("store:history:constant-memory")
async def test_a_history_of_any_length_is_read_in_constant_memory(driver: Driver, store: Store) -> None:
    driver.add_events(store.path, LONG)
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


async def test_a_history_tells_what_single_reads_tell(driver: Driver, store: Store) -> None:
    driver.add_events(store.path, 700)
    read = await store.read(lambda connection: events_after(connection, 3, project="/p", agent_id="ag_1", limit=9999))
    async with aclosing(history(store, 3, project=None, agent_id="ag_1")) as events:
        assert [event async for event in events] == read
    assert read[-1].body == {"text": "700"}
    assert {event.agent_id async for event in all_of(store, "ag_2")} == {"ag_2"}


async def test_a_history_holds_up_neither_reads_nor_writes(driver: Driver, store: Store) -> None:
    driver.add_events(store.path, 1000)
    async with aclosing(all_of(store)) as events:
        await anext(events)
        assert await store.write(note, "ag_2", "meanwhile") == 3
        assert await store.read(lambda connection: connection.execute(select(literal(1))).scalar_one()) == 1
        told = [event async for event in events]
    assert told[-1].body != {"text": "meanwhile"}, "one view, of the moment when it began"


async def test_a_history_that_is_left_early_leaves_no_thread(driver: Driver, store: Store) -> None:
    driver.add_events(store.path, 1000)
    before = set(threading.enumerate())
    async with aclosing(all_of(store)) as events:
        await anext(events)
        (its_own,) = set(threading.enumerate()) - before
    its_own.join(20)
    assert not its_own.is_alive()
