"""Families: children within their limits, a parent that waits for the last of them, and plans."""

from __future__ import annotations

import pytest

from orchestrator.domain.question import QuestionKind
from orchestrator.domain.turn import TurnStatus
from orchestrator.domain.wait import Wait, WaitKind
from orchestrator.errors import ConflictError, RefusedError
from orchestrator.store.agents import lifecycle
from orchestrator.store.families import children
from orchestrator.store.families.children import ChildLimits
from orchestrator.store.waits.leases import DESK
from tests.store.world import LIMITS, World, names

pytestmark = pytest.mark.anyio


def limits(agents: int = 100, depth: int = 5, children: int = 10) -> ChildLimits:
    """Limits of which one is narrow."""
    return ChildLimits(agents=agents, depth=depth, children=children)


async def test_a_child_is_tied_to_its_parent_and_its_root(world: World) -> None:
    lead = await world.start("lead", priority=7)
    first = await world.create("first", parent=lead)
    second = await world.create("second", parent=lead)
    claim = (await world.admit())[first]
    deep = await world.create("deep", parent=claim)
    assert (first, second, deep) == ("ag_lead_child_0", "ag_lead_child_1", "ag_lead_child_0_child_0")
    row = await world.agent(deep)
    assert (row.parent, row.root, row.depth, row.child_index, row.priority) == (first, "ag_lead", 2, 0, 7)
    assert await world.held(DESK) == {
        "/desks/ag_lead": "ag_lead",
        "/desks/ag_lead_child_0": first,
        "/desks/ag_lead_child_1": second,
        "/desks/ag_lead_child_0_child_0": deep,
    }


async def test_an_agent_without_a_parent_is_its_own_root(world: World) -> None:
    await world.create("a")
    row = await world.agent("ag_a")
    assert (row.root, row.parent, row.depth, row.child_index) == ("ag_a", None, 0, None)


async def test_a_parent_has_so_many_children_and_no_more_though_some_are_deleted(world: World) -> None:
    lead = await world.start("lead")
    for number in range(2):
        await world.create(f"child{number}", parent=lead, limits=limits(children=2))
    await world.delete("ag_lead_child_0")
    with pytest.raises(RefusedError, match="you have created 2 agents and may create 2"):
        await world.create("child2", parent=lead, limits=limits(children=2))


async def test_families_are_so_deep_and_no_deeper(world: World) -> None:
    claim = await world.start("a0")
    for depth in (1, 2):
        child = await world.create(f"a{depth}", parent=claim, limits=limits(depth=2))
        claim = (await world.admit())[child]
    with pytest.raises(RefusedError, match="you are at depth 2 and AGENT_MAX_RECURSIVE_DEPTH is 2"):
        await world.create("a3", parent=claim, limits=limits(depth=2))


async def test_so_many_agents_live_and_deleted_ones_do_not_count(world: World) -> None:
    for number in range(3):
        await world.create(f"a{number}", limits=limits(agents=3))
    with pytest.raises(ConflictError, match="3 agents live and AGENT_MAX_SESSION is 3"):
        await world.create("a3", limits=limits(agents=3))
    await world.delete("ag_a0")
    await world.create("a3", limits=limits(agents=3))


async def test_a_refused_child_leaves_nothing(world: World) -> None:
    lead = await world.start("lead")
    before = await world.count("agent", "turn", "event", "lease")
    with pytest.raises(RefusedError):
        await world.create("child", parent=lead, limits=limits(children=0))
    assert await world.count("agent", "turn", "event", "lease") == before
    assert (await world.agent("ag_lead")).children == 0


@pytest.mark.parametrize("now", ["ended", "asks", "lost"])
async def test_only_a_parent_at_work_has_children(world: World, now: str) -> None:
    lead = await world.start("lead")
    if now == "ended":
        await world.finish(lead)
    elif now == "asks":
        await world.ask(lead)
    else:
        await world.take_over()
    with pytest.raises(ConflictError, match="lead has stopped working on the turn"):
        await world.create("child", parent=lead)


# waiting for children


@pytest.mark.parametrize("end", [TurnStatus.COMPLETE, TurnStatus.FAILED, TurnStatus.INTERRUPTED])
async def test_a_parent_goes_on_with_the_end_of_its_last_child_whatever_that_is(world: World, end: TurnStatus) -> None:
    lead = await world.start("lead")
    ids = [await world.create(f"child{number}", parent=lead) for number in range(2)]
    claims = await world.admit()
    await world.wait_for_children(lead)
    assert await world.wait("ag_lead") == Wait(kind=WaitKind.CHILDREN)
    await world.finish(claims[ids[0]])
    assert await world.status("ag_lead") == "waiting"
    await world.finish(claims[ids[1]], end)
    assert await world.status("ag_lead") == "queued"
    (question,) = await world.questions("ag_lead")
    assert (question.state, question.answered_by, question.answer) == ("answered", "children", "children")
    assert (await world.admit())["ag_lead"].continues


async def test_a_parent_whose_children_have_all_ended_does_not_wait(world: World) -> None:
    lead = await world.start("lead")
    child = await world.create("child", parent=lead)
    await world.finish((await world.admit())[child])
    await world.wait_for_children(lead)
    assert await world.status("ag_lead") == "queued"


async def test_a_child_with_more_turns_or_a_question_is_waited_for(world: World) -> None:
    lead = await world.start("lead")
    child = await world.create("child", parent=lead)
    claim = (await world.admit())[child]
    await world.wait_for_children(lead)
    await world.queue(child)
    await world.finish(claim)
    assert await world.status("ag_lead") == "waiting"
    await world.ask((await world.admit())[child])
    assert await world.status("ag_lead") == "waiting"
    await world.answer(child)
    await world.finish((await world.admit())[child])
    assert await world.status("ag_lead") == "queued"


async def test_the_deletion_of_the_last_child_lets_its_parent_go_on(world: World) -> None:
    lead = await world.start("lead")
    child = await world.create("child", parent=lead)
    await world.wait_for_children(lead)
    await world.delete(child)
    assert await world.status("ag_lead") == "queued"


async def test_a_grandchild_does_not_wake_its_grandparent(world: World) -> None:
    lead = await world.start("lead")
    child = await world.create("child", parent=lead)
    claim = (await world.admit())[child]
    deep = await world.create("deep", parent=claim)
    deeper = (await world.admit())[deep]
    await world.wait_for_children(lead)
    await world.wait_for_children(claim)
    await world.finish(deeper)
    assert [await world.status(one) for one in ("ag_lead", child)] == ["waiting", "queued"]


async def test_a_child_that_ends_twice_wakes_a_parent_at_work_never(world: World) -> None:
    lead = await world.start("lead")
    child = await world.create("child", parent=lead)
    await world.finish((await world.admit())[child])
    await world.finish((await world.admit_more(child))[child])
    assert await world.status("ag_lead") == "working"
    assert await world.questions("ag_lead") == []


# reading and deleting families


async def test_a_subtree_is_all_living_descendants_parents_first(world: World) -> None:
    lead = await world.start("lead")
    first = await world.create("first", parent=lead)
    second = await world.create("second", parent=lead)
    claims = await world.admit()
    below_second = await world.create("c", parent=claims[second])
    below_first = await world.create("b", parent=claims[first])
    assert await world.write(children.subtree, "ag_lead") == ["ag_lead", first, second, below_first, below_second]
    assert await world.write(children.subtree, second) == [second, below_second]
    await world.delete(below_first)
    assert await world.write(children.subtree, first) == [first]


async def test_families_are_deleted_whole_and_each_agent_once(world: World) -> None:
    lead = await world.start("lead")
    child = await world.create("child", parent=lead)
    await world.create("other")
    claims = await world.admit()
    deep = await world.create("deep", parent=claims[child])
    deleted = await world.write(lifecycle.delete_families, [child, "ag_lead"], world.now)
    assert deleted == {child: "working", deep: "queued", "ag_lead": "working"}
    assert set((await world.statuses()).values()) == {"deleted", "working"}
    assert await world.status("ag_other") == "working"


# the life of one agent


@pytest.mark.requirement("agent:create:idempotency-key")
async def test_the_same_key_creates_one_agent(world: World) -> None:
    assert await world.create("a", call_key="key") == "ag_a"
    before = await world.count("agent", "turn", "event", "lease")
    assert await world.create("b", call_key="key") == "ag_a"
    assert await world.count("agent", "turn", "event", "lease") == before


async def test_the_key_of_a_deleted_agent_still_finds_it(world: World) -> None:
    await world.create("a", call_key="key")
    await world.delete("ag_a")
    assert await world.create("b", call_key="key") == "ag_a"


async def test_living_agents_of_one_project_have_different_names(world: World) -> None:
    await world.create("a")
    with pytest.raises(ConflictError, match="the name 'a' is taken by ag_a"):
        await world.create("a", id="ag_2")
    await world.create("a", id="ag_3", project="/other")
    await world.delete("ag_a")
    assert await world.create("a", id="ag_4") == "ag_4"


async def test_a_deleted_agent_stays_readable_and_ends_once(world: World) -> None:
    claim = await world.start("a")
    await world.finish(claim, result="the result")
    assert await world.delete("ag_a") == "complete"
    before = await world.events()
    assert await world.delete("ag_a") == "deleted"
    assert await world.events() == before
    agent, (turn,) = await world.agent("ag_a"), await world.turns("ag_a")
    assert (agent.status, agent.deleted_at, turn.result) == ("deleted", world.now, "the result")
    assert before[-1].body == {"was": "complete"}


async def test_an_account_that_arrives_wakes_its_own_agents_alone(world: World) -> None:
    for name, account in (("one", "x"), ("two", "x"), ("three", "y")):
        await world.create(name, account=account)
    await world.admit(payable=lambda account: not account)
    assert await world.write(lifecycle.account_arrived, "x", world.now) == 2
    assert await world.write(lifecycle.account_arrived, "x", world.now) == 0
    assert sorted(names(await world.admit(payable=lambda account: account == "x"))) == ["one", "two"]


async def test_open_agents_are_counted_by_status(world: World) -> None:
    await world.ask(await world.start("asks"))
    await world.start("busy")
    await world.finish(await world.start("done"))
    await world.create("queued")
    await world.create("gone")
    await world.delete("ag_gone")
    found = await world.store.read(lifecycle.count_by_status)
    assert found == {"queued": 1, "working": 1, "waiting": 1}


async def test_a_question_for_children_is_no_childs_own(world: World) -> None:
    lead = await world.start("lead", limits=LIMITS)
    child = await world.create("child", parent=lead)
    await world.wait_for_children(lead)
    assert [row.kind for row in await world.questions("ag_lead")] == [QuestionKind.CHILDREN]
    assert await world.questions(child) == []
