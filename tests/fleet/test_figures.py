"""Usage of agents as readers see it: nothing spent is not unknown, and the turn at work counts."""

from __future__ import annotations

import pytest

from orchestrator.domain.agent import NewAgent
from orchestrator.domain.event import Ended, SessionOutcome, Spent
from orchestrator.errors import ProviderError
from tests.fleet.scripted import USED, Lab, eventually

pytestmark = pytest.mark.anyio


async def costs(lab: Lab, name: str) -> tuple[float | None, float | None]:
    """The agent's cost and that of its last turn."""
    return (await lab.view(name)).cost_usd, (await lab.fleet.detail(lab.call(), name)).turns[-1].cost_usd


async def goes_on_priced(lab: Lab, name: str) -> None:
    """The agent's next turn has a known cost, and so has the agent."""
    lab.finish(name, cost_usd=0.25)
    await lab.fleet.command(lab.call(), name, "now do it")
    await lab.becomes(name, "complete")
    assert await costs(lab, name) == (0.25, 0.25)


@pytest.mark.requirement("turn:usage:unknown-stays-unknown")
async def test_an_agent_that_is_interrupted_in_the_queue_has_cost_nothing(lab: Lab) -> None:
    for number in range(5):
        await lab.create(f"a{number}")
    await lab.fleet.interrupt(lab.call(), "a4")
    assert await costs(lab, "a4") == (0.0, 0.0)
    assert (await lab.fleet.status(lab.call(), ["a4"])).totals.cost_usd == 0.0


@pytest.mark.requirement("turn:usage:unknown-stays-unknown")
async def test_a_turn_that_is_stopped_before_its_session_has_the_prompt_has_cost_nothing(lab: Lab) -> None:
    lab.provider.may_open.clear()
    await lab.create("a")

    async def opens() -> bool:
        return "a" in lab.provider.opening

    await eventually(opens)
    await lab.fleet.interrupt(lab.call(), "a")
    lab.provider.may_open.set()
    await lab.becomes("a", "interrupted")
    assert await costs(lab, "a") == (0.0, 0.0)
    await goes_on_priced(lab, "a")


@pytest.mark.requirement("turn:usage:unknown-stays-unknown")
async def test_a_turn_whose_session_does_not_start_has_cost_nothing(lab: Lab) -> None:
    lab.provider.fails["a"] = ProviderError("claude does not start")
    await lab.create("a")
    await lab.becomes("a", "failed", "start")
    assert await costs(lab, "a") == (0.0, 0.0)
    del lab.provider.fails["a"]
    await goes_on_priced(lab, "a")


@pytest.mark.requirement("turn:usage:unknown-stays-unknown")
async def test_a_turn_that_cannot_be_prepared_costs_nothing_and_forgets_no_total_of_the_session(lab: Lab) -> None:
    (lab.project / "part").mkdir()
    await lab.fleet.create(lab.call(), NewAgent(name="a", task="look", persona="scout", cwd="part"))
    lab.finish("a", cost_usd=0.25)
    await lab.becomes("a", "complete")
    (lab.project / "part").rmdir()
    await lab.fleet.command(lab.call(), "a", "once more")
    await lab.becomes("a", "failed", "start")
    assert await costs(lab, "a") == (0.25, 0.0)
    assert (await lab.context.find(lab.caller, "a")).session_cost_usd == 0.25


@pytest.mark.requirement("turn:usage:unknown-stays-unknown")
async def test_what_a_run_under_way_has_used_is_in_the_figures_of_its_agent_and_of_the_fleet(lab: Lab) -> None:
    await lab.create("a")
    lab.finish("a", cost_usd=0.25)
    await lab.becomes("a", "complete")
    before = (await lab.view("a")).tokens
    await lab.fleet.command(lab.call(), "a", "more")
    lab.play("a", Spent(tokens=500, cost_usd=5.0))

    async def is_written() -> bool:
        return (await lab.context.find(lab.caller, "a")).live_tokens == 500

    await eventually(is_written)
    view = await lab.view("a")
    assert (view.tokens, view.cost_usd) == (before + 500, 5.25)
    totals = (await lab.fleet.status(lab.call())).totals
    assert (totals.tokens, totals.cost_usd) == (before + 500, 5.25)


@pytest.mark.requirement("turn:usage:unknown-stays-unknown")
async def test_a_run_of_a_model_without_a_price_shows_no_cost_while_it_works(lab: Lab) -> None:
    await lab.create("a")
    lab.play("a", Spent(tokens=500, cost_usd=None))

    async def is_written() -> bool:
        return (await lab.context.find(lab.caller, "a")).live_tokens == 500

    await eventually(is_written)
    assert (await lab.view("a")).cost_usd is None
    assert (await lab.fleet.status(lab.call())).totals.cost_usd is None


async def test_calls_that_the_vendors_program_denies_by_itself_are_in_the_log(lab: Lab) -> None:
    await lab.create("a")
    denied = ("Write", "Bash")
    lab.play("a", Ended(outcome=SessionOutcome.COMPLETE, text="done", usage=USED, cost_usd=0.01, denied=denied))
    await lab.becomes("a", "complete")
    assert [event.body["tools"] for event in await lab.events("a") if event.kind == "session.denied"] == [list(denied)]
