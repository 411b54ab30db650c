"""Commands to agents: their next task, the answer to their question, a stop; each exactly once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orchestrator.domain.agent import NewAgent
from orchestrator.domain.event import TERMINAL
from orchestrator.domain.tool import Deny
from orchestrator.domain.turn import DeliveryMode
from orchestrator.errors import ConflictError, InvalidError
from tests.fleet.scripted import Ask, Lab, open_lab

pytestmark = pytest.mark.anyio


async def terminal_events(lab: Lab, name: str) -> dict[int | None, list[str]]:
    """Kinds of the terminal events of each turn."""
    found: dict[int | None, list[str]] = {}
    for event in await lab.events(name):
        if event.kind in TERMINAL:
            found.setdefault(event.turn, []).append(event.kind)
    return found


@pytest.mark.requirement("turn:order:one-at-a-time", "agent:command:keeps-context")
async def test_turns_of_one_agent_run_in_order_in_one_session(lab: Lab) -> None:
    await lab.create("a", task="one")
    await lab.becomes("a", "working")
    for task in ("two", "three"):
        receipt = await lab.fleet.command(lab.call(), "a", task)
        assert "queued behind the running turn" in receipt.happened
    for text in ("1", "2", "3"):
        lab.finish("a", text)
    await lab.becomes("a", "complete")
    assert lab.provider.prompts["a"] == ["one", "two", "three"]
    assert [turn.result for turn in await lab.turns("a")] == ["1", "2", "3"]
    assert len(lab.provider.sessions) == 1


async def test_a_command_to_an_ended_agent_starts_its_next_turn(lab: Lab) -> None:
    await lab.create("a")
    lab.fail("a")
    await lab.becomes("a", "failed")
    await lab.fleet.command(lab.call(), "a", "again")
    lab.finish("a")
    await lab.becomes("a", "complete")
    assert await terminal_events(lab, "a") == {1: ["turn.failed"], 2: ["turn.complete"]}


@pytest.mark.requirement("turn:command:idempotency-key", "guarantee:idempotency:never-runs-twice")
async def test_two_commands_with_one_key_queue_one_turn(lab: Lab) -> None:
    await lab.create("a")
    first = await lab.fleet.command(lab.call("k"), "a", "two")
    again = await lab.fleet.command(lab.call("k"), "a", "two")
    assert again == first
    assert len(await lab.turns("a")) == 2


async def test_one_key_on_two_agents_tells_the_truth_about_both(lab: Lab) -> None:
    await lab.create("a")
    await lab.create("b")
    await lab.becomes("b", "working")
    await lab.fleet.command(lab.call("k"), "a", "two")
    with pytest.raises(ConflictError):
        await lab.fleet.command(lab.call("k"), "b", "two")
    assert len(await lab.turns("b")) == 1


@pytest.mark.requirement("error:agent:deleted")
async def test_a_command_to_a_deleted_agent_says_what_to_do(lab: Lab) -> None:
    await lab.create("a")
    await lab.fleet.delete(lab.call(), ["a"])
    with pytest.raises(ConflictError) as error:
        await lab.fleet.command(lab.call(), "a", "go on")
    assert "deleted" in error.value.message
    assert "create a new agent" in error.value.hint


@pytest.mark.parametrize("task", ["", " ", "a\0", "\ud800", "x" * 300_000], ids=lambda task: f"{task!a:.8}")
async def test_a_command_that_cannot_be_sent_changes_nothing(lab: Lab, task: str) -> None:
    await lab.create("a")
    with pytest.raises(InvalidError):
        await lab.fleet.command(lab.call(), "a", task)
    assert len(await lab.turns("a")) == 1


async def test_a_queued_agent_gets_the_command_added_to_its_task(lab: Lab) -> None:
    await lab.create("first")
    await lab.create("a", task="one", inputs=["first"])
    receipt = await lab.fleet.command(lab.call(), "a", "two")
    assert "added" in receipt.happened
    lab.finish("first")
    await lab.becomes("a", "working")
    assert lab.provider.prompts["a"][0].startswith("one\n\ntwo\n\nHanded to you")


@pytest.mark.requirement("turn:interrupt:running")
async def test_the_mode_interrupt_stops_the_turn_and_the_new_one_comes_next(lab: Lab) -> None:
    await lab.create("a", task="one")
    await lab.becomes("a", "working")
    await lab.fleet.command(lab.call(), "a", "two")
    await lab.fleet.command(lab.call(), "a", "urgent", mode=DeliveryMode.INTERRUPT)
    await _until_prompts(lab, "a", 2)
    lab.finish("a")
    lab.finish("a")
    await lab.becomes("a", "complete")
    assert lab.provider.prompts["a"] == ["one", "urgent", "two"]
    assert await terminal_events(lab, "a") == {1: ["turn.interrupted"], 2: ["turn.complete"], 3: ["turn.complete"]}


async def _until_prompts(lab: Lab, name: str, count: int) -> None:
    from tests.fleet.scripted import eventually

    async def there() -> bool:
        return len(lab.provider.prompts[name]) >= count

    await eventually(there)


async def test_an_interrupted_agent_keeps_its_queued_turns(lab: Lab) -> None:
    await lab.create("a", task="one")
    await lab.becomes("a", "working")
    await lab.fleet.command(lab.call(), "a", "two")
    await lab.fleet.interrupt(lab.call(), "a")
    await _until_prompts(lab, "a", 2)
    lab.finish("a")
    await lab.becomes("a", "complete")
    assert await terminal_events(lab, "a") == {1: ["turn.interrupted"], 2: ["turn.complete"]}


async def test_an_interrupt_between_two_turns_takes_the_next_one_and_keeps_those_behind_it(tmp_path: Path) -> None:
    async with open_lab(tmp_path, slots=1) as lab:
        await lab.create("a", task="one")
        await lab.becomes("a", "working")
        for task in ("two", "three"):
            await lab.fleet.command(lab.call(), "a", task)
        await lab.fleet.create(lab.call(), NewAgent(name="first", task="t", persona="scout", priority=1))
        lab.finish("a")
        await lab.becomes("first", "working")
        await lab.becomes("a", "queued", "slot")
        await lab.fleet.interrupt(lab.call(), "a")
        assert [turn.status for turn in await lab.turns("a")] == ["complete", "cancelled", "queued"]
        lab.finish("first")
        lab.finish("a")
        await lab.becomes("a", "complete")
        assert lab.provider.prompts["a"] == ["one", "three"]


async def test_an_interrupt_of_a_resting_agent_says_what_it_is(lab: Lab) -> None:
    await lab.create("a")
    lab.finish("a")
    await lab.becomes("a", "complete")
    with pytest.raises(ConflictError) as error:
        await lab.fleet.interrupt(lab.call(), "a")
    assert "it is complete" in error.value.message


@pytest.mark.requirement("question:route:orchestrator-never-user")
async def test_an_answer_reaches_the_very_call_that_asked(lab: Lab) -> None:
    await lab.create("a")
    view = await lab.asks("a", "red or blue?", ("red", "blue"))
    assert view.question is not None
    assert (view.question.text, view.question.options) == ("red or blue?", ("red", "blue"))
    assert lab.context.slots.session_count() == 0
    await lab.fleet.answer(lab.call(), "a", "red")
    lab.finish("a")
    await lab.becomes("a", "complete")
    assert lab.provider.answers["a"] == ["red"]
    assert lab.provider.prompts["a"] == ["look"]
    assert await terminal_events(lab, "a") == {1: ["turn.complete"]}


async def test_a_command_to_an_agent_that_asks_is_its_answer(lab: Lab) -> None:
    await lab.create("a")
    await lab.asks("a")
    receipt = await lab.fleet.command(lab.call(), "a", "this one")
    assert "answered" in receipt.happened
    lab.finish("a")
    await lab.becomes("a", "complete")
    assert lab.provider.answers["a"] == ["this one"]


@pytest.mark.requirement("turn:command:idempotency-key")
async def test_an_answer_sent_twice_with_one_key_is_one_answer(lab: Lab) -> None:
    await lab.create("a")
    await lab.asks("a")
    first = await lab.fleet.answer(lab.call("k"), "a", "red")
    again = await lab.fleet.answer(lab.call("k"), "a", "red")
    assert again == first
    lab.finish("a")
    await lab.becomes("a", "complete")
    assert len(await lab.turns("a")) == 1
    assert (await lab.fleet.answer(lab.call("k"), "a", "red")) == first


async def test_of_two_answers_at_the_same_moment_one_counts_and_the_other_is_told(lab: Lab) -> None:
    await lab.create("a")
    await lab.asks("a")
    sent = await asyncio.gather(
        *[lab.fleet.answer(lab.call(), "a", text) for text in ("red", "blue")], return_exceptions=True
    )
    assert sum(isinstance(one, ConflictError) for one in sent) == 1
    lab.finish("a")
    await lab.becomes("a", "complete")
    assert len(lab.provider.answers["a"]) == 1
    assert len(await lab.turns("a")) == 1


async def test_an_answer_to_nobody_is_an_error(lab: Lab) -> None:
    await lab.create("a")
    with pytest.raises(ConflictError) as error:
        await lab.fleet.answer(lab.call(), "a", "red")
    assert "is not waiting for an answer" in error.value.message


async def test_a_question_that_an_interrupting_command_drops_cannot_be_answered_any_more(lab: Lab) -> None:
    await lab.create("a", task="one")
    await lab.asks("a")
    await lab.fleet.command(lab.call(), "a", "two", mode=DeliveryMode.INTERRUPT)
    await lab.becomes("a", "working")
    with pytest.raises(ConflictError):
        await lab.fleet.answer(lab.call(), "a", "red")
    lab.finish("a")
    await lab.becomes("a", "complete")
    assert lab.provider.prompts["a"] == ["one", "two"]
    assert [type(one) for one in lab.provider.verdicts["a"]] == [Deny]
    assert await terminal_events(lab, "a") == {1: ["turn.interrupted"], 2: ["turn.complete"]}


async def test_an_interrupted_question_is_withdrawn(lab: Lab) -> None:
    await lab.create("a", task="one")
    await lab.asks("a")
    await lab.fleet.interrupt(lab.call(), "a")
    assert (await lab.becomes("a", "interrupted")).question is None
    await lab.fleet.command(lab.call(), "a", "two")
    lab.finish("a")
    await lab.becomes("a", "complete")
    assert [type(one) for one in lab.provider.verdicts["a"]] == [Deny]


async def test_a_question_asked_while_the_turn_is_interrupted_is_withdrawn_too(lab: Lab) -> None:
    await lab.create("a", task="one")
    await lab.becomes("a", "working")
    lab.provider.deaf.add("a")
    await lab.fleet.interrupt(lab.call(), "a")
    lab.play("a", Ask("which one?"))
    await lab.becomes("a", "interrupted")
    await lab.fleet.command(lab.call(), "a", "two")
    lab.finish("a")
    await lab.becomes("a", "complete")
    assert [type(one) for one in lab.provider.verdicts["a"]] == [Deny]


async def test_options_of_any_shape_harm_nobody(lab: Lab) -> None:
    await lab.create("a")
    await lab.becomes("a", "working")
    lab.play("a", Ask("which \ud800 one?", options=7))
    view = await lab.becomes("a", "waiting", "question")
    assert view.question is not None
    assert view.question.options == ()


async def test_a_turn_queued_behind_a_question_waits_for_its_answer(lab: Lab) -> None:
    await lab.create("a", task="one")
    await lab.becomes("a", "working")
    await lab.fleet.command(lab.call(), "a", "two")
    await lab.asks("a")
    await lab.fleet.answer(lab.call(), "a", "red")
    lab.finish("a")
    lab.finish("a")
    await lab.becomes("a", "complete")
    assert lab.provider.prompts["a"] == ["one", "two"]
    assert await terminal_events(lab, "a") == {1: ["turn.complete"], 2: ["turn.complete"]}


async def test_a_writer_stopped_between_answer_and_slot_gives_the_checkout_back(tmp_path: Path) -> None:
    async with open_lab(tmp_path, slots=1) as lab:
        await lab.create("writer", persona="builder")
        await lab.asks("writer")
        await lab.create("reader")
        await lab.becomes("reader", "working")
        await lab.fleet.answer(lab.call(), "writer", "red")
        await lab.becomes("writer", "queued", "slot")
        await lab.fleet.interrupt(lab.call(), "writer")
        await lab.becomes("writer", "interrupted")
        await lab.create("next", persona="builder")
        lab.finish("reader")
        await lab.becomes("next", "working")


async def test_deleted_is_deleted_and_said_so_when_the_call_is_sent_again(lab: Lab) -> None:
    await lab.create("a")
    first = await lab.fleet.delete(lab.call("k"), ["a"])
    again = await lab.fleet.delete(lab.call("k"), ["a"])
    assert first[0].agent == again[0].agent
    assert again[0].was == "deleted"
    assert await terminal_events(lab, "a") == {1: ["turn.interrupted"]}


async def test_delete_of_several_deletes_none_if_one_is_unknown(lab: Lab) -> None:
    from orchestrator.errors import NotFoundError

    await lab.create("a")
    with pytest.raises(NotFoundError):
        await lab.fleet.delete(lab.call(), ["a", "nobody"])
    assert (await lab.view("a")).status != "deleted"


@pytest.mark.requirement("agent:delete:all")
async def test_delete_all_means_mine_unless_told_otherwise(lab: Lab) -> None:
    await lab.create("a")
    await lab.fleet.create(lab.call(orchestrator="other"), NewAgent(name="b", task="t", persona="scout"))
    assert [one.name for one in await lab.fleet.delete_all(lab.call())] == ["a"]
    assert [one.name for one in await lab.fleet.delete_all(lab.call(), scope="project")] == ["b"]
    with pytest.raises(InvalidError):
        await lab.fleet.delete_all(lab.call(), scope="world")


@pytest.mark.requirement("workflow:context:single-purpose-agents", "agent:delete:one")
async def test_results_of_a_deleted_agent_stay_readable(lab: Lab) -> None:
    await lab.create("a")
    lab.finish("a", "the result")
    await lab.becomes("a", "complete")
    await lab.fleet.delete(lab.call(), ["a"])
    assert (await lab.fleet.output(lab.call(), "a")).text == "the result"
    assert (await lab.fleet.detail(lab.call(), "a")).agent.status == "deleted"
