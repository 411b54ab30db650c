"""Turns whose run died are taken over: from the transcript, once, and a bounded number of times."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from orchestrator.domain.clearance import ASK
from orchestrator.domain.event import TERMINAL, Ended, SessionOutcome
from orchestrator.domain.tool import ToolCall
from orchestrator.domain.transcript_state import TranscriptState, TranscriptStatus
from orchestrator.domain.turn import DeliveryMode
from orchestrator.domain.usage import Usage
from tests.fleet.scripted import Ask, Lab, ScriptedProvider, eventually, open_lab

pytestmark = pytest.mark.anyio
TOLD = Usage(input_tokens=70, output_tokens=7, model_calls=2, context_tokens=40)
DIED = Ended(
    outcome=SessionOutcome.FAILED, reason="process", detail="the program was killed", usage=TOLD, cost_usd=None
)


@asynccontextmanager
async def killed_after(place: Path, provider: ScriptedProvider, **more: int) -> AsyncGenerator[Lab]:
    """A fleet that ends as a killed daemon does."""
    async with open_lab(place, provider=provider, max_resumes=more.get("max_resumes", 3)) as lab:
        yield lab
        await lab.die()


async def terminal(lab: Lab, name: str) -> list[str]:
    """The agent's terminal events."""
    return [event.kind for event in await lab.events(name) if event.kind in TERMINAL]


async def said(provider: ScriptedProvider, text: str) -> bool:
    """Whether the agent's last prompt was this."""
    return provider.prompts["a"][-1:] == [text]


async def working(place: Path, provider: ScriptedProvider, *, persona: str = "scout") -> None:
    """Leave an agent `a` cut off in the middle of its first turn."""
    async with killed_after(place, provider) as lab:
        await lab.create("a", persona=persona, task="look there")
        await lab.becomes("a", "working")


async def test_a_turn_that_never_reached_its_transcript_is_sent_again(tmp_path: Path) -> None:
    provider = ScriptedProvider()
    await working(tmp_path, provider)
    async with open_lab(tmp_path, provider=provider) as lab:
        lab.finish("a", "found")
        await lab.becomes("a", "complete")
        turn = (await lab.turns("a"))[0]
        assert (turn.status, turn.result, turn.attempts) == ("complete", "found", 2)
        assert provider.prompts["a"][-1] == "look there"
        assert await terminal(lab, "a") == ["turn.complete"]
        assert turn.losses is not None
        assert [loss["reason"] for loss in turn.losses] == ["daemon"]


async def test_a_turn_that_its_transcript_has_begun_continues_under_a_new_prompt_id(tmp_path: Path) -> None:
    provider = ScriptedProvider()
    await working(tmp_path, provider)
    provider.standings["a"] = TranscriptState(status=TranscriptStatus.OPEN, usage=TOLD)
    async with killed_after(tmp_path, provider) as lab:
        await eventually(lambda: said(provider, "Continue from where you left off."))
    async with open_lab(tmp_path, provider=provider) as lab:
        lab.finish("a", "found")
        await lab.becomes("a", "complete")
        turn = (await lab.turns("a"))[0]
        first, second = provider.recalled["a"]
        assert len(first) == 1
        assert second[:1] == first
        assert len(set(map(uuid.UUID, second))) == 2
        assert turn.prompts is not None
        assert len(turn.prompts) == 2
        assert turn.input_tokens == TOLD.input_tokens + 10, "what the dead runs used is counted once"
        assert turn.cost_unknown


@pytest.mark.requirement("recovery:late:one-terminal-event", "recovery:transcript:read-first")
async def test_an_answer_in_the_transcript_is_recorded_without_a_session(tmp_path: Path) -> None:
    provider = ScriptedProvider()
    await working(tmp_path, provider)
    sessions = len(provider.opening)
    provider.standings["a"] = TranscriptState(status=TranscriptStatus.ANSWERED, text="it was there", usage=TOLD)
    async with open_lab(tmp_path, provider=provider) as lab:
        await lab.becomes("a", "complete")
        turn = (await lab.turns("a"))[0]
        assert (turn.result, turn.input_tokens, turn.model_calls) == ("it was there", 70, 2)
        assert turn.cost_unknown
        assert len(provider.opening) == sessions
        assert "it was there" in (await lab.wait("a")).text


async def test_a_question_in_the_transcript_waits_again(tmp_path: Path) -> None:
    provider = ScriptedProvider()
    await working(tmp_path, provider)
    call = ToolCall(id="toolu_7", name=ASK, input={"question": "which one?"})
    provider.standings["a"] = TranscriptState(status=TranscriptStatus.DEFERRED, deferred=call)
    async with open_lab(tmp_path, provider=provider) as lab:
        view = await lab.becomes("a", "waiting", "question")
        assert view.question is not None
        assert view.question.text == "which one?"
        provider.deferred[view.id] = call
        await lab.fleet.answer(lab.call(), "a", "that one")
        lab.finish("a")
        await lab.becomes("a", "complete")
        assert provider.answers["a"] == ["that one"]
        assert await terminal(lab, "a") == ["turn.complete"]


async def test_an_answer_that_was_on_its_way_goes_on_its_way(tmp_path: Path) -> None:
    provider = ScriptedProvider()
    async with killed_after(tmp_path, provider) as lab:
        await lab.create("a")
        view = await lab.asks("a", "which one?")
        assert view.question is not None
        call = provider.deferred[view.id]
        await lab.fleet.answer(lab.call(), "a", "that one")
        await lab.becomes("a", "working")
    provider.standings["a"] = TranscriptState(status=TranscriptStatus.DEFERRED, deferred=call)
    provider.deferred[view.id] = call
    async with open_lab(tmp_path, provider=provider) as lab:
        lab.finish("a")
        await lab.becomes("a", "complete")
        assert provider.answers["a"][-1] == "that one"


@pytest.mark.parametrize("reason", ["process", "silence"])
async def test_a_dead_or_silent_session_is_resumed_a_bounded_number_of_times(lab: Lab, reason: str) -> None:
    await lab.create("a")
    for _ in range(4):
        lab.play("a", Ended(outcome=SessionOutcome.FAILED, reason=reason, detail="it went away", cost_usd=0.5))
    view = await lab.becomes("a", "failed")
    turn = (await lab.turns("a"))[0]
    assert (view.reason, turn.reason, turn.attempts) == ("crash_loop", "crash_loop", 4)
    assert turn.detail.count("it went away") == 1, "a cause that all share is said once"
    assert turn.cost_usd == 2.0
    assert await terminal(lab, "a") == ["turn.failed"]
    assert "crash_loop" in (await lab.wait("a")).text


@pytest.mark.parametrize("reason", ["auth", "max_turns", "context", "api", "start"])
async def test_what_a_new_session_cannot_mend_fails_at_once(lab: Lab, reason: str) -> None:
    await lab.create("a")
    lab.fail("a", reason)
    await lab.becomes("a", "failed", reason)
    assert (await lab.turns("a"))[0].attempts == 1


async def test_without_resumes_a_dead_session_fails_at_once_as_what_it_is(tmp_path: Path) -> None:
    async with open_lab(tmp_path, max_resumes=0) as lab:
        await lab.create("a")
        lab.play("a", DIED)
        await lab.becomes("a", "failed", "process")
        assert (await lab.turns("a"))[0].detail == "the program was killed"


async def test_a_turn_that_crashed_too_often_holds_those_behind_it_until_a_command_comes(tmp_path: Path) -> None:
    async with open_lab(tmp_path, max_resumes=1) as lab:
        await lab.create("a", task="one")
        await lab.becomes("a", "working")
        await lab.fleet.command(lab.call(), "a", "two")
        lab.play("a", DIED, DIED)
        await lab.becomes("a", "waiting", "held: 1 task after crash loop failure")
        await lab.fleet.command(lab.call(), "a", "try again")
        lab.finish("a", "third")
        lab.finish("a", "second")
        await lab.becomes("a", "complete")
        assert [(turn.reason, turn.result) for turn in await lab.turns("a")] == [
            ("crash_loop", ""),
            ("", "second"),
            ("", "third"),
        ]


async def test_a_recovering_turn_keeps_its_checkout(tmp_path: Path) -> None:
    provider = ScriptedProvider()
    async with killed_after(tmp_path, provider) as lab:
        await lab.create("w1", persona="builder")
        await lab.becomes("w1", "working")
        await lab.create("w2", persona="builder")
    async with open_lab(tmp_path, provider=provider) as lab:
        await lab.becomes("w1", "working")
        await lab.becomes("w2", "queued", "w1 writes")


async def test_a_turn_that_was_to_be_replaced_is_not_taken_up_again(tmp_path: Path) -> None:
    provider = ScriptedProvider()
    provider.deaf.add("a")
    async with killed_after(tmp_path, provider) as lab:
        await lab.create("a", task="one")
        await lab.becomes("a", "working")
        await lab.fleet.command(lab.call(), "a", "two", mode=DeliveryMode.INTERRUPT)
    provider.deaf.clear()
    async with open_lab(tmp_path, provider=provider) as lab:
        lab.finish("a", "second")
        await lab.becomes("a", "complete")
        assert [turn.status for turn in await lab.turns("a")] == ["interrupted", "complete"]
        assert provider.prompts["a"] == ["one", "two"]


async def test_a_command_for_a_recovering_agent_is_queued_and_not_mixed_into_its_task(tmp_path: Path) -> None:
    provider = ScriptedProvider()
    await working(tmp_path, provider)
    provider.may_open.clear()
    async with open_lab(tmp_path, provider=provider) as lab:
        view = await lab.view("a")
        assert (view.status, view.reason) == ("working", "recovering")
        await lab.fleet.command(lab.call(), "a", "two")
        provider.may_open.set()
        lab.finish("a")
        lab.finish("a")
        await lab.becomes("a", "complete")
        assert provider.prompts["a"] == ["look there", "look there", "two"]


async def test_a_question_asked_after_a_recovery_is_asked_once(tmp_path: Path) -> None:
    provider = ScriptedProvider()
    await working(tmp_path, provider)
    async with open_lab(tmp_path, provider=provider) as lab:
        lab.play("a", Ask("really?"))
        await lab.becomes("a", "waiting", "question")
        kinds = [event.kind for event in await lab.events("a")]
        assert kinds.count("turn.waiting") == 1
