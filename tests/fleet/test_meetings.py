"""Two things at the same instant, one of them a stop: it ends what was meant, and queued turns stay."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import anyio
import pytest

from orchestrator.domain.agent import NewAgent
from orchestrator.domain.budget import Unit
from orchestrator.domain.clearance import ASK
from orchestrator.domain.event import Ended, SessionEvent, SessionOutcome, Spent, ToolStarted
from orchestrator.domain.tool import ToolCall
from orchestrator.domain.turn import DeliveryMode
from orchestrator.fleet.execution.pause import RESUME_PROMPT
from orchestrator.fleet.sessions.steering import INTO_TURN
from orchestrator.fleet.views import Receipt
from orchestrator.providers.base import Prompt, Session, SessionSpec
from tests.fixtures.personas import define
from tests.fleet.scripted import (
    DEADLINE_SECONDS,
    USED,
    Lab,
    ScriptedProvider,
    SleepOnChildren,
    Spawn,
    SteerableSession,
    Step,
    eventually,
    open_lab,
)

pytestmark = pytest.mark.anyio
T = TypeVar("T")
ROUNDS = 10
"""of the loop, far more than a commit takes from being asked for until it stands in the writer's queue"""
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


@asynccontextmanager
async def one_batch(lab: Lab) -> AsyncGenerator[Callable[[str], Awaitable[None]]]:
    """What is written in the block is committed together at its end; called with its name: until a write is queued."""
    work, held, go = lab.context.work, threading.Event(), threading.Event()
    begun: dict[str, anyio.Event] = defaultdict(anyio.Event)
    commit = work.commit

    async def noting(op: Callable[..., object], *args: object, **kwargs: object) -> object:
        begun[op.__name__].set()
        return await commit(op, *args, **kwargs)

    def hold(_connection: object) -> None:
        held.set()
        go.wait(DEADLINE_SECONDS)

    async def queued(name: str) -> None:
        with anyio.fail_after(DEADLINE_SECONDS):
            await begun[name].wait()
        for _ in range(ROUNDS):
            await asyncio.sleep(0)

    async with anyio.create_task_group() as group:
        group.start_soon(work.store.write, hold)
        try:
            await eventually(lambda: asyncio.sleep(0, held.is_set()))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(work, "commit", noting)
                yield queued
        finally:
            go.set()


async def meets_the_end(lab: Lab, name: str, writes: str, verb: Callable[[], Awaitable[T]]) -> T:
    """Let the verb, which writes this, and the end of the agent's running turn be one batch, the verb first."""
    given: list[T] = []

    async def ask() -> None:
        given.append(await verb())

    for slot in lab.slots():
        if slot.live is not None:
            await slot.live.recorder.flush()  # so that the end of the turn is a single write
    async with anyio.create_task_group() as group, one_batch(lab) as queued:
        group.start_soon(ask)
        await queued(writes)
        lab.finish(name, "first")
        await queued("finish")
    return given[0]


@pytest.mark.requirement("fault:stop:outlives-every-race")
async def test_a_command_that_interrupts_a_turn_at_its_very_end_does_not_stop_its_own_turn(lab: Lab) -> None:
    await lab.create("a", task="one")
    await taken(lab, "a")
    await meets_the_end(
        lab, "a", "command", lambda: lab.fleet.command(lab.call(), "a", "two", mode=DeliveryMode.INTERRUPT)
    )
    lab.finish("a", "second")
    assert (await statuses(lab, "a"))[1] == "complete"
    assert lab.provider.prompts["a"] == ["one", "two"]


@pytest.mark.requirement("fault:stop:outlives-every-race")
async def test_an_interrupt_at_the_very_end_of_a_turn_does_not_stop_the_turn_behind_it(lab: Lab) -> None:
    await lab.create("a", task="one")
    await taken(lab, "a")
    await lab.fleet.command(lab.call(), "a", "two")
    await meets_the_end(lab, "a", "interrupt", lambda: lab.fleet.interrupt(lab.call(), "a"))
    lab.finish("a", "second")
    assert (await statuses(lab, "a"))[1] == "complete"
    assert lab.provider.prompts["a"] == ["one", "two"]


@pytest.mark.requirement("fault:stop:outlives-every-race", "family:abort:whole-subtree")
async def test_a_stop_of_a_family_does_not_stop_what_a_child_begins_after_its_turn(tmp_path: Path) -> None:
    define(tmp_path / "project", "lead", "tools: Read, Grep, Glob\nchildren: 5")
    async with open_lab(tmp_path) as lab:
        await lab.create("boss", persona="lead")
        lab.play("boss", Spawn("child"), SleepOnChildren())
        await lab.becomes("boss", "waiting", "children")
        await taken(lab, "child")
        await lab.fleet.command(lab.call(), "child", "two")
        await meets_the_end(lab, "child", "interrupt", lambda: lab.fleet.interrupt(lab.call(), "boss"))
        lab.finish("child", "second")
        assert (await statuses(lab, "child"))[1] == "complete"
        assert await statuses(lab, "boss") == ["interrupted"]


@pytest.mark.requirement("turn:steer:running")
async def test_a_steer_at_the_very_end_of_a_turn_is_not_handed_into_the_turn_that_it_has_become(
    tmp_path: Path,
) -> None:
    async with open_lab(tmp_path, provider=ScriptedProvider(steerable=True)) as lab:
        await lab.create("a", task="one")
        await taken(lab, "a")

        async def steer() -> Receipt:
            return await lab.fleet.command(lab.call(), "a", "two", mode=DeliveryMode.STEER)

        receipt = await meets_the_end(lab, "a", "command", steer)
        assert INTO_TURN not in receipt.happened
        await lab.becomes("a", "working")
        await taken(lab, "a", ToolStarted(call_id="t1", tool="Read", summary=""))
        assert [session.read for session in lab.provider.sessions] == [[]]
        lab.finish("a")
        assert await statuses(lab, "a") == ["complete", "complete"]
        assert lab.provider.prompts["a"] == ["one", "two"]


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
@pytest.mark.requirement("fault:stop:outlives-every-race")
async def test_a_command_that_interrupts_replaces_a_turn_that_has_begun_and_is_queued(tmp_path: Path, how: str) -> None:
    async with begun_and_queued(tmp_path, how) as lab:
        await lab.fleet.command(lab.call(), "a", "two", mode=DeliveryMode.INTERRUPT)
        lab.finish("b")
        lab.finish("a")
        lab.finish("a")
        assert await statuses(lab, "a") == ["interrupted", "complete"]
        assert lab.provider.prompts["a"] == ["one", "two"]


@BEGUN
@pytest.mark.requirement("fault:stop:outlives-every-race")
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
        receipt = await lab.fleet.command(lab.call(), "a", "and this", mode=DeliveryMode.STEER)
        assert INTO_TURN in receipt.happened
        yield lab
        assert lab.provider.violations == []


@pytest.mark.requirement("turn:steer:running", "budget:cap:resumes-after-top-up")
async def test_a_text_that_was_read_before_a_pause_at_a_cap_is_not_read_again_after_it(tmp_path: Path) -> None:
    async with steered(tmp_path) as lab:
        lab.play("a", Spent(tokens=100, cost_usd=0.1))
        await lab.becomes("a", "waiting", "budget")
        await lab.fleet.set_budget(lab.call(), {Unit.TOKENS: 1000}, agent="a")
        lab.finish("a")
        lab.finish("a")
        assert await statuses(lab, "a") == ["complete", "cancelled"]
        assert lab.provider.prompts["a"] == ["one", RESUME_PROMPT]


@pytest.mark.parametrize("reason", ["quota", "overloaded"])
@pytest.mark.requirement("turn:steer:running", "quota:retry:jitter-and-401")
async def test_a_text_that_was_read_before_the_model_refused_is_not_read_again(tmp_path: Path, reason: str) -> None:
    async with steered(tmp_path) as lab:
        lab.play("a", Ended(outcome=SessionOutcome.FAILED, reason=reason, detail="slow down", usage=USED, cost_usd=0.0))
        await lab.becomes("a", "waiting")
        now = lab.context.work.clock()
        lab.context.work.clock = lambda: now + 600
        lab.context.work.notifier.publish()
        lab.finish("a")
        lab.finish("a")
        assert await statuses(lab, "a") == ["complete", "cancelled"]
        assert lab.provider.prompts["a"] == ["one", RESUME_PROMPT]


@pytest.mark.requirement("turn:steer:running")
async def test_a_text_that_was_read_in_an_interrupted_turn_is_not_read_again(tmp_path: Path) -> None:
    async with steered(tmp_path) as lab:
        await lab.fleet.interrupt(lab.call(), "a")
        await told_to_stop(lab, "a")
        lab.finish("a")
        assert await statuses(lab, "a") == ["interrupted", "cancelled"]
        assert lab.provider.prompts["a"] == ["one"]


@pytest.mark.requirement("budget:cap:resumes-after-top-up")
async def test_a_question_asked_as_the_cap_is_reached_is_still_asked(lab: Lab) -> None:
    call = ToolCall(id="toolu_late", name=ASK, input={"question": "which one?", "options": []})
    lab.provider.deaf.add("a")
    new = NewAgent(name="a", task="one", persona="scout", max_tokens=100)
    agent = (await lab.fleet.create(lab.call(), new)).agent
    lab.play("a", Spent(tokens=100, cost_usd=0.1))
    await told_to_stop(lab, "a")
    lab.provider.deferred[agent.id] = call
    lab.play("a", Ended(outcome=SessionOutcome.DEFERRED, deferred=call, usage=USED, cost_usd=0.1))
    view = await lab.becomes("a", "waiting", "question")
    assert view.question is not None
    assert view.question.text == "which one?"
    await lab.fleet.answer(lab.call(), "a", "red")
    await lab.fleet.set_budget(lab.call(), {Unit.TOKENS: 1000}, agent="a")
    lab.finish("a")
    assert await statuses(lab, "a") == ["complete"]
    assert lab.provider.answers["a"] == ["red"]
    assert lab.provider.prompts["a"] == ["one"]
