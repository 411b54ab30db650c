"""Rows of processes, durable before anything starts, and of conversations, each line once."""

from __future__ import annotations

import asyncio
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from orchestrator.store.schema.tables import PROCESS
from orchestrator.store.schema.transitions import StaleOwnerError
from orchestrator.store.sessions import processes, transcripts
from orchestrator.store.sessions.transcripts import Line
from tests.store.world import NOON, World, open_world

pytestmark = pytest.mark.anyio


async def intend(world: World, epoch: int, marker: str = "m1") -> None:
    """Record that a session of the agent a is about to start."""
    await world.write(processes.intend, "ag_a", epoch=epoch, marker=marker, tier="C", boot="boot-1", now=world.now)


async def not_ended(world: World) -> list[str]:
    """The markers of which something may be left."""
    return sorted(str(row.marker) for row in await world.rows(select(PROCESS).where(PROCESS.c.ended_at.is_(None))))


async def test_a_process_is_meant_then_born_then_ended(world: World) -> None:
    claim = await world.start("a")
    await intend(world, claim.epoch)
    (row,) = await world.rows(select(PROCESS))
    assert (row.epoch, row.tier, row.boot, row.intended_at, row.pid, row.started_at) == (
        *(claim.epoch, "C", "boot-1", NOON),
        None,
        None,
    )
    world.now += 1
    await world.write(processes.born, "m1", pid=42, started="777", cgroup="/x", now=world.now)
    (row,) = await world.rows(select(PROCESS))
    assert (row.pid, row.started, row.cgroup, row.started_at, row.ended_at) == (42, "777", "/x", NOON + 1, None)
    assert await not_ended(world) == ["m1"]
    await world.write(processes.ended, ["m1"], NOON + 2)
    await world.write(processes.ended, ["m1"], NOON + 9)
    (row,) = await world.rows(select(PROCESS))
    assert row.ended_at == NOON + 2
    assert await not_ended(world) == []


async def test_no_process_is_meant_under_an_epoch_that_is_over(world: World) -> None:
    claim = await world.start("a")
    await world.take_over()
    with pytest.raises(StaleOwnerError):
        await intend(world, claim.epoch)
    assert await world.count("process") == [0]


async def test_a_deleted_agent_starts_no_process(world: World) -> None:
    claim = await world.start("a")
    await world.delete("ag_a")
    with pytest.raises(StaleOwnerError):
        await intend(world, claim.epoch)


async def test_a_marker_names_one_process(world: World) -> None:
    claim = await world.start("a")
    await intend(world, claim.epoch)
    with pytest.raises(IntegrityError):
        await intend(world, claim.epoch)


async def test_only_those_that_are_named_end_and_unknown_ones_harm_nothing(world: World) -> None:
    claim = await world.start("a")
    for marker in ("m1", "m2", "m3"):
        await intend(world, claim.epoch, marker)
    await world.write(processes.ended, ["m1", "m3", "nobody"], NOON)
    assert await not_ended(world) == ["m2"]
    await world.write(processes.ended, [], NOON)
    assert await not_ended(world) == ["m2"]


async def test_a_process_whose_birth_was_never_told_is_looked_for_after_a_crash(world: World) -> None:
    claim = await world.start("a")
    await intend(world, claim.epoch)
    await world.take_over()
    found = await world.store.read(processes.not_ended)
    assert len(found) == 1
    assert await not_ended(world) == ["m1"]


# conversations


async def lines(world: World, agent_id: str = "ag_a") -> list[tuple[str, str]]:
    """The agent's lines with their subpath, in order."""
    subpaths = await world.store.read(lambda connection: transcripts.subpaths(connection, agent_id))
    return [
        (subpath, line.body)
        for subpath in subpaths
        async for line in transcripts.lines_of(world.store, agent_id, subpath)
    ]


async def add(world: World, *given: tuple[str | None, str], subpath: str = "", agent_id: str = "ag_a") -> None:
    """Add lines, each with its id."""
    await world.write(transcripts.append, agent_id, subpath, [Line(uuid=uuid, body=body) for uuid, body in given])


async def test_lines_are_kept_in_the_order_in_which_they_came(world: World) -> None:
    await world.create("a")
    await add(world, ("u1", "one"), (None, "two"))
    await add(world)
    await add(world, ("u3", "three"))
    assert [body for _, body in await lines(world)] == ["one", "two", "three"]


async def test_a_line_that_is_known_is_not_added_again_and_one_without_an_id_is(world: World) -> None:
    await world.create("a")
    for _ in range(2):
        await add(world, ("u1", "one"), (None, "two"))
    assert [body for _, body in await lines(world)] == ["one", "two", "two"]


@pytest.mark.requirement("store:history:constant-memory")
async def test_a_conversation_of_any_length_is_read_in_order_and_in_constant_memory(world: World) -> None:
    await world.create("a")
    line, count = "x" * 1000, 20_000
    for first in range(0, count, 1000):
        await add(world, *[(None, f"{number} {line}") for number in range(first, first + 1000)])
    seen = 0
    tracemalloc.start()
    try:
        async for found in transcripts.lines_of(world.store, "ag_a", ""):
            assert found.body.startswith(f"{seen} ")
            seen += 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == count
    assert peak < count * len(line) / 10


async def test_the_first_of_two_lines_with_one_id_stays(world: World) -> None:
    await world.create("a")
    await add(world, ("u1", "first"), ("u1", "second"))
    await add(world, ("u1", "third"), ("u2", "other"))
    assert [body for _, body in await lines(world)] == ["first", "other"]


async def test_conversations_of_sub_agents_and_of_other_agents_are_their_own(world: World) -> None:
    for name in ("a", "b"):
        await world.create(name)
    await add(world, ("u1", "mine"))
    await add(world, ("u1", "a sub-agent's"), subpath="sub/1.jsonl")
    await add(world, ("u1", "theirs"), agent_id="ag_b")
    assert await lines(world) == [("", "mine"), ("sub/1.jsonl", "a sub-agent's")]
    assert await lines(world, "ag_b") == [("", "theirs")]


BATCHES = st.lists(
    st.lists(st.tuples(st.none() | st.sampled_from("abcdef"), st.text(max_size=4)), max_size=6), max_size=6
)


@pytest.mark.requirement("session:mirror:vendor-contracts")
@given(batches=BATCHES)
@settings(max_examples=40, deadline=None)
def test_a_mirror_holds_each_line_once_in_the_order_of_its_first_coming(
    batches: list[list[tuple[str | None, str]]],
) -> None:
    async def run(path: Path) -> None:
        async with open_world(path) as world:
            await world.create("a")
            expected: list[str] = []
            known: set[str] = set()
            for batch in batches:
                await add(world, *batch)
                for uuid, body in batch:
                    if uuid is None or uuid not in known:
                        expected.append(body)
                    known |= {uuid} if uuid else set()
            assert [body for _, body in await lines(world)] == expected

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder) / "fleet.db"))
