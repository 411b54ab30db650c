"""What several calls and several sessions do to one agent: order, other sessions' outcomes, and what was shown."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.domain.agent import NewAgent
from orchestrator.domain.tool import CallContext
from orchestrator.domain.turn import DeliveryMode
from orchestrator.errors import ConflictError, InvalidError
from orchestrator.store.agents import adoption
from tests.fixtures.personas import define
from tests.fleet.scripted import Ask, Lab

pytestmark = pytest.mark.anyio


@pytest.mark.requirement("inputs:start:when-completed")
async def test_a_command_and_a_create_of_one_message_keep_their_order(lab: Lab) -> None:
    await lab.create("a")
    lab.finish("a", "old")
    await lab.becomes("a", "complete")
    new = NewAgent(name="b", task="use it", persona="scout", inputs=("a",))
    _, made = await asyncio.gather(lab.fleet.command(lab.call(), "a", "do it anew"), lab.fleet.create(lab.call(), new))
    assert (made.agent.status, made.agent.reason) == ("queued", "inputs: a")


@pytest.mark.requirement("inputs:failure:blocks-and-wakes")
async def test_a_command_that_is_added_to_a_queued_task_unblocks_those_that_wait_for_it(lab: Lab) -> None:
    await lab.create("a")
    await lab.becomes("a", "working")
    await lab.create("other")
    await lab.becomes("other", "working")
    await lab.fleet.command(lab.call(), "a", "second", inputs=["other"])
    await lab.create("b", inputs=["a"])
    lab.fail("a")
    await lab.becomes("b", "queued", "its input a failed")
    said = await lab.fleet.command(lab.call(), "a", "and mend what turn 1 missed")
    assert said.happened.startswith("added to the task")
    lab.finish("other")
    lab.finish("a")
    await lab.becomes("b", "working")


@pytest.mark.requirement("wait:digest:delivered-once")
async def test_a_session_sleeps_on_another_ones_agent_whose_last_outcome_it_was_told(lab: Lab) -> None:
    await lab.create("a")
    lab.fail("a")
    await lab.becomes("a", "failed")
    other = lab.call(orchestrator="other")
    with lab.fleet.connected(lab.caller):
        assert "a failed" in (await lab.fleet.wait(other, agents=["a"])).text
        await lab.fleet.command(other, "a", "again")
        await lab.becomes("a", "working")
        assert (await lab.fleet.wait(other, agents=["a"], timeout_seconds=0.1)).timed_out
    assert "a failed" in (await lab.fleet.wait(lab.call(), agents=["a"], timeout_seconds=0)).text, "its own is told"


@pytest.mark.requirement("permission:allow:only-what-was-shown")
async def test_a_list_that_leaves_an_agent_out_does_not_show_what_it_wants(lab: Lab) -> None:
    define(lab.project, "hand", "tools: Read, Write\nask: Bash")
    for number in range(20):
        name = f"agent-number-{number}-with-a-long-name"
        await lab.create(name)
        lab.finish(name)
    await lab.create("zz", persona="hand")
    lab.play("zz", Ask("", tool="Bash", input={"command": "rm -rf precious"}))
    await lab.becomes("zz", "waiting")
    assert "zz" not in await lab.tool("list_agents")
    with pytest.raises(ConflictError, match="nothing was answered"):
        await lab.fleet.command(lab.call(), "zz", "allow")


@pytest.mark.requirement("session:adopt:by-name")
async def test_a_refused_command_takes_no_agent_over(lab: Lab) -> None:
    await lab.create("a")
    with pytest.raises(InvalidError, match="task"):
        await lab.fleet.command(lab.call(orchestrator="new-session"), "a", "")
    assert (await lab.view("a")).orchestrator == lab.caller.orchestrator


@pytest.mark.requirement("session:adopt:by-name")
async def test_a_command_stays_done_and_interrupts_also_if_another_session_claims_its_agent_first(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lab.create("a", task="one")
    await lab.becomes("a", "working")

    def claimed_by_another(*_: object) -> bool:
        return False

    monkeypatch.setattr(adoption, "adopt", claimed_by_another)
    receipt = await lab.fleet.command(lab.call(orchestrator="next"), "a", "two", mode=DeliveryMode.INTERRUPT)
    assert "turn 2" in receipt.happened
    await lab.becomes("a", "working")
    turns = (await lab.fleet.detail(lab.call(), "a")).turns
    assert turns[0].status == "interrupted"


@pytest.mark.requirement("session:identity:one-per-door")
async def test_each_terminal_is_told_the_outcome_of_an_agent_that_is_not_its_own(lab: Lab) -> None:
    await lab.create("a")
    lab.fail("a")
    await lab.becomes("a", "failed")
    terminal = CallContext(caller=lab.call(orchestrator="terminal").caller, person=True)
    with lab.fleet.connected(lab.caller):
        for _ in range(2):
            [outcome] = (await lab.fleet.wait(terminal, agents=["a"])).outcomes
            assert outcome.status == "failed"
