"""Admission: which turns start, in which order, and what is recorded for the others."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from orchestrator.domain.budget import FLEET, Scope, Unit
from orchestrator.domain.event import EventKind
from orchestrator.domain.turn import DeliveryMode, TurnStatus
from orchestrator.domain.wait import SLOT, Wait, WaitKind
from orchestrator.store.agents import lifecycle
from orchestrator.store.engine.connection import Connection
from orchestrator.store.families import budgets
from orchestrator.store.schema.tables import AGENT
from orchestrator.store.turns.events import Fact, append
from tests.store.world import HOUR, NOON, World, names, nobody_pays, usage

pytestmark = pytest.mark.anyio


async def test_nobody_is_admitted_to_an_empty_fleet(world: World) -> None:
    assert await world.admit() == {}


async def test_the_oldest_starts_first(world: World) -> None:
    for name in ("first", "second", "third"):
        world.now += 1
        await world.create(name)
    assert names(await world.admit(slots=2)) == ["first", "second"]
    assert await world.wait("ag_third") == SLOT


async def test_a_higher_priority_starts_before_an_older_agent(world: World) -> None:
    for name, priority in (("old", 0), ("low", -5), ("high", 7), ("higher", 9)):
        world.now += 1
        await world.create(name, priority=priority)
    assert names(await world.admit(slots=3)) == ["higher", "high", "old"]


async def test_who_is_queued_again_stands_behind_those_who_wait_longer(world: World) -> None:
    claim = await world.start("first")
    world.now += 1
    await world.create("second")
    world.now += 1
    await world.queue("ag_first")
    await world.finish(claim)
    assert names(await world.admit(slots=1)) == ["second"]


async def test_agents_that_were_queued_at_one_moment_start_in_the_order_of_their_creation(world: World) -> None:
    for number in range(3):
        world.now = NOON + number
        await world.create(f"a{number}", account="away")
        await world.admit(payable=nobody_pays)
    world.now += HOUR
    await world.write(
        lambda connection: connection.execute(update(AGENT).values(status="queued", changed_at=world.now))
    )
    assert names(await world.admit()) == ["a0", "a1", "a2"]


@pytest.mark.requirement("limit:slots:others-queued")
async def test_no_more_agents_work_than_there_are_slots(world: World) -> None:
    for number in range(5):
        await world.create(f"a{number}")
    first = await world.admit(slots=2)
    assert len(first) == 2
    assert await world.admit(slots=2) == {}
    await world.finish(next(iter(first.values())))
    assert len(await world.admit(slots=2)) == 1


async def test_fewer_slots_than_agents_at_work_admit_nobody_and_end_nobody(world: World) -> None:
    for number in range(3):
        await world.create(f"a{number}")
    await world.admit(slots=3)
    await world.create("late")
    assert await world.admit(slots=1) == {}
    assert list((await world.statuses()).values()) == ["working"] * 3 + ["queued"]


async def test_a_waiting_agent_holds_no_slot(world: World) -> None:
    await world.ask(await world.start("asks"))
    await world.create("next")
    assert names(await world.admit(slots=1)) == ["next"]


async def test_a_claim_tells_what_to_run_and_moves_the_epoch(world: World) -> None:
    claim = await world.start("a")
    assert (claim.agent_id, claim.turn_id, claim.turn, claim.epoch) == ("ag_a", "tn_a", 1, 1)
    assert not claim.continues
    assert not claim.was_suspended
    assert not claim.recovers
    agent, turn = await world.agent("ag_a"), await world.turn("tn_a")
    assert (agent.status, agent.owner, agent.epoch, agent.running_since) == ("working", "daemon-1", 1, NOON)
    assert (turn.status, turn.epoch, turn.started_at, turn.attempts) == ("working", 1, NOON, 1)
    assert await world.kinds("ag_a") == ["agent.created", "turn.queued", "turn.started"]


async def test_an_agent_at_work_is_not_claimed_twice(world: World) -> None:
    await world.start("a")
    await world.queue("ag_a")
    assert await world.admit() == {}


@pytest.mark.requirement("turn:order:one-at-a-time")
async def test_the_turns_of_an_agent_run_in_order(world: World) -> None:
    claim = await world.start("a")
    later = [await world.queue("ag_a") for _ in range(3)]
    ran: list[str] = []
    for _ in later:
        await world.finish(claim)
        claim = (await world.admit())["ag_a"]
        ran.append(claim.turn_id)
    assert ran == later


async def test_an_urgent_turn_runs_before_those_that_were_queued_earlier(world: World) -> None:
    claim = await world.start("a")
    plain = await world.queue("ag_a")
    steered = (await world.command("ag_a", mode=DeliveryMode.STEER)).turn_id
    replacing = (await world.command("ag_a", mode=DeliveryMode.INTERRUPT)).turn_id
    order: list[str] = []
    await world.finish(claim, TurnStatus.INTERRUPTED, "interrupted")
    for _ in range(3):
        claim = (await world.admit())["ag_a"]
        order.append(claim.turn_id)
        await world.finish(claim)
    assert order == [replacing, steered, plain]


async def test_a_turn_in_the_middle_of_a_question_runs_before_an_urgent_one(world: World) -> None:
    claim = await world.start("a")
    await world.command("ag_a", mode=DeliveryMode.STEER)
    await world.ask(claim)
    await world.answer("ag_a")
    again = (await world.admit())["ag_a"]
    assert (again.turn_id, again.continues, again.epoch) == (claim.turn_id, True, 2)
    assert (await world.turn(claim.turn_id)).attempts == 1


@pytest.mark.parametrize("end", [TurnStatus.COMPLETE, TurnStatus.FAILED, TurnStatus.INTERRUPTED])
async def test_a_turn_that_ended_is_never_claimed_again(world: World, end: TurnStatus) -> None:
    claim = await world.start("a")
    await world.finish(claim, end)
    assert await world.admit() == {}
    await world.queue("ag_a")
    assert (await world.admit())["ag_a"].turn == 2


# checkouts


async def test_writers_of_one_checkout_work_one_at_a_time(world: World) -> None:
    for name in ("one", "two", "three"):
        world.now += 1
        await world.create(name, writes=True)
    claims = await world.admit()
    assert names(claims) == ["one"]
    assert await world.wait("ag_two") == Wait(kind=WaitKind.CHECKOUT, on="one")
    assert await world.wait("ag_three") == Wait(kind=WaitKind.CHECKOUT, on="one")
    await world.finish(claims["ag_one"])
    assert names(await world.admit()) == ["two"]
    assert await world.wait("ag_three") == Wait(kind=WaitKind.CHECKOUT, on="two")


async def test_writers_of_different_checkouts_and_readers_work_together(world: World) -> None:
    await world.create("here", writes=True)
    await world.create("there", writes=True, checkout="/elsewhere")
    await world.create("reader")
    assert sorted(names(await world.admit())) == ["here", "reader", "there"]
    assert await world.held() == {"/project": "ag_here", "/elsewhere": "ag_there"}


async def test_a_writer_that_must_wait_holds_up_no_reader_behind_it(world: World) -> None:
    await world.start("writer", writes=True)
    await world.create("second", writes=True, priority=9)
    await world.create("reader")
    assert names(await world.admit(slots=2)) == ["reader"]


async def test_a_writer_without_a_slot_takes_no_checkout(world: World) -> None:
    await world.start("reader")
    await world.create("writer", writes=True)
    assert await world.admit(slots=1) == {}
    assert await world.held() == {}
    assert await world.wait("ag_writer") == SLOT


async def test_the_wait_says_that_the_holder_of_the_checkout_waits_for_an_answer_itself(world: World) -> None:
    await world.ask(await world.start("holder", writes=True))
    await world.create("next", writes=True)
    assert await world.admit() == {}
    assert await world.wait("ag_next") == Wait(kind=WaitKind.CHECKOUT, on="holder", blocked=True)
    assert (await world.kinds("ag_next"))[-1] == "agent.blocked"


async def test_a_wait_that_has_not_changed_is_not_told_again(world: World) -> None:
    await world.ask(await world.start("holder", writes=True))
    await world.create("next", writes=True)
    await world.admit()
    before = await world.events()
    for _ in range(3):
        world.now += 1
        await world.admit()
    assert await world.events() == before


async def test_an_agent_keeps_its_checkout_while_it_asks_and_goes_on_with_it(world: World) -> None:
    await world.ask(await world.start("holder", writes=True))
    await world.create("next", writes=True)
    await world.admit()
    assert await world.held() == {"/project": "ag_holder"}
    await world.answer("ag_holder")
    assert names(await world.admit()) == ["holder"]


# accounts and caps


async def test_an_agent_whose_account_is_away_leaves_the_queue_until_it_comes(world: World) -> None:
    await world.create("poor", account="away")
    await world.create("rich")
    assert names(await world.admit(payable=lambda account: account != "away")) == ["rich"]
    assert await world.status("ag_poor") == "waiting"
    assert await world.wait("ag_poor") == Wait(kind=WaitKind.ACCOUNT)
    assert (await world.kinds("ag_poor"))[-1] == "turn.waiting"


async def test_an_agent_leaves_the_queue_for_its_account_though_all_slots_are_taken(world: World) -> None:
    await world.start("busy")
    await world.create("poor", account="away")
    assert await world.admit(slots=1, payable=lambda account: account != "away") == {}
    assert await world.waits_for("ag_poor") is WaitKind.ACCOUNT


async def test_an_agent_of_a_refused_account_leaves_the_queue_though_all_slots_are_taken(world: World) -> None:
    await world.refuse(await world.start("refused"), resets_at=NOON + HOUR)
    await world.create("busy", account="account-2")
    await world.admit()
    await world.create("next")
    assert await world.admit(slots=1) == {}
    assert await world.waits_for("ag_next") is WaitKind.QUOTA


async def test_an_agent_at_its_cap_leaves_the_queue(world: World) -> None:
    claim = await world.start("spent", caps={Unit.TOKENS: 100})
    await world.queue("ag_spent")
    await world.finish(claim, used=usage(100))
    assert await world.admit() == {}
    assert await world.wait("ag_spent") == Wait(kind=WaitKind.BUDGET, detail="100 tokens of 100 tokens")
    assert await world.status("ag_spent") == "waiting"


async def test_an_agent_at_the_cap_of_its_parent_is_told_whose_it_is(world: World) -> None:
    lead = await world.start("lead", caps={Unit.TOKENS: 100}, scope=Scope.SUBTREE)
    child = await world.create("child", parent=lead)
    await world.finish((await world.admit())[child], used=usage(100))
    await world.queue(child)
    assert await world.admit() == {}
    assert await world.wait(child) == Wait(kind=WaitKind.BUDGET, on="lead", detail="100 tokens of 100 tokens")


async def test_agents_that_start_at_once_do_not_share_the_last_turn_of_a_cap(world: World) -> None:
    lead = await world.start("lead", caps={Unit.TURNS: 3}, scope=Scope.SUBTREE)
    for number in range(4):
        await world.create(f"child{number}", parent=lead)
    assert len(await world.admit()) == 2
    assert sorted((await world.statuses()).values()) == ["waiting", "waiting", "working", "working", "working"]


async def test_nobody_starts_at_the_fleets_cap_and_all_who_wait_are_told(world: World) -> None:
    await world.finish(await world.start("first"), used=usage(500))
    await world.write(budgets.set_caps, FLEET, Scope.FLEET, {Unit.TOKENS: 500})
    for name in ("second", "third"):
        await world.create(name)
    assert await world.admit() == {}
    for name in ("second", "third"):
        assert await world.wait(f"ag_{name}") == Wait(
            kind=WaitKind.BUDGET, on="the fleet", detail="500 tokens of 500 tokens"
        )


async def test_the_cap_of_one_family_holds_up_no_other_family(world: World) -> None:
    claim = await world.start("spent", caps={Unit.TURNS: 1})
    await world.queue("ag_spent")
    await world.finish(claim)
    await world.create("other")
    assert names(await world.admit()) == ["other"]


# which wait is told, if there are several


async def test_inputs_are_told_before_a_slot_an_account_before_a_cap_and_a_cap_before_the_checkout(
    world: World,
) -> None:
    await world.start("holder", writes=True)
    last = await world.start("last", writes=True, checkout="/elsewhere", caps={Unit.TURNS: 1})
    await world.finish(last)
    await world.write(move_to_checkout, "ag_last")
    await world.create("source", priority=-1, account="away")
    await world.command("ag_last", inputs=["ag_source"])

    async def told(**options: Any) -> WaitKind | None:
        await world.admit(**options)
        return await world.waits_for("ag_last")

    assert await told(payable=nobody_pays) is WaitKind.INPUTS
    await world.delete("ag_source")
    assert await told(payable=nobody_pays) is WaitKind.INPUTS  # blocked now
    await world.set_inputs("ag_last", 2, ())
    assert await told(payable=nobody_pays) is WaitKind.ACCOUNT
    await world.write(lifecycle.account_arrived, "account-1", world.now)
    assert await told() is WaitKind.BUDGET
    await world.write(budgets.raise_caps, "ag_last", Scope.AGENT, {Unit.TURNS: 9}, world.now)
    assert await told(slots=1) is WaitKind.SLOT
    assert await told() is WaitKind.CHECKOUT


def move_to_checkout(connection: Connection, agent_id: str) -> None:
    """Let the agent write where everyone does."""
    connection.execute(update(AGENT).where(AGENT.c.id == agent_id).values(checkout="/project"))


async def test_who_may_not_start_is_told_the_first_of_its_inputs_that_failed(world: World) -> None:
    for name in ("good", "bad", "worse"):
        await world.create(name)
    claims = await world.admit()
    await world.create("next", inputs=["ag_good", "ag_bad", "ag_worse"])
    await world.admit()
    assert await world.wait("ag_next") == Wait(kind=WaitKind.INPUTS, on="good, bad, worse")
    await world.finish(claims["ag_worse"], TurnStatus.FAILED, "tests")
    await world.finish(claims["ag_bad"], TurnStatus.INTERRUPTED, "interrupted")
    await world.admit()
    assert await world.wait("ag_next") == Wait(kind=WaitKind.INPUTS, on="bad", detail="was interrupted", blocked=True)


async def test_a_turn_that_begins_measures_its_progress_from_there(world: World) -> None:
    claim = await world.start("a")
    await world.write(
        append, claim, [Fact(kind=EventKind.TOOL, at=NOON, body={}, values={"same_calls": 3, "live_tokens": 40})]
    )
    assert (await world.agent("ag_a")).open_tools == 1
    await world.queue("ag_a")
    await world.finish(claim, used=usage(70))
    await world.admit()
    agent = await world.agent("ag_a")
    assert (agent.open_tools, agent.same_calls, agent.progress_tokens, agent.tool_tokens) == (0, 0, 70, 70)
    assert (agent.activity, agent.begun_turns) == ("starting", 2)
