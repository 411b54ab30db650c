"""Agents that create agents: fan-out frees the slot, the last child wakes the parent, a stop reaches everyone below."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from orchestrator.domain.agent import NewAgent
from orchestrator.domain.budget import Unit
from orchestrator.domain.event import TERMINAL, Spent
from orchestrator.domain.turn import DeliveryMode
from orchestrator.errors import ConflictError, RefusedError
from tests.fixtures.personas import define
from tests.fleet.scripted import Lab, ScriptedProvider, SleepOnChildren, Spawn, eventually, open_lab

pytestmark = pytest.mark.anyio
WIDTH, DEPTH = 3, 3
TREE_SECONDS = 120.0


def write_lead(place: Path, children: int = 5) -> None:
    define(place / "project", "lead", f"tools: Read, Grep, Glob\nchildren: {children}")
    define(place / "project", "writing-lead", "tools: Read, Write\nchildren: 5")


@pytest.fixture
async def one(tmp_path: Path) -> AsyncGenerator[Lab]:
    """A fleet with a single slot."""
    write_lead(tmp_path)
    async with open_lab(tmp_path, slots=1) as lab:
        yield lab
        assert lab.provider.violations == []


@pytest.mark.requirement("family:fan-out:limit-of-one-never-deadlocks", "family:children:deterministic-ids")
async def test_a_parent_sleeps_on_its_children_without_slot_or_process_and_the_last_one_wakes_it(one: Lab) -> None:
    parent = (await one.create("boss", persona="lead")).agent
    one.play("boss", Spawn("left"), Spawn("right"), SleepOnChildren())
    view = await one.becomes("boss", "waiting", "children")
    assert await one.names() == {
        parent.id: "boss",
        f"{parent.id}_child_0": "left",
        f"{parent.id}_child_1": "right",
    }
    assert [session.closed for session in one.provider.sessions if session.spec.agent_name == "boss"] == [True]
    assert (await one.becomes("left", "working")).parent == "boss"
    assert not view.question
    one.finish("left", "what left found")
    await one.becomes("right", "working")
    assert (await one.view("boss")).status == "waiting"
    one.finish("boss", "both done")
    one.fail("right", detail="right could not")
    await one.becomes("boss", "complete")
    told = one.provider.answers["boss"][-1]
    assert "[left complete · $0.01]\n| what left found" in told
    assert "[right failed (api)" in told
    assert "| right could not" in told
    assert one.provider.prompts["boss"] == ["look"]


async def test_children_that_have_ended_before_are_told_at_once(one: Lab) -> None:
    await one.create("boss", persona="lead")
    one.play("boss", SleepOnChildren())
    one.finish("boss")
    await one.becomes("boss", "complete")
    assert one.provider.answers["boss"] == ["you have no children"]


async def test_a_writer_that_sleeps_on_its_children_lets_them_write(tmp_path: Path) -> None:
    write_lead(tmp_path)
    async with open_lab(tmp_path, slots=1) as lab:
        await lab.create("boss", persona="writing-lead")
        lab.play("boss", Spawn("child", persona="writing-lead"), SleepOnChildren())
        lab.finish("child")
        lab.finish("boss")
        await lab.becomes("boss", "complete")
        assert (await lab.view("child")).status == "complete"


async def test_a_child_that_asks_wakes_the_orchestrator_of_its_parent(one: Lab) -> None:
    await one.create("boss", persona="lead")
    one.play("boss", Spawn("child"), SleepOnChildren())
    await one.becomes("boss", "waiting", "children")
    await one.asks("child", "red or blue?")
    digest = await one.wait("boss")
    assert "NEEDS YOU child asks" in digest.text
    one.finish("child")
    one.finish("boss")
    await one.fleet.command(one.call(), "child", "red")
    await one.becomes("boss", "complete")


@pytest.mark.requirement(
    "limit:admission:sessions-depth-children-retries", "limit:admission:in-the-claiming-transaction"
)
async def test_depth_children_and_living_agents_are_limited_with_what_to_do(tmp_path: Path) -> None:
    write_lead(tmp_path, children=2)
    async with open_lab(tmp_path, AGENT_MAX_RECURSIVE_DEPTH=1, AGENT_MAX_SESSION=5) as lab:
        await lab.create("boss", persona="lead")
        lab.play("boss", Spawn("a", persona="lead"), Spawn("b"), Spawn("c"), SleepOnChildren())
        lab.play("a", Spawn("deeper"))
        lab.finish("a")
        lab.finish("b")
        lab.finish("boss")
        await lab.becomes("boss", "complete")
        answers = lab.provider.answers
        assert "may create 2" in answers["boss"][2]
        assert "AGENT_MAX_RECURSIVE_DEPTH is 1" in answers["a"][0]
        await lab.create("x")
        await lab.create("y")
        with pytest.raises(ConflictError, match="AGENT_MAX_SESSION is 5") as error:
            await lab.create("z")
        assert "delete" in error.value.hint


@pytest.mark.requirement("family:clearance:within-parents")
async def test_a_childs_tools_lie_within_its_parents(one: Lab) -> None:
    await one.create("boss", persona="lead")
    one.play("boss", Spawn("writer", persona="builder"), Spawn("scribe", persona="writing-lead"))
    one.finish("boss")
    await one.becomes("boss", "complete")
    first = one.provider.answers["boss"][0]
    assert "tools that you do not have" in first or "every tool" in first
    assert "tools that you do not have: Write" in one.provider.answers["boss"][1]
    assert list((await one.names()).values()) == ["boss"]


@pytest.mark.requirement("family:clearance:within-parents")
@pytest.mark.parametrize(
    ("front", "persona", "told"),
    [
        ("deny: Bash", "builder", "tools that you do not have: Bash"),
        ("deny: bash", "builder", "tools that you do not have: Bash"),
        ("tools: Read, Grep, Glob\nask: Bash", "reviewer", "without asking what you must ask for: Bash"),
        ("deny: Bash", "orchestrator", "tools that you do not have: mcp__plugin_fleet_fleet__create_agent"),
    ],
)
async def test_a_child_keeps_what_its_parent_is_denied_and_must_ask_for(
    one: Lab, front: str, persona: str, told: str
) -> None:
    define(one.project, "strict", f"{front}\nchildren: 5")
    await one.create("boss", persona="strict")
    one.play("boss", Spawn("kid", persona=persona), Spawn("scout"))
    one.finish("boss")
    await one.becomes("boss", "complete")
    assert told in one.provider.answers["boss"][0]
    assert list((await one.names()).values()) == ["boss", "scout"]


async def test_a_child_that_gets_its_next_task_at_once_does_not_wake_its_parent(tmp_path: Path) -> None:
    write_lead(tmp_path)
    async with open_lab(tmp_path) as lab:
        await lab.create("boss", persona="lead")
        lab.play("boss", Spawn("kid"), SleepOnChildren())
        await lab.becomes("boss", "waiting", "children")
        await lab.asks("kid", "red?")
        await lab.fleet.command(lab.call(), "kid", "do it otherwise", mode=DeliveryMode.INTERRUPT)
        await lab.becomes("kid", "working")
        assert (await lab.view("boss")).reason == "children"
        lab.finish("kid", "otherwise")
        lab.finish("boss")
        await lab.becomes("boss", "complete")
        assert "[kid complete" in lab.provider.answers["boss"][-1]


async def test_an_agent_whose_persona_has_no_children_cannot_create_any(one: Lab) -> None:
    await one.create("plain")
    await one.becomes("plain", "working")

    async def is_open() -> bool:
        return bool(one.provider.sessions)

    await eventually(is_open)
    assert {tool.name for tool in one.provider.sessions[0].spec.crew} == {"report_progress", "ask_orchestrator"}


@pytest.mark.requirement("budget:cap:suspends-until-top-up")
async def test_a_childs_budget_is_reserved_out_of_its_parents(tmp_path: Path) -> None:
    write_lead(tmp_path)
    async with open_lab(tmp_path, slots=2) as lab:
        await lab.fleet.create(lab.call(), NewAgent(name="boss", task="t", persona="lead", max_tokens=1000))
        child = {"max_tokens": 600}
        lab.play("boss", Spawn("a", more=child), Spawn("b", more=child), Spawn("c", more={"max_tokens": 300}))

        async def all_told() -> bool:
            return len(lab.provider.answers["boss"]) == 3

        await eventually(all_told)
        await lab.becomes("a", "working")
        assert "a child cannot have 600 tokens" in lab.provider.answers["boss"][1]
        assert "created" in lab.provider.answers["boss"][2]
        assert [(room.used, room.left) for room in (await lab.view("boss")).budgets] == [(900.0, 100.0)]
        lab.play("a", Spent(tokens=600, cost_usd=None))
        await lab.becomes("a", "waiting", "budget 600 tokens of 600 tokens")
        lab.play("boss", Spent(tokens=100, cost_usd=None))
        await lab.becomes("boss", "waiting", "budget 1.0k tokens of 1.0k tokens")
        await lab.fleet.set_budget(lab.call(), {Unit.TOKENS: 5000}, agent="boss")
        await lab.becomes("boss", "working")


@pytest.mark.requirement("family:abort:whole-subtree")
async def test_a_stop_of_a_parent_reaches_everybody_below(tmp_path: Path) -> None:
    write_lead(tmp_path)
    async with open_lab(tmp_path, slots=2) as lab:
        await lab.create("boss", persona="lead")
        lab.play("boss", Spawn("mid", persona="lead"), Spawn("other"), SleepOnChildren())
        lab.play("mid", Spawn("leaf"), SleepOnChildren())
        await lab.becomes("boss", "waiting", "children")
        await lab.becomes("mid", "waiting", "children")
        await lab.becomes("leaf", "working")
        await lab.fleet.interrupt(lab.call(), "boss")
        for name in ("boss", "mid", "leaf", "other"):
            await lab.becomes(name, "interrupted")
        gone = await lab.fleet.delete(lab.call(), ["boss"])
        assert sorted(one.name for one in gone) == ["boss", "leaf", "mid", "other"]
        assert await lab.names() == {}


@pytest.mark.requirement(
    "limit:admission:sessions-depth-children-retries", "limit:admission:in-the-claiming-transaction"
)
async def test_a_higher_priority_is_admitted_first(one: Lab) -> None:
    await one.create("first")
    for name, priority in (("low", -1), ("plain", 0), ("high", 5)):
        await one.fleet.create(one.call(), NewAgent(name=name, task="t", persona="scout", priority=priority))
    for name in ("first", "high", "plain", "low"):
        one.finish(name)
    await one.becomes("low", "complete")
    assert one.provider.opening == ["first", "high", "plain", "low"]


def plan(lab: Lab, name: str, depth: int) -> None:
    """Let the agent and everybody below it play their part of a tree."""
    if depth == 0:
        lab.finish(name, f"leaf {name}")
        return
    below = [f"{name}.{index}" for index in range(WIDTH)]
    persona = "lead" if depth > 1 else "scout"
    lab.play(name, *[Spawn(child, persona=persona) for child in below], SleepOnChildren())
    lab.finish(name, f"joined {name}")
    for child in below:
        plan(lab, child, depth - 1)


@pytest.mark.requirement("family:fan-out:limit-of-one-never-deadlocks", "family:tree:forty-nodes-one-slot")
async def test_a_tree_of_forty_agents_with_one_slot_survives_the_death_of_its_daemon(tmp_path: Path) -> None:
    write_lead(tmp_path)
    provider = ScriptedProvider()
    async with open_lab(tmp_path, slots=1, rest_seconds=0.0, provider=provider) as lab:
        plan(lab, "r", DEPTH)
        struck = "r.1.1.1"
        provider.scripts[struck] = asyncio.Queue()  # it works on and on
        await lab.create("r", persona="lead")

        async def is_struck() -> bool:
            return await working(lab) == [struck]

        await eventually(is_struck, seconds=TREE_SECONDS)
        before = await lab.fleet.status(lab.call(orchestrator="watcher"))
        await lab.die()
    for session in provider.sessions:
        session.closed = True
    async with open_lab(tmp_path, slots=1, rest_seconds=0.0, provider=provider) as lab:
        lab.finish(struck, "leaf after all")
        digest = await asyncio.wait_for(lab.fleet.wait(lab.call(), agents=["r"]), TREE_SECONDS)
        assert [(outcome.name, outcome.status, outcome.text) for outcome in digest.outcomes] == [
            ("r", "complete", "joined r")
        ]
        after = await lab.fleet.status(lab.call(orchestrator="watcher"))
        assert len(after.agents) == sum(WIDTH**level for level in range(DEPTH + 1)) == 40
        ids = {agent.name: agent.id for agent in after.agents}
        assert {agent.name: agent.id for agent in before.agents}.items() <= ids.items()
        assert ids["r.2.1"] == f"{ids['r']}_child_2_child_1"
        statuses = Counter(agent.status for agent in after.agents)
        assert statuses["complete"] == 40  # the one that was struck is taken up again
        for agent in after.agents:
            ends = [event.kind for event in await lab.events(agent.name) if event.kind in TERMINAL]
            assert len(ends) == 1, (agent.name, ends)
    assert provider.violations == []


async def working(lab: Lab) -> list[str]:
    view = await lab.fleet.status(lab.call(orchestrator="watcher"))
    return [agent.name for agent in view.agents if agent.status == "working"]


@pytest.mark.requirement("budget:cap:resumes-after-top-up")
async def test_a_childs_cap_takes_of_its_parents_only_what_the_child_had_not_taken_yet(tmp_path: Path) -> None:
    write_lead(tmp_path)
    async with open_lab(tmp_path) as lab:
        await lab.fleet.create(lab.call(), NewAgent(name="boss", task="t", persona="lead", max_tokens=1000))
        lab.play("boss", Spawn("kid"))
        lab.play("kid", Spent(tokens=600, cost_usd=None))

        async def has_used() -> bool:
            found = lab.provider.answers["boss"]
            return bool(found) and (await lab.context.find(lab.caller, "kid")).live_tokens == 600

        await eventually(has_used)
        with pytest.raises(RefusedError, match="give it at most 1000"):
            await lab.fleet.set_budget(lab.call(), {Unit.TOKENS: 1001}, agent="kid")
        await lab.fleet.set_budget(lab.call(), {Unit.TOKENS: 800}, agent="kid")
        with pytest.raises(RefusedError, match="give it at most 1000"):
            await lab.fleet.set_budget(lab.call(), {Unit.TOKENS: 1100}, agent="kid")
        lab.finish("kid")
        await lab.becomes("kid", "complete")
        await lab.fleet.set_budget(lab.call(), {Unit.TOKENS: 5000}, agent="kid")  # it reserves nothing now
