"""Two things at the same instant, one of them a stop: it ends what was meant, and what waits behind that stays."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pytest

from orchestrator.domain.agent import NewAgent
from orchestrator.domain.budget import Unit
from orchestrator.domain.clearance import ASK
from orchestrator.domain.event import Ended, Outcome, SessionEvent, Spent
from orchestrator.domain.tool import ToolCall
from orchestrator.domain.turn import Mode
from orchestrator.fleet.pausing import GO_ON
from orchestrator.fleet.steering import INTO_TURN
from orchestrator.providers.base import Prompt, Session, SessionSpec
from tests.fleet.scripted import (
    USED,
    Lab,
    ScriptedProvider,
    SteerableSession,
    Step,
    eventually,
    open_lab,
)

pytestmark = pytest.mark.anyio
T = TypeVar("T")
LEAD = "---\nname: lead\ntools: Read, Grep, Glob\nchildren: 5\n---\nSplit the task.\n"
ENDED = {"complete", "failed", "interrupted", "cancelled"}


@dataclass(eq=False)
class ReadingSession(SteerableSession):
    """A session whose model has read what was handed in, however its run ends."""

    async def run(self, prompt: Prompt | None) -> AsyncIterator[SessionEvent]:
        """Play steps until one ends the run."""
        async for event in super().run(prompt):
            yield replace(event, steered=tuple(self.read)) if isinstance(event, Ended) else event


@dataclass
class ReadingProvider(ScriptedProvider):
    """A vendor whose models read everything at once."""

    async def open(self, spec: SessionSpec) -> Session:
        """Open a session."""
        self.opening.append(spec.agent_name)
        session = ReadingSession(self, spec)
        self.sessions.append(session)
        return session


async def statuses(lab: Lab, name: str) -> list[str]:
    """The states of the agent's turns, once all have ended."""
    found: list[str] = []

    async def over() -> bool:
        nonlocal found
        found = [turn.status for turn in await lab.turns(name)]
        return set(found) <= ENDED

    try:
        await eventually(over)
    except TimeoutError:
        raise AssertionError(f"the turns of {name} did not end: {found}") from None
    return found


async def taken(lab: Lab, name: str, *steps: Step) -> None:
    """Return once the agent has done this and waits for its next step."""
    lab.play(name, *steps)

    async def idle() -> bool:
        sessions = [one for one in lab.provider.sessions if one.spec.agent_name == name]
        return lab.provider.script(name).empty() and any(one.listens for one in sessions)

    await eventually(idle)


async def told_to_stop(lab: Lab, name: str) -> None:
    """Return once the agent's run was interrupted."""

    async def is_told() -> bool:
        return any(one.interrupts for one in lab.provider.sessions if one.spec.agent_name == name)

    await eventually(is_told)


async def answered(lab: Lab) -> None:
    """Let `a` have the answer to its question, and no slot."""
    await lab.create("a", task="one")
    await lab.asks("a")
    await lab.create("b")
    await taken(lab, "b")
    await lab.fleet.answer(lab.call(), "a", "red")


async def topped_up(lab: Lab) -> None:
    """Let `a`, which had paused at its budget, have room again, and no slot."""
    await lab.fleet.create(lab.call(), NewAgent(name="a", task="one", persona="scout", max_tokens=100))
    lab.play("a", Spent(tokens=100, cost_usd=0.1))
    await lab.becomes("a", "waiting", "budget")
    await lab.create("b")
    await taken(lab, "b")
    await lab.fleet.set_budget(lab.call(), {Unit.TOKENS: 1000}, agent="a")


@asynccontextmanager
async def begun_and_queued(place: Path, how: str) -> AsyncGenerator[Lab]:
    """A fleet with one slot, held by `b`, in which the first turn of `a` has begun and is queued."""
    provider = ScriptedProvider()
    if how == "recovering":
        async with open_lab(place, slots=2, provider=provider) as lab:
            for name, task in (("b", "look"), ("a", "one")):
                await lab.create(name, task=task)
                await taken(lab, name)
            await lab.die()
    async with open_lab(place, slots=1, provider=provider) as lab:
        if how == "answered":
            await answered(lab)
        elif how == "topped up":
            await topped_up(lab)
        await lab.becomes("b", "working")
        await lab.becomes("a", "queued")
        yield lab
        assert provider.violations == []


BEGUN = pytest.mark.parametrize("how", ["answered", "topped up", "recovering"])


@BEGUN
@pytest.mark.requirement("I4-fault-stop")
async def test_a_command_that_interrupts_replaces_a_turn_that_has_begun_and_is_queued(tmp_path: Path, how: str) -> None:
    async with begun_and_queued(tmp_path, how) as lab:
        await lab.fleet.command(lab.call(), "a", "two", mode=Mode.INTERRUPT)
        lab.finish("b")
        lab.finish("a")
        lab.finish("a")
        assert await statuses(lab, "a") == ["interrupted", "complete"]
        assert lab.provider.prompts["a"] == ["one", "two"]


@BEGUN
@pytest.mark.requirement("I4-fault-stop")
async def test_an_interrupt_of_a_turn_that_has_begun_and_is_queued_keeps_the_turns_behind_it(
    tmp_path: Path, how: str
) -> None:
    async with begun_and_queued(tmp_path, how) as lab:
        await lab.fleet.command(lab.call(), "a", "two")
        await lab.fleet.interrupt(lab.call(), "a")
        lab.finish("b")
        lab.finish("a")
        assert await statuses(lab, "a") == ["interrupted", "complete"]
        assert lab.provider.prompts["a"] == ["one", "two"]


@asynccontextmanager
async def steered(place: Path) -> AsyncGenerator[Lab]:
    """A fleet whose agent `a` (at most 100 tokens) has read `and this` in its running turn."""
    async with open_lab(place, provider=ReadingProvider()) as lab:
        await lab.fleet.create(lab.call(), NewAgent(name="a", task="one", persona="scout", max_tokens=100))
        await taken(lab, "a")
        receipt = await lab.fleet.command(lab.call(), "a", "and this", mode=Mode.STEER)
        assert INTO_TURN in receipt.happened
        yield lab
        assert lab.provider.violations == []


@pytest.mark.requirement("I4-steer", "I4-budget-pause")
async def test_a_text_that_was_read_before_a_pause_at_a_cap_is_not_read_again_after_it(tmp_path: Path) -> None:
    async with steered(tmp_path) as lab:
        lab.play("a", Spent(tokens=100, cost_usd=0.1))
        await lab.becomes("a", "waiting", "budget")
        await lab.fleet.set_budget(lab.call(), {Unit.TOKENS: 1000}, agent="a")
        lab.finish("a")
        lab.finish("a")
        assert await statuses(lab, "a") == ["complete", "cancelled"]
        assert lab.provider.prompts["a"] == ["one", GO_ON]


@pytest.mark.parametrize("reason", ["quota", "overloaded"])
@pytest.mark.requirement("I4-steer", "I4-quota-retry")
async def test_a_text_that_was_read_before_the_model_refused_is_not_read_again(tmp_path: Path, reason: str) -> None:
    async with steered(tmp_path) as lab:
        lab.play("a", Ended(outcome=Outcome.FAILED, reason=reason, detail="slow down", usage=USED, cost_usd=0.0))
        await lab.becomes("a", "waiting")
        now = lab.core.commits.clock()
        lab.core.commits.clock = lambda: now + 600
        lab.core.commits.bell.ring()
        lab.finish("a")
        lab.finish("a")
        assert await statuses(lab, "a") == ["complete", "cancelled"]
        assert lab.provider.prompts["a"] == ["one", GO_ON]


@pytest.mark.requirement("I4-steer")
async def test_a_text_that_was_read_in_an_interrupted_turn_is_not_read_again(tmp_path: Path) -> None:
    async with steered(tmp_path) as lab:
        await lab.fleet.interrupt(lab.call(), "a")
        await told_to_stop(lab, "a")
        lab.finish("a")
        assert await statuses(lab, "a") == ["interrupted", "cancelled"]
        assert lab.provider.prompts["a"] == ["one"]


@pytest.mark.requirement("I4-budget-pause")
async def test_a_question_asked_as_the_cap_is_reached_is_still_asked(lab: Lab) -> None:
    call = ToolCall(id="toolu_late", name=ASK, input={"question": "which one?", "options": []})
    lab.provider.deaf.add("a")
    new = NewAgent(name="a", task="one", persona="scout", max_tokens=100)
    agent = (await lab.fleet.create(lab.call(), new)).agent
    lab.play("a", Spent(tokens=100, cost_usd=0.1))
    await told_to_stop(lab, "a")
    lab.provider.deferred[agent.id] = call
    lab.play("a", Ended(outcome=Outcome.DEFERRED, deferred=call, usage=USED, cost_usd=0.1))
    view = await lab.becomes("a", "waiting", "question")
    assert view.question is not None
    assert view.question.text == "which one?"
    await lab.fleet.answer(lab.call(), "a", "red")
    await lab.fleet.set_budget(lab.call(), {Unit.TOKENS: 1000}, agent="a")
    lab.finish("a")
    assert await statuses(lab, "a") == ["complete"]
    assert lab.provider.answers["a"] == ["red"]
    assert lab.provider.prompts["a"] == ["one"]
