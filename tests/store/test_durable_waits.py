"""Durable waits: begun once per key, ended once, kept for a while, and tied to their orchestrator's question."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.domain.durable_wait import DurableWaitStatus, WaitEnd
from orchestrator.domain.wait import Wait, WaitKind
from orchestrator.store.agents import orchestrator_waits
from orchestrator.store.engine.connection import Connection
from orchestrator.store.schema.transitions import StaleOwnerError, touched_topics
from orchestrator.store.turns import turns
from orchestrator.store.waits import durable_waits
from tests.store.world import DAY, HOUR, NOON, World

pytestmark = pytest.mark.anyio
DONE, CANCELLED = DurableWaitStatus.COMPLETED, DurableWaitStatus.CANCELLED


async def end(world: World, wait_id: str, status: DurableWaitStatus = DONE, **values: Any) -> bool:
    """End the wait; whether this did."""
    return await world.write(orchestrator_waits.end, wait_id, status, world.now, WaitEnd(**values))


async def found(world: World, wait_id: str) -> Any:
    """The wait as its client finds it."""
    return await world.store.read(lambda connection: durable_waits.by_id(connection, wait_id, world.now))


async def under_way(world: World) -> list[str]:
    """Ids of the waits that have not ended."""
    return [row.id for row in await world.store.read(durable_waits.under_way)]


async def test_a_wait_is_under_way_from_its_beginning(world: World) -> None:
    assert await world.begin_wait("sl_1", agents=["ag_a"], until="any") == "sl_1"
    row = await found(world, "sl_1")
    assert (row.status, row.agents, row.until, row.created_at, row.result, row.outcomes) == (
        *("working", ["ag_a"], "any", NOON),
        "",
        [],
    )
    assert await under_way(world) == ["sl_1"]


async def test_the_same_key_begins_one_wait(world: World) -> None:
    assert await world.begin_wait("sl_1", call_key="key") == "sl_1"
    assert await world.begin_wait("sl_2", call_key="key") == "sl_1"
    assert await world.begin_wait("sl_3", call_key="other") == "sl_3"
    assert await world.count("durable_wait") == [2]


async def test_the_key_of_an_ended_wait_still_finds_it(world: World) -> None:
    await world.begin_wait("sl_1", call_key="key")
    await end(world, "sl_1", result="all done")
    assert await world.begin_wait("sl_2", call_key="key") == "sl_1"
    row = await world.store.read(lambda connection: durable_waits.by_key(connection, "key"))
    assert row is not None
    assert (row.id, row.result) == ("sl_1", "all done")


async def test_waits_without_a_key_are_all_begun(world: World) -> None:
    for number in range(3):
        assert await world.begin_wait(f"sl_{number}") == f"sl_{number}"


async def test_a_wait_ends_once_and_its_first_end_stays(world: World) -> None:
    await world.begin_wait("sl_1")
    world.now += 5
    assert await end(world, "sl_1", result="first", outcomes=["tn_1"])
    world.now += 5
    assert not await end(world, "sl_1", CANCELLED, result="second")
    row = await found(world, "sl_1")
    assert (row.status, row.result, row.outcomes, row.updated_at) == ("completed", "first", ["tn_1"], NOON + 5)
    assert await under_way(world) == []


async def test_a_wait_that_does_not_exist_cannot_end(world: World) -> None:
    assert not await end(world, "sl_nobody")


async def test_a_wait_is_found_until_its_time_is_over(world: World) -> None:
    await world.begin_wait("sl_1", expires_at=NOON + HOUR)
    world.now = NOON + HOUR - 1
    assert await found(world, "sl_1") is not None
    world.now += 1
    assert await found(world, "sl_1") is None
    assert await found(world, "sl_2") is None


async def test_expired_waits_go_when_another_one_begins(world: World) -> None:
    await world.begin_wait("sl_ended", expires_at=NOON + HOUR)
    await end(world, "sl_ended")
    await world.begin_wait("sl_forgotten", expires_at=NOON + HOUR)
    await world.begin_wait("sl_young", expires_at=NOON + DAY)
    world.now += HOUR
    await world.begin_wait("sl_new", expires_at=NOON + DAY)
    assert await under_way(world) == ["sl_young", "sl_new"]


async def test_the_wait_of_an_agent_does_not_expire_before_it_has_ended(world: World) -> None:
    boss = await world.start("boss")
    await world.create("worker")
    wait_id = await world.wait_for_agents(boss, agents=["ag_worker"], expires_at=NOON + HOUR)
    world.now += DAY
    await world.begin_wait("sl_other", expires_at=world.now + DAY)
    assert wait_id in await under_way(world)
    await end(world, wait_id, result="done")
    await world.begin_wait("sl_third", expires_at=world.now + DAY)
    assert await under_way(world) == ["sl_other", "sl_third"]
    assert await world.count("durable_wait") == [2]


async def test_a_person_who_will_not_answer_hands_questions_back_and_listeners_hear_of_it(world: World) -> None:
    def decline(connection: Connection) -> set[str]:
        touched_topics(connection)
        durable_waits.ask_nobody(connection, "sl_1", world.now)
        return touched_topics(connection)

    await world.begin_wait("sl_1", asks_person=True)
    world.now += 3
    assert await world.write(decline) == {"sl_1"}
    row = await found(world, "sl_1")
    assert (row.asks_person, row.updated_at, row.status) == (False, NOON + 3, "working")


# an orchestrator that Fleet runs


async def test_an_orchestrator_that_waits_holds_no_slot_and_goes_on_with_the_very_call(world: World) -> None:
    boss = await world.start("boss", writes=True)
    await world.create("worker")
    wait_id = await world.wait_for_agents(boss, agents=["ag_worker"])
    assert (await world.agent("ag_boss")).owner is None
    assert await world.wait("ag_boss") == Wait(kind=WaitKind.AGENTS)
    assert await world.held() == {}
    assert await end(world, wait_id, result="worker is done")
    assert await world.status("ag_boss") == "queued"
    (question,) = await world.questions("ag_boss")
    assert (question.state, question.answered_by) == ("answered", "agents")
    again = (await world.admit())["ag_boss"]
    assert (again.turn_id, again.continues) == (boss.turn_id, True)


async def test_a_second_end_does_not_wake_it_again(world: World) -> None:
    boss = await world.start("boss")
    await world.create("worker")
    wait_id = await world.wait_for_agents(boss, agents=["ag_worker"])
    await end(world, wait_id)
    await world.admit()
    before = await world.events("ag_boss")
    assert not await end(world, wait_id)
    assert await world.events("ag_boss") == before
    assert await world.status("ag_boss") == "working"


async def test_a_refused_wait_is_over_at_once_and_says_why(world: World) -> None:
    boss = await world.start("boss")
    wait_id = await world.wait_for_agents(boss, refusal="you have no agents")
    row = await found(world, wait_id)
    assert (row.status, row.is_error, row.result) == ("completed", True, "you have no agents")
    assert (await world.admit())["ag_boss"].continues


async def test_a_message_ends_the_wait_with_its_text(world: World) -> None:
    boss = await world.start("boss")
    await world.create("worker")
    wait_id = await world.wait_for_agents(boss, agents=["ag_worker"])
    done = await world.command("ag_boss", "stop worker")
    assert (done.turn_id, done.happened) == (boss.turn_id, "woken: its wait_for_agents returns with this text")
    assert "stop worker" in (await found(world, wait_id)).result
    assert await world.status("ag_boss") == "queued"
    assert len(await world.turns("ag_boss")) == 1


async def test_the_wait_of_a_turn_that_is_dropped_is_cancelled(world: World) -> None:
    boss = await world.start("boss")
    await world.create("worker")
    wait_id = await world.wait_for_agents(boss, agents=["ag_worker"])
    await world.write(turns.drop_question, "ag_boss", world.now)
    assert (await found(world, wait_id)).status == "cancelled"
    assert not await end(world, wait_id)
    assert await world.status("ag_boss") == "interrupted"


async def test_the_wait_of_a_deleted_orchestrator_is_cancelled(world: World) -> None:
    boss = await world.start("boss")
    await world.create("worker")
    wait_id = await world.wait_for_agents(boss, agents=["ag_worker"])
    await world.delete("ag_boss")
    assert await under_way(world) == []
    assert (await found(world, wait_id)).status == "cancelled"


async def test_a_stale_owner_begins_no_wait(world: World) -> None:
    boss = await world.start("boss")
    await world.take_over()
    with pytest.raises(StaleOwnerError):
        await world.wait_for_agents(boss)
    assert await world.count("durable_wait", "question") == [0, 0]


async def test_a_wait_survives_the_daemon_and_ends_under_the_next_one(world: World) -> None:
    boss = await world.start("boss")
    await world.create("worker")
    wait_id = await world.wait_for_agents(boss, agents=["ag_worker"])
    assert await world.take_over() == []
    assert await end(world, wait_id)
    assert (await world.admit(owner="daemon-2"))["ag_boss"].continues
