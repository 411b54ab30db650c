"""Retention: what nobody will ask for again goes after thirty days, a batch at a time; nothing else goes."""

from __future__ import annotations

import pytest

from orchestrator.store import retention
from orchestrator.store.sessions import processes, transcripts
from tests.store.world import DAY, NOON, World

pytestmark = pytest.mark.anyio
KEPT = ("agent", "turn", "event", "question", "input", "budget", "artifact")
PRUNED = ("process", "lease", "command", "transcript")


async def prune(world: World) -> int:
    """Delete what is old; how many rows that were."""
    return await world.write(retention.prune, world.now)


async def used(world: World, name: str) -> None:
    """An agent that has worked, in a process, by a command, with a conversation."""
    claim = await world.start(name, writes=True, checkout=f"/{name}")
    await world.write(processes.intend, claim.agent_id, epoch=1, marker=name, tier="C", boot="b", now=world.now)
    await world.write(processes.ended, [name], world.now)
    await world.write(transcripts.append, claim.agent_id, "", [transcripts.Line(uuid=None, body="{}")])
    await world.command(claim.agent_id, call_key=f"key-{name}")
    await world.finish(claim)


@pytest.mark.requirement("store:retention:thirty-days")
async def test_what_is_thirty_days_old_goes_and_agents_turns_and_events_stay(world: World) -> None:
    await used(world, "a")
    await world.delete("ag_a")
    kept = await world.count(*KEPT)
    assert await world.count(*PRUNED) == [1, 2, 1, 1]
    world.now = NOON + 30 * DAY
    assert await prune(world) == 0
    world.now += 1
    assert await prune(world) == 5
    assert await world.count(*PRUNED) == [0, 0, 0, 0]
    assert await world.count(*KEPT) == kept
    assert await prune(world) == 0


async def test_what_is_in_use_stays_however_old_it_is(world: World) -> None:
    claim = await world.start("a", writes=True)
    await world.write(processes.intend, "ag_a", epoch=claim.epoch, marker="m", tier="C", boot="b", now=world.now)
    await world.write(transcripts.append, "ag_a", "", [transcripts.Line(uuid=None, body="{}")])
    world.now += 1_000 * DAY
    assert await prune(world) == 0
    assert await world.held() == {"/project": "ag_a"}
    assert await world.count("process", "lease", "transcript") == [1, 2, 1]


async def test_the_conversation_of_a_living_agent_stays_and_that_of_a_deleted_one_goes(world: World) -> None:
    for name in ("kept", "gone"):
        await used(world, name)
    await world.delete("ag_gone")
    world.now += 31 * DAY
    await prune(world)
    left = [await world.store.read(lambda c, one=one: transcripts.subpaths(c, f"ag_{one}")) for one in ("kept", "gone")]
    assert [len(lines) for lines in left] == [1, 0]


async def test_young_rows_beside_old_ones_stay(world: World) -> None:
    await world.create("a")
    for number in range(3):
        await world.command("ag_a", call_key=f"key-{number}")
        world.now += 20 * DAY
    assert await prune(world) == 2
    again = await world.command("ag_a", call_key="key-2")
    assert again.happened == "added to the task of its queued turn"
    assert await world.count("command") == [1]


async def test_a_batch_bounds_what_one_transaction_deletes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    await world.create("a")
    for number in range(5):
        await world.command("ag_a", call_key=f"key-{number}")
    world.now += 31 * DAY
    assert [await prune(world) for _ in range(4)] == [2, 2, 1, 0]
