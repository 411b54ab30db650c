"""Orchestrators that Fleet runs, as a state machine: they direct agents, wait as rows, and wake for them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from orchestrator.domain import durable_wait as domain
from orchestrator.domain.agent import NewAgent
from orchestrator.domain.durable_wait import WaitRequest
from orchestrator.domain.tool import CallingTurn
from orchestrator.errors import InvalidError
from orchestrator.fleet.lookup import MAX_REFERENCES
from orchestrator.store.schema.tables import DURABLE_WAIT
from tests.fixtures.personas import define
from tests.fleet.scripted import DEADLINE_SECONDS, Ask, Direct, Lab, ScriptedProvider, eventually, open_lab

pytestmark = pytest.mark.anyio
WAIT = Direct("wait_for_agents")


def create(name: str, **more: object) -> Direct:
    return Direct("create_agent", {"name": name, "task": "look", "persona": "scout", **more})


async def sleeps(lab: Lab, name: str = "orc") -> None:
    """Return once the orchestrator sleeps, without a process."""
    await lab.becomes(name, "waiting", "agents")
    await eventually(lambda: _without_session(lab, name))


async def _without_session(lab: Lab, name: str) -> bool:
    return all(session.closed for session in lab.provider.sessions if session.spec.agent_name == name)


async def told(lab: Lab, count: int, name: str = "orc") -> str:
    """The last of so many things that the orchestrator has read."""

    async def has() -> bool:
        return len(lab.provider.answers[name]) >= count

    await eventually(has)
    assert len(lab.provider.answers[name]) == count, lab.provider.answers[name]
    return lab.provider.answers[name][-1]


async def directing(lab: Lab, *agents: str) -> None:
    """An orchestrator that sleeps on these agents of its own."""
    await lab.create("orc", persona="orchestrator")
    lab.play("orc", *[create(name) for name in agents], WAIT)
    await sleeps(lab)


@pytest.mark.requirement("run:orchestrator:no-process-while-waiting")
async def test_it_sleeps_without_a_session_and_the_very_call_returns_the_digest(lab: Lab) -> None:
    await directing(lab, "a", "b")
    lab.finish("a", "found it")
    await lab.becomes("a", "complete")
    assert (await lab.view("orc")).status == "waiting"
    lab.finish("b", "built it")
    digest = await told(lab, 3)
    assert "| found it" in digest
    assert "| built it" in digest
    lab.finish("orc", "all done")
    await lab.becomes("orc", "complete")
    turn = (await lab.turns("orc"))[0]
    assert (turn.status, turn.result, turn.attempts) == ("complete", "all done", 1)
    assert lab.provider.prompts["orc"] == ["look"]  # no prompt woke it: the call went on


@pytest.mark.requirement("run:orchestrator:no-process-while-waiting")
async def test_with_a_limit_of_one_a_whole_tree_of_orchestrators_ends(tmp_path: Path) -> None:
    async with open_lab(tmp_path, slots=1) as lab:
        await lab.create("orc", persona="orchestrator")
        lab.play("orc", create("sub", persona="orchestrator"), create("a"), WAIT)
        lab.play("sub", create("b"), create("c"), WAIT)
        for name in "abc":
            lab.finish(name, f"{name} is done")
        await told(lab, 3, "sub")
        lab.finish("sub", "the sub-tree is done")
        digest = await told(lab, 3)
        assert "| the sub-tree is done" in digest
        assert "a is done" in digest
        assert "c is done" not in digest  # that is the other orchestrator's
        lab.finish("orc")
        await lab.becomes("orc", "complete")


async def test_a_question_goes_to_the_next_orchestrator_above_and_wakes_nobody_else(lab: Lab) -> None:
    await directing(lab, "a")
    outside = asyncio.create_task(lab.wait("orc"))
    await lab.asks("a", "docs too?")
    assert 'NEEDS YOU a asks: "docs too?"' in await told(lab, 2)
    lab.play("orc", Direct("command_agent", {"agent": "a", "task": "yes"}), WAIT)
    await sleeps(lab)
    await eventually(lambda: _has_read(lab, "a"))
    assert lab.provider.answers["a"] == ["yes"]
    assert not outside.done()
    lab.finish("a")
    await told(lab, 4)
    await lab.asks("orc", "and the person?")
    async with asyncio.timeout(DEADLINE_SECONDS):
        assert (await outside).needs == ("orc",)


async def test_the_question_of_an_ended_orchestrators_agent_goes_to_whoever_is_above(lab: Lab) -> None:
    await lab.create("orc", persona="orchestrator")
    lab.play("orc", create("a"))
    await told(lab, 1)
    lab.finish("orc", "done without waiting")
    await lab.becomes("orc", "complete")
    await lab.wait("orc")
    await lab.asks("a", "docs too?")
    for agents in ((), ("orc",)):
        assert (await lab.wait(*agents)).needs == ("a",)


async def test_what_it_creates_are_its_children_with_one_budget_and_one_end(lab: Lab) -> None:
    await directing(lab, "a", "b")
    orc, kid = await lab.view("orc"), await lab.view("a")
    assert kid.parent == "orc"
    assert kid.id.startswith(f"{orc.id}_child_")
    await lab.fleet.interrupt(lab.call(), "orc")
    for name in ("orc", "a", "b"):
        await lab.becomes(name, "interrupted")
    await lab.fleet.delete(lab.call(), ["orc"])
    assert {(await lab.view(name)).status for name in ("orc", "a", "b")} == {"deleted"}


async def test_a_failure_wakes_it_though_others_still_work(lab: Lab) -> None:
    await directing(lab, "a", "b")
    lab.fail("a", "api", "the model said no")
    assert "[a failed" in await told(lab, 3)
    assert (await lab.view("b")).status == "working"


async def test_a_time_out_wakes_it(lab: Lab) -> None:
    await lab.create("orc", persona="orchestrator")
    lab.play("orc", create("a"), Direct("wait_for_agents", {"timeout_seconds": 0.05}))
    assert "your time-out came first" in await told(lab, 2)


async def test_a_message_wakes_it_with_the_message_as_what_its_wait_returns(lab: Lab) -> None:
    await directing(lab, "a")
    receipt = await lab.fleet.command(lab.call(), "orc", "leave the docs alone")
    assert receipt.happened == "woken: its wait_for_agents returns with this text"
    assert "leave the docs alone" in await told(lab, 2)
    lab.play("orc", WAIT)
    await sleeps(lab)
    lab.finish("a")
    await told(lab, 3)


async def test_what_cannot_be_waited_for_is_told_by_the_call_itself(lab: Lab) -> None:
    await lab.create("orc", persona="orchestrator")
    lab.play("orc", Direct("wait_for_agents", {"agents": ["nobody"]}))
    assert "no agent 'nobody'" in await told(lab, 1)
    lab.play("orc", Direct("wait_for_agents", {"agents": ["orc"]}))
    assert "orc is you yourself" in await told(lab, 2)
    lab.play("orc", Direct("wait_for_agents", {"since": "yesterday"}))
    assert "since is 'yesterday'" in await told(lab, 3)


async def test_it_cannot_delete_or_command_itself_nor_wait_through_an_input(lab: Lab) -> None:
    await lab.create("orc", persona="orchestrator")
    lab.play(
        "orc",
        Direct("delete_agent", {"agents": ["orc"]}),
        Direct("command_agent", {"agent": "orc", "task": "more"}),
        create("a", inputs=["orc"]),
        Direct("delete_agent", {"agents": ["nobody", "orc"]}),
    )
    await told(lab, 4)
    assert all("you yourself" in text for text in lab.provider.answers["orc"])


async def test_names_that_no_call_may_have_do_not_hide_that_it_would_delete_itself(lab: Lab) -> None:
    await lab.create("orc", persona="orchestrator")
    many = [f"x{number}" for number in range(MAX_REFERENCES)]
    lab.play("orc", *(Direct("delete_agent", {"agents": ["orc", *more]}) for more in ([" "], ["a\0b"], many)))
    assert f"{MAX_REFERENCES + 1} agents are named" in await told(lab, 3)
    assert "name is empty" in lab.provider.answers["orc"][0]
    assert "is not an agent's name" in lab.provider.answers["orc"][1]
    assert (await lab.view("orc")).status == "working"
    await lab.create("other")
    lab.play("orc", Direct("delete_all_agents", {"scope": "project"}))
    await told(lab, 4)
    assert (await lab.view("orc")).status == "working"
    assert (await lab.view("other")).status == "deleted"


async def test_a_repeated_call_creates_nothing_twice(lab: Lab) -> None:
    await directing(lab, "a")
    orc = await lab.view("orc")
    first = lab.call(key=f"{orc.id}/toolu_1", orchestrator=orc.id)
    again = replace(first, run=CallingTurn(agent_id=orc.id, epoch=1))
    created = await lab.fleet.create(again, NewAgent(name="a", task="look", persona="scout"))
    assert (created.existed, created.agent.id) == (True, (await lab.view("a")).id)


@pytest.mark.requirement("run:orchestrator:no-process-while-waiting")
async def test_the_sleep_is_a_row_that_the_next_daemon_wakes_from(tmp_path: Path) -> None:
    provider = ScriptedProvider()
    async with open_lab(tmp_path, provider=provider) as lab:
        await directing(lab, "a")
        await lab.die()
    async with open_lab(tmp_path, provider=provider) as lab:
        assert (await lab.view("orc")).reason == "agents"
        lab.finish("a", "found after all")
        assert "| found after all" in await told(lab, 2)
        lab.finish("orc")
        await lab.becomes("orc", "complete")
        rows = await lab.rows(select(DURABLE_WAIT.c.status).order_by(DURABLE_WAIT.c.created_at))
        assert [row.status for row in rows] == ["completed"]


@pytest.mark.requirement("run:orchestrator:no-process-while-waiting")
async def test_an_account_that_no_door_has_brought_yet_does_not_wake_it(tmp_path: Path) -> None:
    provider, key = ScriptedProvider(), {"ANTHROPIC_API_KEY": "sk-secret"}
    async with open_lab(tmp_path, provider=provider, account=key) as lab:
        await directing(lab, "a", "b")
        await lab.die()
    async with open_lab(tmp_path, provider=provider, account=key) as lab:
        for name in "ab":
            await lab.becomes(name, "waiting", "account")
        nap = await lab.fleet.begin_durable_wait(
            lab.call(), WaitRequest(agents=["orc"], timeout_seconds=0.05), asks_person=False
        )
        assert isinstance(nap, domain.DurableWait)
        await eventually(lambda: _is_over(lab, nap.id))  # so the watch has looked at every sleep
        assert (await lab.view("orc")).reason == "agents"
        await lab.fleet.greet(lab.caller)
        lab.finish("a", "one")
        lab.finish("b", "two")
        digest = await told(lab, 3)
        assert "| one" in digest
        assert "| two" in digest


async def _is_over(lab: Lab, wait_id: str) -> bool:
    return [row.status for row in await lab.rows(select(DURABLE_WAIT).where(DURABLE_WAIT.c.id == wait_id))] == [
        "completed"
    ]


async def test_a_deadline_for_answers_ends_no_sleep(tmp_path: Path) -> None:
    async with open_lab(tmp_path, FLEET_ANSWER_SECONDS=0.05) as lab:
        await directing(lab, "a")
        await lab.create("x")
        lab.play("x", Ask("which?"))  # asked later, and its deadline comes: the alarm is alive, and only this was due
        await eventually(lambda: _has_read(lab, "x"))
        assert (await lab.view("orc")).reason == "agents"


async def _has_read(lab: Lab, name: str) -> bool:
    return bool(lab.provider.answers[name])


async def test_only_personas_with_the_fleets_tools_get_them_and_unknown_ones_are_refused(lab: Lab) -> None:
    define(lab.project, "few", "tools: Read, mcp__plugin_fleet_fleet__create_agent")
    define(lab.project, "wrong", "tools: mcp__plugin_fleet_fleet__fly")
    await lab.create("few", persona="few")
    await lab.create("scout")
    await lab.becomes("few", "working")
    await lab.becomes("scout", "working")
    offered = {
        session.spec.agent_name: (session.spec.tools, [tool.name for tool in session.spec.fleet])
        for session in lab.provider.sessions
    }
    assert offered["few"] == (("Read",), ["create_agent"])
    assert offered["scout"][1] == []
    with pytest.raises(InvalidError, match="mcp__plugin_fleet_fleet__fly"):
        await lab.create("wrong", persona="wrong")
