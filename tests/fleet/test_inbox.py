"""The inbox: one open question per agent, answered once, by a named party; deadlines with an injected clock."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest

from orchestrator.domain.agent import NewAgent
from orchestrator.domain.tool import Allow, CallContext, Deny
from orchestrator.domain.turn import DeliveryMode
from orchestrator.errors import InvalidError
from orchestrator.fleet.state_views import PastQuestionView
from tests.fixtures.personas import define
from tests.fleet.scripted import Ask, Lab, eventually, open_lab

pytestmark = pytest.mark.anyio
WITHIN = 7200.0
PUSH = Ask("", tool="Bash", input={"command": "git push origin main", "description": "push"})


async def asked(lab: Lab, name: str) -> tuple[PastQuestionView, ...]:
    """All that the agent ever asked."""
    return (await lab.fleet.detail(lab.call(orchestrator="watcher"), name)).asked


async def wants_to_push(lab: Lab, name: str, front: str = "tools: Read\nask: [Bash]") -> None:
    """An agent that waits for the permission to push."""
    define(lab.project, "pusher", front)
    await lab.create(name, persona="pusher")
    lab.play(name, PUSH)
    await lab.becomes(name, "waiting", "permission")
    await lab.fleet.detail(lab.call(), name)  # its orchestrator is shown what it wants


async def at(lab: Lab, later_seconds: float) -> None:
    """Let the lab's clock show so much later, and somebody ring."""
    lab.context.work.clock = lambda: time.time() + later_seconds
    lab.context.work.notifier.publish()


@pytest.mark.requirement("question:inbox:deadline-and-default")
async def test_at_its_deadline_and_not_before_a_permission_is_denied_with_the_reason(lab: Lab) -> None:
    await wants_to_push(lab, "a", "tools: Read\nask: [Bash]\nanswer_within: 2h")
    question = (await lab.view("a")).question
    assert question is not None
    assert question.deadline_seconds == pytest.approx(WITHIN, abs=60)
    assert question.fallback == "deny: nobody answered within 2h; go on without it, or report what you need"
    await at(lab, WITHIN - 60)
    await lab.create("other")
    lab.finish("other")
    await lab.becomes("other", "complete")
    assert (await lab.view("a")).status == "waiting"
    await at(lab, WITHIN + 60)
    lab.finish("a")
    await lab.becomes("a", "complete")
    (verdict,) = lab.provider.verdicts["a"]
    assert isinstance(verdict, Deny)
    assert "nobody answered within 2h" in verdict.reason
    assert [(one.state, one.answered_by) for one in await asked(lab, "a")] == [("settled", "deadline")]


@pytest.mark.requirement("question:inbox:deadline-and-default")
async def test_an_unanswered_question_without_a_default_tells_the_agent_to_decide(tmp_path: Path) -> None:
    async with open_lab(tmp_path) as lab:
        define(lab.project, "asker", "answer_within: 90s")
        await lab.create("a", persona="asker")
        await lab.asks("a")
        await at(lab, 100)
        lab.finish("a")
        await lab.becomes("a", "complete")
        assert lab.provider.answers["a"] == ["nobody answered: decide yourself and say so"]


@pytest.mark.requirement("question:inbox:deadline-and-default")
async def test_a_deadline_is_kept_by_a_fleet_that_was_not_there_when_it_was_set(tmp_path: Path) -> None:
    async with open_lab(tmp_path) as first:
        define(first.project, "asker", "answer_within: 2h\ndefault_answer: green")
        await first.create("a", persona="asker")
        await first.asks("a")
        provider = first.provider
    async with open_lab(tmp_path, provider=provider) as second:
        await second.becomes("a", "waiting", "question")
        await at(second, WITHIN + 1)
        second.finish("a")
        await second.becomes("a", "complete")
        assert provider.answers["a"] == ["green"]


@pytest.mark.requirement("question:inbox:deadline-and-default")
async def test_without_a_deadline_a_question_waits_for_ever(lab: Lab) -> None:
    await lab.create("a")
    await lab.asks("a")
    await at(lab, 10 * 365 * 86_400)
    await lab.create("other")
    lab.finish("other")
    await lab.becomes("other", "complete")
    assert (await lab.view("a")).status == "waiting"


@pytest.mark.requirement("question:answer:every-way")
async def test_who_answered_is_recorded(lab: Lab) -> None:
    for name, call in (("a", lab.call()), ("b", dataclasses.replace(lab.call(), person=True))):
        await lab.create(name)
        await lab.asks(name)
        await lab.fleet.command(call, name, "red")
    assert [(await asked(lab, name))[0].answered_by for name in ("a", "b")] == ["orchestrator", "person"]


@pytest.mark.requirement("permission:gate:allow-deny-always")
async def test_always_for_a_shell_means_the_very_command_whatever_describes_it(lab: Lab) -> None:
    await wants_to_push(lab, "a")
    await lab.fleet.command(lab.call(), "a", "ALWAYS ")
    await lab.becomes("a", "working")
    lab.play("a", dataclasses.replace(PUSH, input={"command": "git push origin main", "description": "once more"}))
    lab.play("a", dataclasses.replace(PUSH, input={"command": "git push origin main --force"}))
    view = await lab.becomes("a", "waiting", "permission")
    assert view.question is not None
    assert view.question.text == "git push origin main --force"
    assert [one.answer for one in await asked(lab, "a")] == ["always", None]


@pytest.mark.requirement("permission:gate:allow-deny-always")
async def test_always_for_another_tool_means_the_tool(lab: Lab) -> None:
    define(lab.project, "reader", "tools: Read\nask: WebFetch")
    await lab.create("a", persona="reader")
    lab.play("a", Ask("", tool="WebFetch", input={"url": "https://one.example"}))
    await lab.becomes("a", "waiting", "permission")
    await lab.fleet.detail(lab.call(), "a")
    await lab.fleet.answer(lab.call(), "a", "always")
    await lab.becomes("a", "working")
    lab.play("a", Ask("", tool="WebFetch", input={"url": "https://two.example"}))
    lab.finish("a")
    await lab.becomes("a", "complete")
    assert len(await asked(lab, "a")) == 1


@pytest.mark.requirement("permission:gate:allow-deny-always")
async def test_the_answer_to_a_question_may_be_the_word_always_and_grants_nothing(lab: Lab) -> None:
    define(lab.project, "pusher", "tools: Read\nask: [Bash]")
    await lab.create("a", persona="pusher")
    await lab.asks("a")
    await lab.fleet.answer(lab.call(), "a", "always")
    await lab.becomes("a", "working")
    lab.play("a", PUSH)
    await lab.becomes("a", "waiting", "permission")


async def test_an_answer_that_means_nothing_changes_nothing(lab: Lab) -> None:
    await wants_to_push(lab, "a")
    with pytest.raises(InvalidError) as error:
        await lab.fleet.command(lab.call(), "a", "sure, go ahead")
    assert "allow, always, or deny: <why>" in error.value.hint
    assert (await lab.view("a")).status == "waiting"
    await lab.fleet.command(lab.call(), "a", "Allow")
    lab.finish("a")
    await lab.becomes("a", "complete")
    assert lab.provider.verdicts["a"] == [Allow()]


async def test_a_permission_that_an_interrupting_command_drops_is_denied(lab: Lab) -> None:
    await wants_to_push(lab, "a")
    await lab.fleet.command(lab.call(), "a", "leave it", mode=DeliveryMode.INTERRUPT)
    lab.finish("a")
    await lab.becomes("a", "complete")
    assert [type(one) for one in lab.provider.verdicts["a"]] == [Deny]
    assert [one.state for one in await asked(lab, "a")] == ["dropped"]


async def test_deleting_an_agent_takes_its_question_out_of_the_inbox(lab: Lab) -> None:
    await wants_to_push(lab, "a")
    await lab.fleet.delete(lab.call(), ["a"])
    assert [one.state for one in await asked(lab, "a")] == ["dropped"]
    assert (await lab.view("a")).question is None


async def test_the_digest_shows_the_end_of_a_long_command_and_the_call_that_answers(lab: Lab) -> None:
    define(lab.project, "pusher", "tools: Read\nask: [Bash]")
    await lab.create("a", persona="pusher")
    lab.play("a", Ask("", tool="Bash", input={"command": "echo " + "x" * 5000 + "; rm -rf /"}))
    digest = await lab.wait("a")
    (need,) = [line for line in digest.text.splitlines() if line.startswith("NEEDS YOU")]
    assert '; rm -rf /"' in need
    assert "characters …]" in need
    assert need.endswith('task="allow" or "always" or "deny: <why>"), then wait again')
    assert len(digest.text.encode()) <= 1600


@pytest.mark.requirement("question:inbox:told-to-new-session")
async def test_a_new_session_is_told_once_what_others_left_and_may_answer_it(lab: Lab) -> None:
    await lab.create("asks")
    await lab.asks("asks")
    await lab.create("ended")
    lab.finish("ended")
    await lab.becomes("ended", "complete")
    fresh = lab.call(orchestrator="second session")
    said = await lab.fleet.catch_up(fresh)
    assert said.startswith("left by ended sessions: asks waits for an answer; unread outcomes: ended -> ")
    assert await lab.fleet.catch_up(fresh) == ""
    assert await lab.fleet.catch_up(lab.call()) == ""
    await lab.fleet.command(fresh, "asks", "red")
    lab.finish("asks")
    await lab.becomes("asks", "complete")
    assert lab.provider.answers["asks"] == ["red"]


@pytest.mark.requirement("question:inbox:told-to-new-session")
async def test_the_first_digest_of_a_session_carries_what_others_left(lab: Lab) -> None:
    await lab.create("asks")
    await lab.asks("asks")
    fresh = lab.call(orchestrator="second session")
    await lab.fleet.create(fresh, NewAgent(name="mine", task="t", persona="scout"))
    lab.finish("mine")
    first = await lab.fleet.wait(fresh, agents=["mine"])
    assert "left by ended sessions: asks waits for an answer" in first.text
    assert "left by" not in (await lab.fleet.wait(fresh, agents=["mine"], since="0")).text


@pytest.mark.requirement("session:identity:one-per-door")
async def test_an_outcome_that_another_session_reads_is_still_told_to_its_own(lab: Lab) -> None:
    await lab.create("a")
    lab.finish("a")
    await lab.becomes("a", "complete")
    other = lab.call(orchestrator="second session")
    with lab.context.connections.connected(lab.caller):
        assert "[a complete" in (await lab.fleet.wait(other, agents=["a"])).text
        assert "nothing new" in (await lab.fleet.wait(other, agents=["a"])).text, "a repeated wait tells nothing twice"
    assert "[a complete" in (await lab.fleet.wait(lab.call())).text
    assert "[a complete" not in (await lab.fleet.wait(lab.call(), timeout_seconds=0)).text


async def test_a_person_is_told_no_news(lab: Lab) -> None:
    await lab.create("asks")
    await lab.asks("asks")
    call = lab.call(orchestrator="terminal")
    assert await lab.fleet.catch_up(CallContext(caller=call.caller, person=True)) == ""


@pytest.mark.requirement("turn:steer:running")
async def test_a_session_that_cannot_be_steered_says_so_and_queues(lab: Lab) -> None:
    await lab.create("a", task="one")
    await lab.becomes("a", "working")

    async def open_now() -> bool:
        return bool(lab.provider.prompts["a"])

    await eventually(open_now)
    receipt = await lab.fleet.command(lab.call(), "a", "two", mode=DeliveryMode.STEER)
    assert "its provider takes nothing into a running turn" in receipt.happened
    lab.finish("a")
    lab.finish("a")
    await lab.becomes("a", "complete")
    assert lab.provider.prompts["a"] == ["one", "two"]


@pytest.mark.requirement("turn:steer:running")
async def test_a_steer_with_inputs_waits_for_a_turn_of_its_own(lab: Lab) -> None:
    await lab.create("source")
    lab.finish("source")
    await lab.create("a", task="one")
    await lab.becomes("a", "working")
    receipt = await lab.fleet.command(lab.call(), "a", "two", mode=DeliveryMode.STEER, inputs=["source"])
    assert "inputs and checks belong to a turn of their own" in receipt.happened
