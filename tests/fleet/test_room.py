"""Corner cases of caps: agents with room again resume, nothing used is forgotten, nothing unused is counted."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.domain.agent import NewAgent
from orchestrator.domain.budget import Unit
from orchestrator.domain.event import Ended, SessionOutcome, Spent, ToolStarted
from orchestrator.fleet.execution import worker
from orchestrator.fleet.execution.pause import RESUME_PROMPT
from tests.fixtures.personas import define
from tests.fleet.scripted import Crash, Lab, ScriptedProvider, Spawn, eventually, open_lab

pytestmark = pytest.mark.anyio
NOON = 1_800_000_000.0
WRITING_LEAD = "---\nname: writing-lead\ntools: Read, Write\nchildren: 5\n---\nSplit the task.\n"
SILENT_END = Ended(outcome=SessionOutcome.FAILED, reason="process", detail="the session ended without a result")


@dataclass
class Clock:
    """A clock that goes on only when it is told to."""

    now: float = NOON

    def __call__(self) -> float:
        return self.now


async def spent(lab: Lab, name: str, tokens: int, cost_usd: float) -> None:
    """Return once it is written that the agent's run has used so much."""
    lab.play(name, Spent(tokens=tokens, cost_usd=cost_usd))

    async def is_written() -> bool:
        return (await lab.context.find(lab.caller, name)).live_tokens == tokens

    await eventually(is_written)


async def total(lab: Lab, name: str) -> tuple[int, float | None]:
    """Tokens and cost (None: unknown) of the agent, as a reader sees them."""
    view = await lab.view(name)
    return view.tokens, view.cost_usd


@pytest.mark.requirement("fault:stop:outlives-every-race")
@pytest.mark.parametrize("name", ["budget-page", "budget"])
async def test_a_writer_whose_name_begins_like_a_pause_lets_the_next_one_write_after_it(lab: Lab, name: str) -> None:
    for one in (name, "second"):
        await lab.create(one, persona="builder")
    assert (await lab.view("second")).status == "queued"
    assert (await lab.view("second")).reason == f"{name} writes in this checkout"
    lab.finish(name)
    lab.finish("second")
    await lab.becomes("second", "complete")


@pytest.mark.requirement("budget:cap:resumes-after-top-up")
async def test_a_higher_cap_in_the_settings_lets_paused_agents_go_on_at_the_next_start(tmp_path: Path) -> None:
    provider = ScriptedProvider()
    async with open_lab(tmp_path, provider=provider, FLEET_MAX_TOKENS=100) as lab:
        await lab.create("a")
        lab.play("a", Spent(tokens=100, cost_usd=0.1))
        await lab.becomes("a", "waiting", "budget of the fleet")
    async with open_lab(tmp_path, provider=provider, FLEET_MAX_TOKENS=1000) as lab:
        lab.finish("a")
        await lab.becomes("a", "complete")
        assert provider.prompts["a"] == ["look", RESUME_PROMPT]


@pytest.mark.requirement("budget:cap:resumes-after-top-up")
async def test_an_agent_that_ends_below_its_estimate_leaves_its_room_to_those_that_paused(lab: Lab) -> None:
    await lab.fleet.set_budget(lab.call(), {Unit.USD: 0.3})
    await lab.create("a")
    await lab.becomes("a", "working")
    await spent(lab, "a", 10, 0.2)
    await lab.create("b")  # only now: `a` has looked at its room, and hears of no other's use
    await lab.becomes("b", "working")
    lab.play("b", Spent(tokens=10, cost_usd=0.1))
    await lab.becomes("b", "waiting", "budget of the fleet $0.30 of $0.30")
    lab.finish("b")
    lab.finish("a", cost_usd=0.01)
    await lab.becomes("a", "complete")
    await lab.becomes("b", "complete")
    assert lab.provider.prompts["b"] == ["look", RESUME_PROMPT]


@pytest.mark.requirement("budget:cap:resumes-after-top-up", "budget:price:source-and-date")
async def test_room_elsewhere_does_not_wake_an_agent_that_paused_for_an_unknown_price(lab: Lab) -> None:
    await lab.fleet.create(lab.call(), NewAgent(name="a", task="look", persona="scout", max_cost_usd=1.0))
    lab.play("a", Spent(tokens=10, cost_usd=None))
    await lab.becomes("a", "waiting", "price of its model is unknown")
    await lab.fleet.set_budget(lab.call(), {Unit.TOKENS: 10_000})
    assert (await lab.view("a")).status == "waiting"
    await lab.create("b")
    lab.finish("b")
    await lab.becomes("b", "complete")
    assert "price of its model is unknown" in (await lab.view("a")).reason
    assert lab.provider.prompts["a"] == ["look"]


@pytest.mark.requirement("budget:cap:agent-subtree-fleet", "recovery:start:rows-reconciled")
async def test_the_time_in_which_no_daemon_ran_is_not_worked_time(tmp_path: Path) -> None:
    provider, clock = ScriptedProvider(), Clock()
    async with open_lab(tmp_path, provider=provider, clock=clock) as lab:
        await lab.fleet.create(lab.call(), NewAgent(name="a", task="look", persona="scout", max_seconds=600))
        await lab.becomes("a", "working")
        clock.now += 60
        lab.play("a", ToolStarted(call_id="t1", tool="Read", summary=""))

        async def is_written() -> bool:
            return any(event.kind == "tool.started" for event in await lab.events("a"))

        await eventually(is_written)
        await lab.die()
    clock.now += 3600
    async with open_lab(tmp_path, provider=provider, clock=clock) as lab:
        lab.finish("a")
        await lab.becomes("a", "complete")
        assert 0 <= (await lab.view("a")).budgets[0].used <= 60


@pytest.mark.requirement("budget:cap:resumes-after-top-up", "family:children:deterministic-ids")
async def test_a_writer_that_paused_at_its_cap_lets_its_child_write(tmp_path: Path) -> None:
    define(tmp_path / "project", "writing-lead", "tools: Read, Write\nchildren: 5")
    async with open_lab(tmp_path) as lab:
        await lab.fleet.create(lab.call(), NewAgent(name="boss", task="t", persona="writing-lead", max_tokens=1000))
        lab.play("boss", Spawn("child", persona="writing-lead", more={"max_tokens": 600}))

        async def has_child() -> bool:
            return bool(lab.provider.answers["boss"])

        await eventually(has_child)
        await lab.becomes("child", "queued", "boss writes in this checkout")
        lab.play("boss", Spent(tokens=400, cost_usd=None))
        await lab.becomes("boss", "waiting", "budget 1.0k tokens of 1.0k tokens")
        lab.finish("child")
        await lab.becomes("child", "complete")
        lab.finish("boss")
        await lab.becomes("boss", "complete")
        assert lab.provider.prompts["boss"] == ["t", RESUME_PROMPT]


@asynccontextmanager
async def cut_off(place: Path, cap: int | None) -> AsyncGenerator[Lab]:
    """A fleet after a kill: `b` and then `a`, with 70 tokens for $0.30, are to be taken up under this cap."""
    provider = ScriptedProvider()
    async with open_lab(place, slots=2, provider=provider) as lab:
        for name in ("b", "a"):
            await lab.create(name)
            await lab.becomes(name, "working")
        await spent(lab, "a", 70, 0.3)
        await lab.die()
    async with open_lab(place, slots=1, provider=provider, FLEET_MAX_TOKENS=cap) as lab:
        yield lab
        assert provider.violations == []


@pytest.mark.requirement("budget:cap:agent-subtree-fleet", "recovery:start:rows-reconciled")
@pytest.mark.parametrize(("cap", "status"), [(None, "queued"), (50, "waiting")])
async def test_what_a_cut_off_run_used_is_kept_when_its_turn_is_ended_before_it_is_taken_up(
    tmp_path: Path, cap: int | None, status: str
) -> None:
    async with cut_off(tmp_path, cap) as lab:
        await lab.becomes("a", status)
        await lab.fleet.interrupt(lab.call(), "a")
        await lab.becomes("a", "interrupted")
        assert await total(lab, "a") == (70, None)
        await lab.fleet.set_budget(lab.call(), {Unit.TOKENS: 1000})
        await lab.fleet.command(lab.call(), "a", "again")
        lab.finish("b")
        lab.finish("a")
        await lab.becomes("a", "complete")
        assert await total(lab, "a") == (85, None)


@pytest.mark.requirement("budget:cap:agent-subtree-fleet")
@pytest.mark.parametrize("end", [Crash(RuntimeError("boom")), SILENT_END], ids=["internal", "process"])
async def test_what_a_run_used_that_broke_off_is_kept(tmp_path: Path, end: Crash | Ended) -> None:
    async with open_lab(tmp_path, max_resumes=0) as lab:
        await lab.create("a")
        await spent(lab, "a", 70, 0.3)
        lab.play("a", end)
        await lab.becomes("a", "failed")
        assert await total(lab, "a") == (70, None)


@pytest.mark.requirement("budget:cap:agent-subtree-fleet", "fault:stop:outlives-every-race")
async def test_what_a_run_used_that_had_to_be_cut_off_is_kept(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "STOP_SECONDS", 0.05)
    lab.provider.deaf.add("a")
    await lab.create("a")
    await spent(lab, "a", 70, 0.3)
    await lab.fleet.interrupt(lab.call(), "a")
    await lab.becomes("a", "interrupted")
    assert await total(lab, "a") == (70, None)
