"""Inputs: settled by a result, blocked by a failure, and awaited again when the source works again."""

from __future__ import annotations

import pytest

from orchestrator.domain.turn import TurnStatus
from orchestrator.domain.wait import SLOT, Wait, WaitKind
from orchestrator.errors import ConflictError, InvalidError, NotFoundError
from tests.store.world import World, names

pytestmark = pytest.mark.anyio


async def ended(world: World, name: str, status: TurnStatus = TurnStatus.COMPLETE, reason: str = "") -> str:
    """An agent whose turn has ended so."""
    await world.finish(await world.start(name), status, reason)
    return f"ag_{name}"


@pytest.mark.requirement("inputs:start:when-completed")
async def test_an_agent_starts_once_the_last_of_its_inputs_is_complete(world: World) -> None:
    first, second = await world.start("first"), await world.start("second")
    await world.create("next", inputs=["ag_first", "ag_second"])
    assert await world.admit() == {}
    await world.finish(first)
    assert await world.admit() == {}
    assert await world.wait("ag_next") == Wait(kind=WaitKind.INPUTS, on="second")
    await world.finish(second)
    assert names(await world.admit()) == ["next"]


async def test_a_source_that_has_ended_is_handed_over_as_it_is_whatever_its_end_was(world: World) -> None:
    sources = [await ended(world, status.value, status) for status in list(TurnStatus)[4:7]]
    await world.create("next", inputs=sources)
    assert await world.inputs("ag_next") == dict.fromkeys(sources, "settled")
    assert names(await world.admit()) == ["next"]


@pytest.mark.parametrize(
    ("end", "reason", "words"),
    [
        (TurnStatus.FAILED, "process", "failed"),
        (TurnStatus.FAILED, "checks", "failed (checks)"),
        (TurnStatus.FAILED, "verdict", "failed (verdict)"),
        (TurnStatus.INTERRUPTED, "interrupted", "was interrupted"),
    ],
)
async def test_a_source_that_ends_without_a_result_blocks_those_behind_it(
    world: World, end: TurnStatus, reason: str, words: str
) -> None:
    claim = await world.start("source")
    await world.create("next", inputs=["ag_source"])
    await world.admit()
    world.now += 1
    await world.finish(claim, end, reason)
    assert await world.inputs("ag_next") == {"ag_source": "blocked"}
    assert await world.admit() == {}
    assert await world.wait("ag_next") == Wait(kind=WaitKind.INPUTS, on="source", detail=words, blocked=True)
    assert (await world.kinds("ag_next"))[-1] == "agent.blocked"
    assert (await world.agent("ag_next")).changed_at == world.now


async def test_a_deleted_source_blocks_those_behind_it(world: World) -> None:
    await world.start("source")
    await world.create("next", inputs=["ag_source"])
    await world.delete("ag_source")
    await world.admit()
    assert await world.wait("ag_next") == Wait(kind=WaitKind.INPUTS, on="source", detail="was deleted", blocked=True)


async def test_a_blocked_agent_waits_again_when_its_source_works_again_and_starts_with_its_result(
    world: World,
) -> None:
    claim = await world.start("source")
    await world.create("next", inputs=["ag_source"])
    await world.finish(claim, TurnStatus.FAILED)
    await world.admit()
    await world.queue("ag_source", "try again")
    assert await world.inputs("ag_next") == {"ag_source": "open"}
    claim = (await world.admit())["ag_source"]
    assert await world.wait("ag_next") == Wait(kind=WaitKind.INPUTS, on="source")
    await world.finish(claim)
    assert names(await world.admit()) == ["next"]


async def test_a_source_with_more_turns_has_not_ended(world: World) -> None:
    claim = await world.start("source")
    await world.create("next", inputs=["ag_source"])
    await world.queue("ag_source")
    await world.finish(claim)
    assert await world.inputs("ag_next") == {"ag_source": "open"}
    await world.finish((await world.admit())["ag_source"])
    assert await world.inputs("ag_next") == {"ag_source": "settled"}


async def test_what_is_settled_stays_settled_though_its_source_fails_later(world: World) -> None:
    await world.start("other")
    source = await ended(world, "source")
    await world.create("next", inputs=[source, "ag_other"])
    await world.queue(source)
    await world.finish((await world.admit())[source], TurnStatus.FAILED)
    assert await world.inputs("ag_next") == {source: "settled", "ag_other": "open"}


async def test_a_source_that_asks_or_is_paused_is_waited_for(world: World) -> None:
    await world.ask(await world.start("asks"))
    await world.create("next", inputs=["ag_asks"])
    assert await world.admit() == {}
    assert await world.inputs("ag_next") == {"ag_asks": "open"}


async def test_an_input_that_is_named_twice_counts_once(world: World) -> None:
    await world.start("source")
    await world.create("next", inputs=["ag_source", "ag_source"])
    await world.admit()
    assert await world.wait("ag_next") == Wait(kind=WaitKind.INPUTS, on="source")


async def test_new_inputs_take_the_place_of_the_old_ones(world: World) -> None:
    await world.start("slow")
    await world.create("next", inputs=["ag_slow"])
    await world.admit()
    await world.set_inputs("ag_next", 1, [await ended(world, "quick")])
    assert await world.inputs("ag_next") == {"ag_quick": "settled"}
    assert names(await world.admit()) == ["next"]


async def test_inputs_belong_to_one_turn(world: World) -> None:
    claim = await world.start("a")
    await world.start("source")
    await world.queue("ag_a")
    await world.queue("ag_a")
    await world.set_inputs("ag_a", 3, ["ag_source"])
    await world.finish(claim)
    claim = (await world.admit())["ag_a"]
    assert claim.turn == 2
    await world.finish(claim)
    assert await world.admit() == {}
    assert await world.wait("ag_a") == Wait(kind=WaitKind.INPUTS, on="source")


async def test_a_turn_that_is_cancelled_waits_for_nobody_any_more(world: World) -> None:
    source, _ = await world.start("source"), await ended(world, "quick")
    await world.create("next", inputs=["ag_source", "ag_quick"])
    await world.delete("ag_next")
    assert await world.inputs("ag_next") == {"ag_quick": "settled"}
    await world.finish(source)
    assert await world.inputs("ag_next") == {"ag_quick": "settled"}


async def test_an_agent_is_not_its_own_input_at_first(world: World) -> None:
    with pytest.raises(InvalidError, match="a cannot be its own input"):
        await world.create("a", inputs=["ag_a"])
    assert await world.count("agent", "turn", "event", "lease") == [0, 0, 0, 0]


async def test_a_later_turn_may_take_what_the_agent_itself_has_made(world: World) -> None:
    await ended(world, "a")
    await world.queue("ag_a")
    await world.set_inputs("ag_a", 2, ["ag_a"])
    assert await world.inputs("ag_a") == {"ag_a": "settled"}
    assert names(await world.admit()) == ["a"]


async def test_an_unknown_source_undoes_the_creation(world: World) -> None:
    with pytest.raises(NotFoundError, match="ag_nobody"):
        await world.create("a", inputs=["ag_nobody"])
    assert await world.count("agent", "input") == [0, 0]


async def test_a_circle_undoes_the_whole_operation(world: World) -> None:
    await world.create("one", account="away")
    await world.create("two", inputs=["ag_one"])
    before = await world.count("input", "event")
    with pytest.raises(ConflictError, match="one and two would wait for each other"):
        await world.command("ag_one", inputs=["ag_two"])
    assert await world.count("input", "event") == before
    assert (await world.turns("ag_one"))[0].prompt == "the task of one"


async def test_a_wait_for_a_slot_is_forgotten_when_inputs_come(world: World) -> None:
    await world.start("source")
    await world.create("next")
    assert await world.wait("ag_next") == SLOT
    await world.set_inputs("ag_next", 1, ["ag_source"])
    assert await world.admit(slots=1) == {}
    assert await world.wait("ag_next") == Wait(kind=WaitKind.INPUTS, on="source")
