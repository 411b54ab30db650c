"""Leases: one holder at a time, and none that is kept forever by the dead."""

from __future__ import annotations

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from orchestrator.domain.turn import TurnStatus
from orchestrator.domain.wait import Wait, WaitKind
from orchestrator.store.schema.tables import LEASE
from orchestrator.store.waits import leases
from orchestrator.store.waits.leases import CHECKOUT, DESK, Holder
from tests.store.world import NOON, World, names

pytestmark = pytest.mark.anyio


async def acquire(world: World, name: str, agent_id: str) -> Holder | None:
    """Let the agent try to get it; who keeps it from it."""
    return await world.write(leases.acquire_checkout, name, agent_id, world.now)


@pytest.fixture
async def two(world: World) -> World:
    """A world with the agents a and b, of which none has started."""
    for name in ("a", "b"):
        await world.create(name)
    return world


async def test_what_is_free_is_held_by_who_asks_first(two: World) -> None:
    assert await acquire(two, "/x", "ag_a") is None
    assert await acquire(two, "/x", "ag_b") == Holder(agent_id="ag_a", name="a", wait_kind=WaitKind.SLOT)
    assert await two.held() == {"/x": "ag_a"}


@pytest.mark.parametrize(
    ("held", "asked", "is_one"),
    [
        ("/x", "/x/y/z", True),
        ("/x/y/z", "/x", True),
        ("/", "/x", True),
        ("/x", "/", True),
        ("/x", "/xy", False),
        ("/x%", "/x1/y", False),
        ("/x/ü", "/x/ü/y", True),
        ("worktree:/x/tree", "/x", False),
        ("/x", "worktree:/x/tree", False),
        ("worktree:/x/tree", "worktree:/x/tree/sub", True),
    ],
)
async def test_a_place_inside_another_is_the_same_lease(two: World, held: str, asked: str, is_one: bool) -> None:
    assert await acquire(two, held, "ag_a") is None
    found = await acquire(two, asked, "ag_b")
    assert (found is not None) == is_one


async def test_who_holds_it_may_acquire_it_again_without_a_second_row(two: World) -> None:
    for _ in range(3):
        assert await acquire(two, "/x", "ag_a") is None
    assert await two.held() == {"/x": "ag_a"}


async def test_things_of_one_name_but_of_two_kinds_are_two_things(two: World) -> None:
    await two.write(leases.hold, DESK, "/x", "ag_a", two.now)
    assert await acquire(two, "/x", "ag_b") is None


async def test_what_was_given_back_is_free_and_its_history_stays(two: World) -> None:
    await acquire(two, "/x", "ag_a")
    two.now += 5
    await two.write(leases.release, "ag_a", two.now, CHECKOUT)
    assert await acquire(two, "/x", "ag_b") is None
    rows = await two.rows(select(LEASE).where(LEASE.c.name == "/x").order_by(LEASE.c.id))
    assert [(row.agent_id, row.acquired_at, row.released_at) for row in rows] == [
        ("ag_a", NOON, NOON + 5),
        ("ag_b", NOON + 5, None),
    ]


async def test_release_of_one_kind_leaves_the_others(two: World) -> None:
    await acquire(two, "/x", "ag_a")
    await two.write(leases.release, "ag_a", two.now, CHECKOUT)
    assert await two.held() == {}
    assert await two.held(DESK) == {"/desks/ag_a": "ag_a", "/desks/ag_b": "ag_b"}


async def test_release_of_everything_leaves_what_others_hold(two: World) -> None:
    await acquire(two, "/x", "ag_a")
    await acquire(two, "/y", "ag_b")
    await two.write(leases.release, "ag_a", two.now)
    assert await two.held() == {"/y": "ag_b"}
    assert await two.held(DESK) == {"/desks/ag_b": "ag_b"}


async def test_a_second_release_does_not_change_when_it_was_given_back(two: World) -> None:
    await acquire(two, "/x", "ag_a")
    await two.write(leases.release, "ag_a", NOON + 1)
    await two.write(leases.release, "ag_a", NOON + 2)
    (row,) = await two.rows(select(LEASE).where(LEASE.c.name == "/x"))
    assert row.released_at == NOON + 1


async def test_the_table_itself_refuses_a_second_holder(two: World) -> None:
    await acquire(two, "/x", "ag_a")
    second = insert(LEASE).values(kind=CHECKOUT, name="/x", agent_id="ag_b", acquired_at=NOON)
    with pytest.raises(IntegrityError):
        await two.write(lambda connection: connection.execute(second))
    assert await two.held() == {"/x": "ag_a"}


async def test_every_agent_has_a_desk_for_as_long_as_it_lives(world: World) -> None:
    await world.create("a")
    assert await world.held(DESK) == {"/desks/ag_a": "ag_a"}
    await world.delete("ag_a")
    assert await world.held(DESK) == {}


@pytest.mark.parametrize("end", [TurnStatus.COMPLETE, TurnStatus.FAILED, TurnStatus.INTERRUPTED])
async def test_a_turns_end_gives_the_checkout_back_however_it_ends(world: World, end: TurnStatus) -> None:
    await world.finish(await world.start("a", writes=True), end)
    assert await world.held() == {}
    assert await world.held(DESK) == {"/desks/ag_a": "ag_a"}


async def test_a_writer_that_waits_for_others_gives_its_checkout_to_them(world: World) -> None:
    lead = await world.start("lead", writes=True)
    child = await world.create("child", writes=True, parent=lead)
    await world.admit()
    assert await world.wait(child) == Wait(kind=WaitKind.CHECKOUT, on="lead")
    await world.wait_for_children(lead)
    assert list(await world.admit()) == [child]
    assert await world.held() == {"/project": child}


async def test_a_paused_writer_keeps_its_checkout_unless_its_children_may_need_it(world: World) -> None:
    overload = Wait(kind=WaitKind.OVERLOAD, until=NOON + 60)
    alone = await world.start("alone", writes=True, checkout="/alone")
    lead = await world.start("lead", writes=True)
    await world.create("child", writes=True, parent=lead)
    await world.pause(alone, overload)
    await world.pause(lead, overload)
    assert await world.held() == {"/alone": "ag_alone"}


# after a crash


async def test_an_agent_that_is_deleted_at_work_holds_its_checkout_until_its_session_has_gone(world: World) -> None:
    await world.start("a", writes=True)
    await world.delete("ag_a")
    await world.create("b", writes=True)
    assert await world.admit() == {}
    assert await world.held() == {"/project": "ag_a"}
    await world.write(leases.release, "ag_a", world.now)
    assert names(await world.admit()) == ["b"]


async def test_a_new_daemon_frees_what_deleted_agents_held_when_the_old_one_died(world: World) -> None:
    await world.start("a", writes=True)
    await world.delete("ag_a")
    await world.create("b", writes=True)
    await world.take_over()
    assert await world.held() == {}
    assert names(await world.admit(owner="daemon-2")) == ["b"]


async def test_a_lost_writer_keeps_its_checkout_for_its_recovery(world: World) -> None:
    await world.start("lost", writes=True)
    world.now += 1
    await world.create("next", writes=True, priority=50)
    await world.take_over()
    assert await world.held() == {"/project": "ag_lost"}
    assert names(await world.admit(owner="daemon-2")) == ["lost"]


async def test_a_lost_writer_that_is_not_taken_up_again_gives_its_checkout_back(world: World) -> None:
    await world.start("lost", writes=True)
    await world.create("next", writes=True)
    await world.take_over(max_resumes=0)
    assert await world.held() == {}
    assert names(await world.admit(owner="daemon-2")) == ["next"]


async def test_an_agent_that_asks_when_its_daemon_dies_keeps_its_checkout(world: World) -> None:
    await world.ask(await world.start("asks", writes=True))
    await world.take_over()
    assert await world.held() == {"/project": "ag_asks"}
    assert await world.status("ag_asks") == "waiting"
