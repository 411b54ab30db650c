"""A failure that the next task would meet, too, holds the agent's queue; a failed turn blocks the agents behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.domain.turn import DeliveryMode
from tests.fleet.scripted import Lab, ScriptedProvider, SleepOnChildren, Spawn, open_lab
from tests.fleet.test_families import write_lead
from tests.fleet.test_outcomes import has_begun, has_ended_turns, three_turns
from tests.fleet.test_restart import KEY, killed_after

pytestmark = pytest.mark.anyio
HELD = "held: 2 tasks after not found failure"


async def held_agent(lab: Lab) -> None:
    """An agent whose first of three tasks has failed because its model is not there."""
    await three_turns(lab)
    lab.fail("a", "not_found", "HTTP 404: no such model")
    await lab.becomes("a", "waiting", HELD)


@pytest.mark.requirement("turn:queue:held-after-failure", "guarantee:turns:none-vanishes")
async def test_a_missing_model_fails_one_task_and_holds_the_others_as_a_need(lab: Lab) -> None:
    await held_agent(lab)
    digest = await lab.wait("a")
    assert digest.needs == ("a",)
    assert [(one.turn, one.status) for one in digest.outcomes] == [(1, "failed")]
    assert f'NEEDS YOU a: {HELD} -> command_agent(agent="a", task=' in digest.text
    assert 'mode="interrupt" runs it instead' in digest.text
    assert [turn.status for turn in await lab.turns("a")] == ["failed", "queued", "queued"]
    assert (await lab.view("a")).wait is not None


@pytest.mark.requirement("turn:queue:held-after-failure")
async def test_the_next_command_runs_first_and_then_what_was_held(lab: Lab) -> None:
    await held_agent(lab)
    receipt = await lab.fleet.command(lab.call(), "a", "try again")
    assert receipt.happened == "turn 4: it runs first, then what was held (2 tasks)"
    for _ in range(3):
        lab.finish("a")
    await lab.becomes("a", "complete")
    assert [prompt.split()[0] for prompt in lab.provider.prompts["a"]][1:] == ["try", "two", "three"]


@pytest.mark.requirement("turn:queue:held-after-failure")
async def test_a_command_that_interrupts_drops_what_is_held(lab: Lab) -> None:
    await held_agent(lab)
    await lab.fleet.command(lab.call(), "a", "instead", mode=DeliveryMode.INTERRUPT)
    lab.finish("a", "done instead")
    await lab.becomes("a", "complete")
    assert [turn.status for turn in await lab.turns("a")] == ["failed", "cancelled", "cancelled", "complete"]
    assert [(one.turn, one.status) for one in (await lab.wait("a")).outcomes] == [(1, "failed"), (4, "complete")]


@pytest.mark.requirement("turn:queue:held-after-failure")
async def test_an_interrupt_cancels_all_that_is_held(lab: Lab) -> None:
    await held_agent(lab)
    await lab.fleet.interrupt(lab.call(), "a")
    assert (await lab.view("a")).status == "interrupted"
    assert [turn.status for turn in await lab.turns("a")] == ["failed", "cancelled", "cancelled"]


@pytest.mark.requirement("turn:queue:held-after-failure")
async def test_a_queue_stays_held_when_the_daemon_is_killed(tmp_path: Path) -> None:
    provider = ScriptedProvider()
    async with killed_after(tmp_path, provider) as lab:
        await held_agent(lab)
    async with open_lab(tmp_path, account=KEY, provider=provider) as lab:
        assert (await lab.view("a")).reason == HELD
        await lab.fleet.command(lab.call(), "a", "try again")
        lab.finish("a")
        await has_begun(lab, "a", "two")


async def test_a_task_that_fails_in_its_own_way_holds_nothing(lab: Lab) -> None:
    await three_turns(lab)
    lab.fail("a", "refusal", "the model refused")
    lab.finish("a")
    lab.finish("a")
    await lab.becomes("a", "complete")


@pytest.mark.requirement("inputs:start:not-after-failed-turn", "guarantee:turns:none-vanishes")
async def test_an_earlier_turn_that_failed_blocks_the_agent_behind_it_though_the_last_one_is_complete(lab: Lab) -> None:
    await three_turns(lab)
    await lab.create("b", inputs=["a"])
    lab.finish("a", "first")
    lab.fail("a")
    await has_ended_turns(lab, 2)
    blocked = await lab.becomes("b", "queued", "its input a failed in an earlier turn")
    assert blocked.blocked_by == ("a",)
    lab.finish("a", "third")
    await lab.becomes("a", "complete")
    assert (await lab.view("b")).reason == "its input a failed in an earlier turn"
    await lab.fleet.command(lab.call(), "a", "do the second one again")
    lab.finish("a", "second, at last")
    lab.finish("b")
    await lab.becomes("b", "complete")


@pytest.mark.requirement("inputs:start:not-after-failed-turn")
async def test_an_input_whose_queue_is_held_blocks_at_once(lab: Lab) -> None:
    await three_turns(lab)
    await lab.create("b", inputs=["a"])
    lab.fail("a", "auth", "HTTP 401")
    await lab.becomes("b", "queued", "its input a failed in an earlier turn")


@pytest.mark.requirement("inputs:ended:however")
@pytest.mark.parametrize("created", ["before", "while it is held"])
@pytest.mark.parametrize("decision", ["go on", "instead", "interrupt"])
async def test_who_waits_for_any_end_of_an_agent_starts_only_once_its_held_queue_is_decided(
    lab: Lab, created: str, decision: str
) -> None:
    if created == "before":
        await three_turns(lab)
        await lab.create("b", inputs=["a:ended"])
        lab.fail("a", "not_found", "HTTP 404: no such model")
        await lab.becomes("a", "waiting", HELD)
    else:
        await held_agent(lab)
        await lab.create("b", inputs=["a:ended"])
    assert (await lab.view("b")).reason == "inputs: a"
    if decision == "interrupt":
        await lab.fleet.interrupt(lab.call(), "a")
    else:
        mode = DeliveryMode.INTERRUPT if decision == "instead" else DeliveryMode.QUEUE
        await lab.fleet.command(lab.call(), "a", "try again", mode=mode)
        assert (await lab.view("b")).reason == "inputs: a"
        for _ in range(1 if decision == "instead" else 3):
            lab.finish("a")
    lab.finish("b")
    await lab.becomes("b", "complete")


@pytest.mark.requirement("turn:queue:held-after-failure")
async def test_a_wait_for_the_agent_behind_it_is_told_that_a_held_queue_must_be_decided(lab: Lab) -> None:
    await held_agent(lab)
    await lab.wait("a")
    await lab.create("b", inputs=["a:ended"])
    digest = await lab.wait("b")
    assert digest.needs == ("a",)
    assert f"NEEDS YOU a: {HELD}" in digest.text


@pytest.mark.requirement("family:digest:every-turn")
async def test_a_parent_is_told_every_turn_of_its_children(tmp_path: Path) -> None:
    write_lead(tmp_path)
    async with open_lab(tmp_path) as lab:
        await lab.create("boss", persona="lead")
        lab.play("boss", Spawn("c"), SleepOnChildren())
        await lab.becomes("boss", "waiting", "children")
        await lab.fleet.command(lab.call(), "c", "more")
        lab.finish("boss")
        lab.fail("c")
        lab.finish("c", "what c found")
        await lab.becomes("boss", "complete")
        assert lab.provider.answers["boss"][-1].startswith(
            '[c turn 1 failed (api: "the model said no") · $0.01]\n[c complete · $0.02]\n| what c found'
        )
