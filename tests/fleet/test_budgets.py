"""Budgets: an agent is suspended at its cap, says so, and resumes the same turn once it has more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orchestrator.domain.agent import NewAgent
from orchestrator.domain.budget import Unit
from orchestrator.domain.event import Ended, SessionOutcome, Spent, ToolStarted
from orchestrator.errors import ConflictError, InvalidError
from orchestrator.fleet.execution.pause import RESUME_PROMPT
from orchestrator.fleet.views import AgentView
from tests.fleet.scripted import Lab, ScriptedProvider, eventually, open_lab

pytestmark = pytest.mark.anyio
USD, TOKENS, TURNS, SECONDS = Unit.USD, Unit.TOKENS, Unit.TURNS, Unit.SECONDS


async def capped(lab: Lab, name: str, **caps: float) -> AgentView:
    new = NewAgent(name=name, task="look", persona="scout", **caps)  # pyright: ignore[reportArgumentType] - caps of all kinds
    return (await lab.fleet.create(lab.call(), new)).agent


async def opened(lab: Lab, count: int) -> None:
    """Return once so many sessions are open."""

    async def are() -> bool:
        return len(lab.provider.sessions) >= count

    await eventually(are)


def stopped(lab: Lab, name: str) -> int:
    """How often the agent's run was interrupted."""
    return sum(session.interrupts for session in lab.provider.sessions if session.spec.agent_name == name)


@pytest.mark.requirement("budget:cap:suspends-until-top-up", "budget:cap:resumes-after-top-up")
async def test_an_agent_pauses_at_its_cap_and_the_same_turn_goes_on_after_a_top_up(lab: Lab) -> None:
    await capped(lab, "a", max_cost_usd=0.5)
    lab.play("a", Spent(tokens=10, cost_usd=0.2), Spent(tokens=30, cost_usd=0.5))
    view = await lab.becomes("a", "waiting", "budget $0.50 of $0.50")
    assert [(one.unit, one.cap, one.left) for one in view.budgets] == [("usd", 0.5, 0.0)]
    assert stopped(lab, "a") == 1
    assert [session.closed for session in lab.provider.sessions] == [True]

    digest = await lab.wait()
    assert digest.needs == ("a",)
    assert 'NEEDS YOU a: budget $0.50 of $0.50 -> command_agent(agent="a", max_cost_usd=1)' in digest.text
    receipt = await lab.fleet.command(lab.call(), "a", caps={USD: 1.0})
    assert "continues" in receipt.happened
    lab.finish("a", "all of it")
    await lab.becomes("a", "complete")
    assert lab.provider.prompts["a"] == ["look", RESUME_PROMPT]
    turns = await lab.turns("a")
    assert [(turn.status, turn.result) for turn in turns] == [("complete", "all of it")]
    kinds = [event.kind for event in await lab.events("a")]
    assert [kind for kind in kinds if kind.startswith("turn.")] == [
        "turn.queued",
        "turn.started",
        "turn.waiting",
        "turn.resumed",
        "turn.resumed",
        "turn.complete",
    ]


@pytest.mark.requirement("budget:tokens:capped-at-creation")
async def test_a_tool_does_not_run_once_the_cap_is_reached(lab: Lab) -> None:
    from orchestrator.domain.tool import ToolCall

    await capped(lab, "a", max_tokens=100)
    lab.play("a", ToolStarted(call_id="t1", tool="Read", summary=""), Spent(tokens=60, cost_usd=None))
    await lab.becomes("a", "working")
    await opened(lab, 1)
    session = lab.provider.sessions[0]
    await session.spec.decide(ToolCall(id="t1", name="Read", input={}))
    lab.play("a", ToolStarted(call_id="t2", tool="Read", summary=""), Spent(tokens=120, cost_usd=None))
    asked = asyncio.ensure_future(session.spec.decide(ToolCall(id="t2", name="Read", input={})))
    await lab.becomes("a", "waiting", "budget 120 tokens of 100 tokens")
    assert not asked.done()
    asked.cancel()


async def test_a_cap_is_checked_before_a_turn_begins(lab: Lab) -> None:
    await capped(lab, "a", max_total_turns=1)
    lab.finish("a")
    await lab.becomes("a", "complete")
    await lab.fleet.command(lab.call(), "a", "more")
    view = await lab.becomes("a", "waiting", "budget 1 turns of 1 turns")
    assert "fleet budget a --max-total-turns 2" in view.remedy
    lab.finish("a", "more done")
    await lab.fleet.set_budget(lab.call(), {TURNS: 2}, agent="a")
    await lab.becomes("a", "complete")
    assert lab.provider.prompts["a"] == ["look", "more"]


@pytest.mark.requirement("budget:cap:agent-subtree-fleet")
async def test_a_turn_is_stopped_when_its_seconds_are_up(lab: Lab) -> None:
    await capped(lab, "a", max_seconds=0.2)
    view = await lab.becomes("a", "waiting", "budget")
    assert view.budgets[0].used >= 0.2
    lab.finish("a")
    await lab.fleet.set_budget(lab.call(), {SECONDS: 60}, agent="a")
    await lab.becomes("a", "complete")


async def test_a_task_for_an_agent_at_its_cap_is_refused_with_the_call_that_raises_it(lab: Lab) -> None:
    await capped(lab, "a", max_tokens=100)
    lab.play("a", Spent(tokens=100, cost_usd=0.1))
    await lab.becomes("a", "waiting", "budget")
    with pytest.raises(ConflictError, match="nothing was queued") as error:
        await lab.fleet.command(lab.call(), "a", "go on")
    assert 'command_agent(agent="a", max_tokens=200)' in error.value.hint
    lab.finish("a")
    lab.finish("a")
    await lab.fleet.command(lab.call(), "a", "and then this", caps={TOKENS: 1000})
    await lab.becomes("a", "complete")
    assert lab.provider.prompts["a"] == ["look", RESUME_PROMPT, "and then this"]


async def test_a_top_up_that_is_too_small_says_what_is_still_missing(lab: Lab) -> None:
    await capped(lab, "a", max_tokens=100)
    lab.play("a", Spent(tokens=150, cost_usd=0.1))
    await lab.becomes("a", "waiting", "budget")
    lab.finish("a")
    receipt = await lab.fleet.command(lab.call(), "a", caps={TOKENS: 10})
    assert "still waits" in receipt.happened
    assert (await lab.view("a")).status == "waiting"


async def test_an_interrupt_ends_a_paused_turn_and_deleting_keeps_what_was_spent(lab: Lab) -> None:
    await capped(lab, "a", max_tokens=100)
    lab.play("a", Spent(tokens=100, cost_usd=0.1))
    await lab.becomes("a", "waiting", "budget")
    await lab.fleet.interrupt(lab.call(), "a")
    assert (await lab.view("a")).status == "interrupted"
    await capped(lab, "b", max_tokens=100)
    lab.play("b", Spent(tokens=70, cost_usd=0.1))

    async def told() -> bool:
        return (await lab.view("b")).budgets[0].used == 70

    await eventually(told)
    await lab.fleet.delete(lab.call(), ["b"])
    assert (await lab.view("b")).tokens == 70


@pytest.mark.requirement("budget:cap:agent-subtree-fleet")
async def test_the_fleet_pauses_at_its_cap_and_a_person_raises_it(lab: Lab) -> None:
    await lab.fleet.set_budget(lab.call(), {USD: 0.3})
    for name in ("a", "b"):
        await lab.create(name)
        await lab.becomes(name, "working")
    lab.play("a", Spent(tokens=10, cost_usd=0.3))
    await lab.becomes("a", "waiting", "budget of the fleet $0.30 of $0.30")
    lab.play("b", Spent(tokens=10, cost_usd=0.01))
    view = await lab.becomes("b", "waiting", "budget of the fleet")  # whose spending it notices first is open
    assert "fleet budget --max-cost-usd" in view.remedy
    lab.finish("a")
    lab.finish("b")
    await lab.fleet.set_budget(lab.call(), {USD: 10.0})
    await lab.becomes("a", "complete")
    await lab.becomes("b", "complete")


@pytest.mark.requirement("budget:cap:agent-subtree-fleet")
async def test_a_subtree_and_the_fleet_show_what_is_left(lab: Lab) -> None:
    await lab.create("a")
    await lab.fleet.set_budget(lab.call(), {TOKENS: 1000}, agent="a", subtree=True)
    lab.finish("a")
    await lab.becomes("a", "complete")
    shown = (await lab.fleet.budget(lab.call(), "a")).budgets
    assert [(one.scope, one.unit, one.cap, one.used, one.left) for one in shown] == [
        ("subtree", "tokens", 1000.0, 15.0, 985.0)
    ]
    assert (await lab.fleet.budget(lab.call())).budgets == ()


async def test_a_cap_in_dollars_is_refused_where_no_price_is_known(lab: Lab) -> None:
    new = NewAgent(name="a", task="t", persona="scout", model="unpriced", max_cost_usd=1.0)
    with pytest.raises(InvalidError, match="price of unpriced is not known") as error:
        await lab.fleet.create(lab.call(), new)
    assert "max_tokens" in error.value.hint


async def test_an_agent_whose_price_turns_out_unknown_pauses_under_a_cap_in_dollars(lab: Lab) -> None:
    await capped(lab, "a", max_cost_usd=1.0)
    lab.play("a", Spent(tokens=10, cost_usd=None))
    view = await lab.becomes("a", "waiting", "price of its model is unknown")
    assert "max_tokens" in view.remedy


@pytest.mark.parametrize("cap", [0, -1, float("nan"), float("inf")])
async def test_a_cap_that_is_none_is_refused(lab: Lab, cap: float) -> None:
    with pytest.raises(InvalidError, match="max_cost_usd"):
        await capped(lab, "a", max_cost_usd=cap)


async def test_a_paused_agent_survives_the_daemon_and_goes_on_after_it(tmp_path: Path) -> None:
    provider = ScriptedProvider()
    async with open_lab(tmp_path, provider=provider) as lab:
        await capped(lab, "a", max_tokens=100)
        lab.play("a", Spent(tokens=100, cost_usd=0.1))
        await lab.becomes("a", "waiting", "budget")
    async with open_lab(tmp_path, provider=provider) as lab:
        assert (await lab.view("a")).reason.startswith("budget")
        lab.finish("a")
        await lab.fleet.command(lab.call(), "a", caps={TOKENS: 500})
        await lab.becomes("a", "complete")
        assert provider.prompts["a"] == ["look", RESUME_PROMPT]
        assert [turn.status for turn in await lab.turns("a")] == ["complete"]


@pytest.mark.requirement("guarantee:spending:one-call-beyond-cap")
async def test_a_cap_is_exceeded_by_at_most_one_call_of_the_model_per_live_agent(lab: Lab) -> None:
    """Each agent's gate lets a tool run, and so a next call be made, only while the fleet has room."""
    from orchestrator.domain.tool import ToolCall

    await lab.fleet.set_budget(lab.call(), {TOKENS: 1000})
    names = ["a", "b", "c"]
    for name in names:
        await lab.create(name)
        await lab.becomes(name, "working")
    await opened(lab, len(names))
    calls: dict[str, int] = dict.fromkeys(names, 0)

    async def work(name: str, spec_index: int) -> None:
        session = lab.provider.sessions[spec_index]
        while True:
            calls[name] += 1
            call_id = f"{name}{calls[name]}"
            lab.play(
                name,
                ToolStarted(call_id=call_id, tool="Read", summary=""),
                Spent(tokens=100 * calls[name], cost_usd=0.0),
            )
            await session.spec.decide(ToolCall(id=call_id, name="Read", input={}))

    order = [session.spec.agent_name for session in lab.provider.sessions]
    workers = [asyncio.ensure_future(work(name, index)) for index, name in enumerate(order)]
    for name in names:
        await lab.becomes(name, "waiting", "budget of the fleet")
    for worker in workers:
        worker.cancel()
    assert 1000 <= 100 * sum(calls.values()) <= 1000 + 100 * len(names)


async def test_a_turn_that_ends_at_its_cap_is_complete(lab: Lab) -> None:
    await capped(lab, "a", max_tokens=10)
    lab.play("a", Ended(outcome=SessionOutcome.COMPLETE, text="done"))
    await lab.becomes("a", "complete")
