"""Recovery: a lost run is taken up again a bounded number of times, and its history says what happened."""

from __future__ import annotations

import pytest

from orchestrator.domain.turn import DeliveryMode, TurnStatus
from orchestrator.domain.wait import SLOT
from orchestrator.store.schema.transitions import StaleOwnerError
from orchestrator.store.turns import recovery
from orchestrator.store.turns.turns import Claim
from tests.store.world import HOUR, NOON, World, names, usage

pytestmark = pytest.mark.anyio


async def losses(world: World, turn_id: str = "tn_a") -> list[tuple[int, str]]:
    """Attempt and reason of each run of the turn that died."""
    return [(one["attempt"], one["reason"]) for one in (await world.turn(turn_id)).losses or ()]


async def again(world: World, owner: str = "daemon-1") -> Claim:
    """The next claim of the agent."""
    world.now += 1
    return (await world.admit(owner=owner))["ag_a"]


async def test_a_lost_run_is_queued_to_be_taken_up_again(world: World) -> None:
    claim = await world.start("a")
    assert await world.lose(claim, "process") is None
    agent, turn = await world.agent("ag_a"), await world.turn("tn_a")
    assert (agent.status, agent.owner, agent.running_since, agent.epoch) == ("queued", None, None, claim.epoch + 1)
    assert await world.wait("ag_a") == SLOT
    assert (turn.status, turn.ended_at) == ("recovering", None)
    assert await losses(world) == [(1, "process")]
    assert (await world.kinds("ag_a"))[-1] == "turn.lost"


async def test_what_takes_it_up_again_knows_that_it_recovers(world: World) -> None:
    claim = await world.start("a")
    await world.lose(claim)
    successor = await again(world)
    assert (successor.turn_id, successor.recovers, successor.continues, successor.was_suspended) == (
        "tn_a",
        True,
        False,
        False,
    )
    assert successor.epoch > claim.epoch
    turn, agent = await world.turn("tn_a"), await world.agent("ag_a")
    assert (turn.attempts, turn.started_at, agent.activity, agent.begun_turns) == (2, NOON, "recovering", 1)
    assert (await world.kinds("ag_a"))[-1] == "turn.resumed"


@pytest.mark.requirement("recovery:transcript:read-first")
async def test_the_lost_run_itself_can_write_nothing_more(world: World) -> None:
    claim = await world.start("a")
    await world.lose(claim)
    await again(world)
    before = await world.events()
    for late in (world.finish(claim), world.lose(claim), world.ask(claim), world.wait_for_children(claim)):
        with pytest.raises(StaleOwnerError):
            await late
    assert await world.events() == before


async def test_a_run_that_has_ended_cannot_be_lost(world: World) -> None:
    claim = await world.start("a")
    await world.finish(claim)
    with pytest.raises(StaleOwnerError):
        await world.lose(claim)
    assert await losses(world) == []


@pytest.mark.requirement("recovery:loop:fails-after-max-resumes")
@pytest.mark.parametrize("most", [1, 3])
async def test_a_turn_that_dies_too_often_must_fail_with_its_history(world: World, most: int) -> None:
    claim = await world.start("a")
    for _ in range(most):
        assert await world.lose(claim, max_resumes=most) is None
        claim = await again(world)
    final = await world.lose(claim, "silence", max_resumes=most)
    assert final is not None
    assert (final.status, final.reason) == (TurnStatus.FAILED, "crash_loop")
    assert final.detail.startswith(f"its session died {most + 1} times: ")
    assert final.detail.count("process (it is gone)") == most
    assert "silence (it is gone)" in final.detail
    assert final.hint
    assert await losses(world) == [*((number, "process") for number in range(1, most + 1)), (most + 1, "silence")]
    assert (await world.turn("tn_a")).status == "working"  # who asked ends it, with what it used


async def test_without_resumes_the_first_loss_is_the_end(world: World) -> None:
    final = await world.lose(await world.start("a"), "process", max_resumes=0)
    assert final is not None
    assert (final.status, final.reason, final.detail) == (TurnStatus.FAILED, "process", "it is gone")


async def test_a_run_that_was_handed_on_is_no_loss_and_costs_no_resume(world: World) -> None:
    claim = await world.start("a")
    for _ in range(5):
        assert await world.lose(claim, "daemon", counts=False, max_resumes=1) is None
        claim = await again(world)
    assert await losses(world) == []
    assert (await world.turn("tn_a")).attempts == 1
    assert await world.lose(claim, max_resumes=1) is None


async def test_the_same_loss_that_is_told_twice_is_kept_once(world: World) -> None:
    claim = await world.start("a")
    final = await world.lose(claim, "silence", max_resumes=0)
    assert final is not None
    await world.lose(claim, "process", max_resumes=0)
    assert await losses(world) == [(1, "process")]


async def test_a_turn_that_goes_on_with_an_answer_is_the_same_attempt(world: World) -> None:
    claim = await world.start("a")
    await world.lose(claim)
    claim = await again(world)
    await world.ask(claim)
    await world.answer("ag_a")
    claim = await again(world)
    await world.lose(claim)
    assert await losses(world) == [(1, "process"), (2, "process")]


async def test_the_next_turn_begins_without_the_losses_of_the_last_one(world: World) -> None:
    claim = await world.start("a")
    later = await world.queue("ag_a")
    await world.lose(claim)
    await world.finish(await again(world))
    assert (await again(world)).turn_id == later
    assert await losses(world, later) == []
    assert (await world.turn(later)).attempts == 1


async def test_a_lost_run_that_was_to_be_replaced_ends_as_interrupted(world: World) -> None:
    claim = await world.start("a")
    await world.command("ag_a", "instead", DeliveryMode.INTERRUPT)
    final = await world.lose(claim)
    assert final is not None
    assert (final.status, final.reason) == (TurnStatus.INTERRUPTED, "interrupted")


async def test_what_a_lost_run_had_used_is_counted_with_what_its_successor_uses(world: World) -> None:
    claim = await world.start("a")
    await world.lose(claim, tokens=30, cost_usd=0.25)
    claim = await again(world)
    await world.write(recovery.count_lost, claim, usage(5, 0.25))
    await world.finish(claim, used=usage(100, 0.5))
    agent, turn = await world.agent("ag_a"), await world.turn("tn_a")
    assert (agent.tokens, agent.cost_usd) == (135, 1.0)
    assert (turn.input_tokens, turn.cost_usd) == (135, 1.0)


async def test_prompts_are_noted_once_each_in_order_and_by_their_owner_alone(world: World) -> None:
    claim = await world.start("a")
    for prompt in ("p1", "p2", "p1"):
        await world.write(recovery.note_prompt, claim, prompt)
    assert (await world.turn("tn_a")).prompts == ["p1", "p2"]
    await world.lose(claim)
    with pytest.raises(StaleOwnerError):
        await world.write(recovery.note_prompt, claim, "p3")
    assert (await world.turn("tn_a")).prompts == ["p1", "p2"]


# a new daemon


@pytest.mark.requirement("recovery:start:rows-reconciled")
async def test_a_new_daemon_takes_over_what_the_old_one_ran_and_nothing_else(world: World) -> None:
    for name in ("busy", "asks", "done", "waits"):
        await world.create(name)
    claims = await world.admit()
    await world.ask(claims["ag_asks"])
    await world.finish(claims["ag_done"])
    await world.refuse(claims["ag_waits"], NOON + HOUR)
    await world.create("queued", account="away")
    assert names(await world.take_over()) == ["busy"]
    assert await world.statuses() == {
        "busy": "queued",
        "asks": "waiting",
        "done": "complete",
        "waits": "waiting",
        "queued": "queued",
    }
    assert await losses(world, "tn_busy") == [(1, "daemon")]


async def test_a_daemon_does_not_take_over_its_own_runs(world: World) -> None:
    await world.start("a")
    assert await world.take_over(owner="daemon-1") == []
    assert await world.status("ag_a") == "working"


async def test_taking_over_twice_does_it_once(world: World) -> None:
    await world.start("a")
    await world.take_over()
    before = await world.events()
    assert await world.take_over() == []
    assert await world.events() == before


async def test_the_old_daemon_writes_nothing_once_it_was_taken_over(world: World) -> None:
    claim = await world.start("a")
    await world.take_over()
    with pytest.raises(StaleOwnerError):
        await world.finish(claim)
    assert (await world.turn("tn_a")).status == "recovering"


async def test_without_resumes_a_new_daemon_ends_what_the_old_one_ran(world: World) -> None:
    await world.start("a")
    await world.queue("ag_a")
    await world.start("b")
    assert sorted(names(await world.take_over(max_resumes=0))) == ["a", "b"]
    (first, second), agent = await world.turns("ag_a"), await world.agent("ag_b")
    assert (first.status, first.reason, first.cost_unknown) == ("interrupted", "daemon", True)
    assert first.outcome_cursor is not None
    assert second.status == "queued"
    assert (agent.status, agent.reason) == ("interrupted", "the daemon ended")


async def test_a_turn_that_dies_with_every_daemon_fails_at_last(world: World) -> None:
    await world.start("a")
    for number in range(2, 5):
        await world.take_over(owner=f"daemon-{number}")
        assert await world.status("ag_a") == "queued"
        await again(world, owner=f"daemon-{number}")
    await world.take_over(owner="daemon-9")
    (turn,) = await world.turns("ag_a")
    assert (turn.status, turn.reason) == ("failed", "crash_loop")
    assert turn.detail.count("the daemon ended") == 1, "a cause that all share is said once"
    assert (await world.kinds("ag_a"))[-1] == "turn.failed"
    assert await world.status("ag_a") == "failed"


async def test_the_runs_of_a_daemon_are_those_that_it_claimed_and_that_still_run(world: World) -> None:
    mine = await world.start("mine")
    asks = await world.start("asks")
    await world.ask(asks)
    await world.create("theirs")
    await world.admit(owner="daemon-2")
    (held,) = await world.store.read(lambda connection: recovery.held_by(connection, "daemon-1"))
    assert (held.agent_id, held.turn_id, held.turn, held.epoch) == ("ag_mine", mine.turn_id, 1, mine.epoch)


async def test_a_deleted_agent_is_not_taken_over(world: World) -> None:
    await world.start("a")
    await world.delete("ag_a")
    assert await world.take_over() == []
    assert await world.status("ag_a") == "deleted"


async def test_an_idle_agents_losses_do_not_block_those_behind_it(world: World) -> None:
    claim = await world.start("a")
    await world.create("next", inputs=["ag_a"])
    await world.lose(claim)
    assert await world.inputs("ag_next") == {"ag_a": "open"}
    await world.finish(await again(world))
    assert await world.inputs("ag_next") == {"ag_a": "settled"}
