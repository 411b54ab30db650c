"""Interrupts: a running turn is asked to end, any other one ends at once, and a family ends together."""

from __future__ import annotations

import pytest

from orchestrator.domain.question import QuestionKind
from orchestrator.domain.turn import DeliveryMode, TurnStatus
from orchestrator.domain.wait import Wait, WaitKind
from orchestrator.errors import ConflictError
from orchestrator.store.agents import commands
from orchestrator.store.turns import cancellation, turns
from tests.store.world import NOON, World, asked, names, usage

pytestmark = pytest.mark.anyio


async def interrupt(world: World, agent_id: str) -> dict[str, str]:
    """Interrupt the agent's family; the turns whose sessions must be told."""
    return await world.write(commands.interrupt, agent_id, world.now)


async def ends(world: World, agent_id: str) -> list[tuple[str, str]]:
    """Status and reason of the agent's turns."""
    return [(str(turn.status), turn.reason) for turn in await world.turns(agent_id)]


async def test_a_running_turn_is_asked_to_end_and_goes_on_until_it_has(world: World) -> None:
    claim = await world.start("a")
    assert await interrupt(world, "ag_a") == {"ag_a": claim.turn_id}
    assert await world.status("ag_a") == "working"
    assert (await world.turn(claim.turn_id)).stop == "interrupted"
    await world.write(cancellation.fail, claim, "interrupted", "", usage(), world.now)
    assert await world.status("ag_a") == "interrupted"
    assert await ends(world, "ag_a") == [("interrupted", "interrupted")]


async def test_a_stop_that_was_asked_for_outlives_the_daemon(world: World) -> None:
    await world.start("a")
    await interrupt(world, "ag_a")
    await world.take_over()
    assert await ends(world, "ag_a") == [("interrupted", "interrupted")]
    assert await world.admit(owner="daemon-2") == {}


async def test_a_stop_that_was_asked_for_outlives_the_session(world: World) -> None:
    claim = await world.start("a")
    await interrupt(world, "ag_a")
    final = await world.lose(claim)
    assert final is not None
    assert (final.status, final.reason) == (TurnStatus.INTERRUPTED, "interrupted")


async def test_a_turn_that_was_asked_to_end_does_not_begin_to_wait(world: World) -> None:
    claim = await world.start("a")
    await interrupt(world, "ag_a")
    question = asked(QuestionKind.QUESTION, world.now)
    await world.write(
        cancellation.unless_cancelled, turns.suspend_for_answer, claim, world.now, question, usage(), world.now
    )
    assert await world.status("ag_a") == "interrupted"
    assert [row.state for row in await world.questions("ag_a")] == ["dropped"]


async def test_a_turn_that_was_not_asked_to_end_waits(world: World) -> None:
    claim = await world.start("a")
    question = asked(QuestionKind.QUESTION, world.now)
    await world.write(
        cancellation.unless_cancelled, turns.suspend_for_answer, claim, world.now, question, usage(), world.now
    )
    assert await world.status("ag_a") == "waiting"


async def test_a_failure_is_told_as_what_it_was(world: World) -> None:
    claim = await world.start("a")
    await world.write(cancellation.fail, claim, "process", "exit status 1", usage(), world.now)
    (turn,) = await world.turns("ag_a")
    assert (turn.status, turn.reason, turn.detail) == ("failed", "process", "exit status 1")
    assert (await world.agent("ag_a")).reason == "process"


@pytest.mark.parametrize("wait", ["question", "budget", "overload"])
async def test_a_turn_in_the_middle_of_a_wait_ends_at_once(world: World, wait: str) -> None:
    claim = await world.start("a", writes=True)
    if wait == "question":
        await world.ask(claim)
    else:
        await world.pause(claim, Wait(kind=WaitKind(wait), until=NOON + 5))
    assert await interrupt(world, "ag_a") == {}
    assert await ends(world, "ag_a") == [("interrupted", "interrupted")]
    assert (await world.agent("ag_a")).status == "interrupted"
    assert await world.held() == {}
    assert (await world.kinds("ag_a"))[-1] == "turn.interrupted"


async def test_a_turn_that_waits_for_its_recovery_ends_and_its_cost_is_unknown(world: World) -> None:
    await world.lose(await world.start("a"))
    assert await interrupt(world, "ag_a") == {}
    assert await ends(world, "ag_a") == [("interrupted", "interrupted")]
    assert (await world.turns("ag_a"))[0].cost_unknown


async def test_a_turn_that_has_not_begun_is_cancelled_and_those_behind_it_stay(world: World) -> None:
    claim = await world.start("a")
    for _ in range(2):
        await world.queue("ag_a")
    await world.finish(claim)
    assert await interrupt(world, "ag_a") == {}
    assert await ends(world, "ag_a") == [("complete", ""), ("cancelled", "interrupted"), ("queued", "")]
    assert (await world.admit())["ag_a"].turn == 3


async def test_an_agent_whose_only_turn_is_cancelled_has_ended(world: World) -> None:
    await world.create("a")
    await interrupt(world, "ag_a")
    agent = await world.agent("ag_a")
    assert (agent.status, agent.reason, agent.wait_kind) == ("interrupted", "before it began", None)
    assert await world.admit() == {}


async def test_an_agent_that_waits_for_its_account_can_be_interrupted(world: World) -> None:
    await world.create("a")
    await world.admit(payable=lambda account: not account)
    await interrupt(world, "ag_a")
    assert await world.status("ag_a") == "interrupted"


async def test_an_agent_at_rest_cannot_be_interrupted(world: World) -> None:
    await world.finish(await world.start("a"))
    before = await world.events()
    with pytest.raises(ConflictError, match="a has no running turn: it is complete"):
        await interrupt(world, "ag_a")
    assert await world.events() == before


async def test_the_agents_behind_an_interrupted_one_are_blocked(world: World) -> None:
    await world.create("a")
    await world.create("next", inputs=["ag_a"])
    await interrupt(world, "ag_a")
    assert await world.inputs("ag_next") == {"ag_a": "blocked"}


# families


async def family(world: World) -> dict[str, str]:
    """A lead that waits for a working, an asking and a queued child, and a working grandchild; their ids by name."""
    lead = await world.start("lead")
    ids = {name: await world.create(name, parent=lead) for name in ("busy", "asks")}
    claims = await world.admit()
    ids["deep"] = await world.create("deep", parent=claims[ids["busy"]])
    await world.ask(claims[ids["asks"]])
    await world.admit()
    ids["queued"] = await world.create("queued", parent=lead)
    await world.queue(ids["queued"])
    await world.wait_for_children(lead)
    return {"lead": "ag_lead", **ids}


async def test_a_family_is_interrupted_together(world: World) -> None:
    ids = await family(world)
    running = await interrupt(world, "ag_lead")
    assert running == {ids["busy"]: "tn_busy", ids["deep"]: "tn_deep"}
    assert await world.statuses() == {
        "lead": "interrupted",
        "busy": "working",
        "asks": "interrupted",
        "deep": "working",
        "queued": "interrupted",
    }
    assert await ends(world, ids["queued"]) == [("cancelled", "interrupted")] * 2
    assert await world.admit() == {}


async def test_a_child_is_interrupted_with_those_below_it_and_nobody_else(world: World) -> None:
    ids = await family(world)
    assert await interrupt(world, ids["busy"]) == {ids["busy"]: "tn_busy", ids["deep"]: "tn_deep"}
    statuses = await world.statuses()
    assert (statuses["lead"], statuses["asks"], statuses["queued"]) == ("waiting", "waiting", "queued")


async def test_an_agent_at_rest_whose_children_work_interrupts_them_alone(world: World) -> None:
    lead = await world.start("lead")
    child = await world.create("child", parent=lead)
    await world.admit()
    await world.finish(lead)
    assert await interrupt(world, "ag_lead") == {child: "tn_child"}
    assert await world.status("ag_lead") == "complete"


async def test_a_command_that_interrupts_stops_the_family_and_runs_next(world: World) -> None:
    ids = await family(world)
    done = await world.command("ag_lead", "instead", DeliveryMode.INTERRUPT)
    assert dict(done.running) == {ids["busy"]: "tn_busy", ids["deep"]: "tn_deep"}
    assert await world.status("ag_lead") == "queued"
    assert (await world.admit())["ag_lead"].turn_id == done.turn_id


async def test_the_turn_that_was_replaced_has_no_outcome_of_its_own(world: World) -> None:
    claim = await world.start("a")
    done = await world.command("ag_a", "instead", DeliveryMode.INTERRUPT)
    assert dict(done.running) == {"ag_a": claim.turn_id}
    await world.write(cancellation.fail, claim, "interrupted", "", usage(), world.now)
    assert [turn.outcome_cursor for turn in await world.turns("ag_a")] == [None, None]
    assert names(await world.admit()) == ["a"]


async def test_a_strangers_family_is_not_touched(world: World) -> None:
    await family(world)
    stranger = await world.start("stranger")
    await interrupt(world, "ag_lead")
    assert await world.status("ag_stranger") == "working"
    assert not (await world.turn(stranger.turn_id)).stop
