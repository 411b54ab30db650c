"""What a text means, and what it permits, is decided by what its sender was shown."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.verbs import inspect
from orchestrator.domain.durable_wait import DurableWait, WaitRequest
from orchestrator.domain.text import one_line, raw
from orchestrator.domain.turn import DeliveryMode
from orchestrator.errors import ConflictError
from orchestrator.fleet.verbs import query
from orchestrator.server.mcp import text as mcp_text
from tests.fixtures.personas import define
from tests.fleet.scripted import Ask, Lab, ScriptedProvider, at_work, open_lab
from tests.fleet.test_answers import person

pytestmark = pytest.mark.anyio
LONG = "echo start; " + "x" * 3000 + "; rm -rf important; " + "y" * 3000 + "; echo end"


async def asked(lab: Lab) -> None:
    """An agent whose question the orchestrator has been shown."""
    await lab.create("a")
    await lab.asks("a", "red or blue?", ("red", "blue"))
    assert "red or blue?" in (await lab.wait("a")).text


async def turns(lab: Lab) -> int:
    """How many turns the agent has."""
    return len(await lab.turns("a"))


@pytest.mark.requirement("question:answer:closed-is-no-task", "guarantee:consent:to-what-was-shown")
async def test_an_answer_to_a_question_that_a_person_has_answered_is_refused_and_no_task(lab: Lab) -> None:
    await asked(lab)
    await lab.fleet.answer(person(lab), "a", "blue")
    for _ in range(2):  # the very call that was refused has not read the refusal
        with pytest.raises(ConflictError) as error:
            await lab.fleet.command(lab.call("k1"), "a", "red")
        assert error.value.message == (
            'nothing was queued: a\'s question "red or blue?" was answered "blue" by a person'
        )
        assert "once more" in error.value.hint
    assert await turns(lab) == 1
    receipt = await lab.fleet.command(lab.call("k2"), "a", "red")
    assert receipt.happened == "turn 2: queued behind the running turn"


@pytest.mark.requirement("question:answer:closed-is-no-task")
async def test_the_same_answer_again_is_refused_and_another_text_is_the_next_task(lab: Lab) -> None:
    await asked(lab)
    first = await lab.fleet.command(lab.call("k1"), "a", "2")
    assert await lab.fleet.command(lab.call("k1"), "a", "2") == first
    with pytest.raises(ConflictError, match='was answered "blue" by an orchestrator'):
        await lab.fleet.command(lab.call("k2"), "a", "blue")
    await lab.asks("a", "and now?")
    await lab.wait("a")
    await lab.fleet.command(lab.call("k3"), "a", "go")
    await lab.fleet.command(lab.call("k4"), "a", "then test it")
    assert [turn.prompt for turn in await lab.turns("a")] == ["look", "then test it"]


@pytest.mark.requirement("question:answer:closed-is-no-task")
async def test_an_answer_after_the_end_of_the_turn_that_asked_is_refused(lab: Lab) -> None:
    await asked(lab)
    await lab.fleet.interrupt(person(lab), "a")
    with pytest.raises(ConflictError, match="was withdrawn: its turn ended without an answer"):
        await lab.fleet.command(lab.call(), "a", "red")
    with pytest.raises(ConflictError, match="was withdrawn"):
        await lab.fleet.answer(person(lab), "a", "red")
    assert await turns(lab) == 1


@pytest.mark.requirement("question:answer:closed-is-no-task")
@pytest.mark.parametrize("way", ["status", "digest", "interrupt"])
async def test_who_knows_that_nothing_is_asked_any_more_gives_a_task(lab: Lab, way: str) -> None:
    await asked(lab)
    await lab.fleet.answer(person(lab), "a", "blue")
    lab.finish("a")
    await lab.becomes("a", "complete")
    if way == "status":
        await lab.fleet.status(lab.call(), ["a"])
    elif way == "digest":
        await lab.wait("a")
    mode = DeliveryMode.INTERRUPT if way == "interrupt" else DeliveryMode.QUEUE
    await lab.fleet.command(lab.call(), "a", "no", mode=mode)
    assert await turns(lab) == 2


@pytest.mark.requirement("question:answer:closed-is-no-task")
async def test_a_permission_that_was_decided_takes_no_second_word(lab: Lab) -> None:
    define(lab.project, "shell", "tools: Read\nask: [Bash]")
    await lab.create("a", persona="shell")
    lab.play("a", Ask("", tool="Bash", input={"command": "ls"}))
    await lab.becomes("a", "waiting", "permission")
    await lab.wait("a")
    await lab.fleet.answer(person(lab), "a", "deny: not today")
    with pytest.raises(ConflictError) as error:
        await lab.fleet.command(lab.call(), "a", "allow")
    assert 'permission to use Bash "ls" was answered "deny: not today" by a person' in error.value.message
    assert await turns(lab) == 1


@pytest.mark.requirement("question:answer:closed-is-no-task")
@pytest.mark.parametrize("text", ["red", "1", " 2 ", "3", "No", "blue"])
@pytest.mark.parametrize("answered", ["before the restart", "after it"])
async def test_what_reads_as_an_answer_is_no_task_when_a_restart_has_forgotten_what_its_sender_was_shown(
    tmp_path: Path, text: str, answered: str
) -> None:
    provider = ScriptedProvider()
    async with open_lab(tmp_path, provider=provider) as lab:
        await asked(lab)
        if answered == "before the restart":
            await lab.fleet.answer(person(lab), "a", "blue")
    async with open_lab(tmp_path, provider=provider) as lab:
        if answered == "after it":
            await lab.fleet.answer(person(lab), "a", "blue")
        for _ in range(2):
            with pytest.raises(ConflictError, match='"red or blue\\?" was answered "blue" by a person'):
                await lab.fleet.command(lab.call("k1"), "a", text)
        assert await turns(lab) == 1
        await lab.fleet.command(lab.call("k2"), "a", text)
        assert await turns(lab) == 2


@pytest.mark.requirement("question:answer:closed-is-no-task")
@pytest.mark.parametrize("word", ["allow", "Always", "deny: no"])
async def test_a_word_for_a_permission_is_no_task_after_a_restart(tmp_path: Path, word: str) -> None:
    provider = ScriptedProvider()
    async with open_lab(tmp_path, provider=provider) as lab:
        define(lab.project, "shell", "tools: Read\nask: [Bash]")
        await lab.create("a", persona="shell")
        lab.play("a", Ask("", tool="Bash", input={"command": "ls"}))
        await lab.becomes("a", "waiting", "permission")
        await lab.fleet.answer(person(lab), "a", "deny: not today")
    async with open_lab(tmp_path, provider=provider) as lab:
        with pytest.raises(ConflictError, match='permission to use Bash "ls" was answered "deny: not today"'):
            await lab.fleet.command(lab.call(), "a", word)


async def test_what_reads_as_a_task_is_one_after_a_restart_and_so_is_all_that_who_knows_the_agent_sends(
    tmp_path: Path,
) -> None:
    provider = ScriptedProvider()
    async with open_lab(tmp_path, provider=provider) as lab:
        await asked(lab)
        await lab.fleet.answer(person(lab), "a", "blue")
    async with open_lab(tmp_path, provider=provider) as lab:
        await lab.fleet.command(lab.call(), "a", "now test it")
        assert await turns(lab) == 2
        await lab.fleet.status(lab.call(orchestrator="other"), ["a"])
        await lab.fleet.command(lab.call(orchestrator="other"), "a", "2")
        assert await turns(lab) == 3


@pytest.mark.requirement("question:answer:closed-is-no-task")
async def test_an_answer_and_the_next_tasks_in_one_message_are_all_carried_out(lab: Lab) -> None:
    await asked(lab)
    texts = ("2", "then test it", "then ship it")
    receipts = await asyncio.gather(*(lab.fleet.command(lab.call(text), "a", text) for text in texts))
    assert receipts[0].happened.startswith("answered")
    assert [turn.prompt for turn in await lab.turns("a")] == ["look", "then test it", "then ship it"]


@pytest.mark.requirement("question:answer:closed-is-no-task")
async def test_of_two_answers_in_one_message_the_second_is_refused(lab: Lab) -> None:
    await asked(lab)
    given = (lab.fleet.command(lab.call(text), "a", text) for text in ("2", "1"))
    first, second = await asyncio.gather(*given, return_exceptions=True)
    assert not isinstance(first, BaseException)
    assert isinstance(second, ConflictError)
    assert 'was answered "blue" by an orchestrator' in second.message
    assert await turns(lab) == 1


@pytest.mark.requirement("question:answer:by-number")
@pytest.mark.parametrize(("text", "given"), [("1", "red"), (" 2 ", "blue"), ("3", "3"), ("0", "0"), ("red", "red")])
async def test_an_option_is_chosen_by_its_number(lab: Lab, text: str, given: str) -> None:
    await asked(lab)
    await lab.fleet.command(lab.call(), "a", text)
    assert (await lab.fleet.detail(person(lab), "a")).asked[0].answer == given


@pytest.mark.requirement("question:answer:by-number")
async def test_options_are_numbered_wherever_they_are_shown(lab: Lab) -> None:
    await asked(lab)
    digest = (await lab.wait("a")).text
    assert '(options: 1 "red", 2 "blue")' in digest
    assert 'task="<answer or number>"' in digest


async def wants_much(lab: Lab) -> None:
    """An agent that wants to run a long command."""
    define(lab.project, "shell", "tools: Read\nask: [Bash]")
    await lab.create("a", persona="shell")
    lab.play("a", Ask("", tool="Bash", input={"command": LONG}))
    await lab.becomes("a", "waiting", "permission")


@pytest.mark.requirement("permission:allow:only-what-was-shown", "guarantee:consent:to-what-was-shown")
@pytest.mark.parametrize("word", ["allow", "always"])
async def test_what_was_shown_with_its_middle_cut_is_allowed_only_after_it_was_read_whole(lab: Lab, word: str) -> None:
    await wants_much(lab)
    digest = (await lab.wait("a")).text
    assert "rm -rf important" not in digest
    assert 'get_agent_output(agent="a") shows it whole; then command_agent' in digest
    with pytest.raises(ConflictError) as error:
        await lab.fleet.command(lab.call(), "a", word)
    assert f"nothing was allowed: you were not shown all {len(LONG) + 2} characters" in error.value.message
    assert 'get_agent_output(agent="a")' in error.value.hint
    await lab.fleet.output(lab.call(), "a", offset=3000)  # its end alone is not all of it
    with pytest.raises(ConflictError, match="nothing was allowed"):
        await lab.fleet.command(lab.call(), "a", word)
    first = await lab.fleet.output(lab.call(), "a", limit=3000)
    assert (first.status, first.reason, first.total_characters) == ("waiting", "asks to use Bash", len(LONG) + 2)
    rest = await lab.fleet.output(lab.call(), "a", offset=first.next_offset or 0)
    assert raw(first.text) + raw(rest.text) == f'"{LONG}"'
    assert (await lab.fleet.command(lab.call(), "a", word)).happened.startswith("answered")


@pytest.mark.requirement("permission:allow:only-what-was-shown")
async def test_reading_by_one_caller_permits_no_other_one_and_a_denial_needs_none(lab: Lab) -> None:
    await wants_much(lab)
    await lab.fleet.output(lab.call(), "a")
    await lab.fleet.output(lab.call(), "a", offset=6000)
    await lab.fleet.detail(person(lab), "a")
    with pytest.raises(ConflictError, match="nothing was allowed"):
        await lab.fleet.answer(person(lab), "a", "allow")
    assert (await lab.fleet.answer(person(lab), "a", "deny: too long")).happened.startswith("answered")


@pytest.mark.requirement("permission:allow:only-what-was-shown")
async def test_a_line_feed_in_a_command_shows_as_one(lab: Lab) -> None:
    await an_asker(lab)
    await wants(lab, "Bash", {"command": "echo fine #\nrm -rf ."})
    assert r'wants to use Bash: "echo fine #\nrm -rf ."' in (await lab.wait("a")).text
    first, second = (await permission_form_of(lab)).split("\n")[1:]
    assert [first, second] == [r'| "echo fine #\n', '| rm -rf ."']


MAIL = "mcp__mail__send"
ALIKE: dict[str, tuple[str, dict[str, object], dict[str, object]]] = {
    "quotation marks": ("Bash", {"command": 'echo "a $HOME" > x'}, {"command": "echo 'a $HOME' > x"}),
    "two blanks": ("Bash", {"command": "echo 'a  b' > x"}, {"command": "echo 'a b' > x"}),
    "a comment that ends": ("Bash", {"command": "ls # rm -rf ."}, {"command": "ls #\nrm -rf ."}),
    "a sign for a line feed": ("Bash", {"command": "ls # ⏎ rm -rf ."}, {"command": "ls #\nrm -rf ."}),
    "a tab": ("Bash", {"command": "printf '%s' 'a b'"}, {"command": "printf '%s' 'a\tb'"}),
    "an end in blanks": ("Bash", {"command": "touch a\\ "}, {"command": "touch a\\"}),
    "an invisible character": ("Bash", {"command": "rm a<U+200B>"}, {"command": "rm a\u200b"}),
    "another blank": ("Bash", {"command": "rm a\u00a0b"}, {"command": "rm a b"}),
    "an option": ("Bash", {"command": 'ls {"timeout": 5}'}, {"command": "ls", "timeout": 5}),
    "the same value twice": ("Bash", {"command": "x", "shell": "x"}, {"command": "x"}),
    "another field": (MAIL, {"path": "/etc"}, {"url": "/etc"}),
    "a description that is the payload": (MAIL, {"command": "go", "description": "all"}, {"command": "go"}),
}


async def an_asker(lab: Lab) -> None:
    """An agent whose calls of some tools must be permitted, and a person who waits for it."""
    define(lab.project, "asker", f"tools: Read\nask: [Bash, {MAIL}]")
    await lab.create("a", persona="asker")
    await at_work(lab, "a")
    await person_waits(lab)


async def wants(lab: Lab, tool: str, tool_input: Mapping[str, object]) -> None:
    """Let the agent want to use the tool for this."""
    lab.play("a", Ask("", tool=tool, input=tool_input))
    await lab.becomes("a", "waiting", "permission")


async def permission_form_of(lab: Lab) -> str:
    """The form in which a person is asked."""
    [form] = (await person_waits(lab)).forms.values()
    return form.text


async def person_waits(lab: Lab) -> DurableWait:
    """The one wait of a host that shows forms."""
    wait = await lab.fleet.begin_durable_wait(lab.call("wait"), WaitRequest(agents=("a",)), asks_person=True)
    assert isinstance(wait, DurableWait)
    return wait


async def everywhere(lab: Lab) -> dict[str, str]:
    """What each door shows of the permission that the agent waits for."""
    call, at_terminal = lab.call(), person(lab)
    detail = await lab.fleet.detail(at_terminal, "a")
    shown = {
        "digest": (await lab.wait("a")).text,
        "status": mcp_text.status_lines(await lab.fleet.status(call), named=False).text,
        "named": mcp_text.status_lines(await lab.fleet.status(call, ["a"]), named=True).text,
        "output": mcp_text.output_page(await lab.fleet.output(call, "a")),
        "show": "\n".join(inspect._detail_lines(detail)).split("asked (")[0],
        "form": await permission_form_of(lab),
    }
    with pytest.raises(ConflictError) as error:
        await lab.fleet.command(lab.call(orchestrator="new"), "a", "allow")
    shown["refusal"] = one_line(str(error.value), 2000)  # as every door sends it
    return {where: VARYING.sub("", said) for where, said in shown.items()}


VARYING = re.compile(r"qu_\w+|ag_\w+|\b\d+(?:\.\d+)?m?s\b|turn \d+( of \d+)?|· \$[0-9.]+")


@pytest.mark.requirement("permission:allow:only-what-was-shown")
@pytest.mark.parametrize("case", ALIKE)
async def test_two_calls_that_differ_look_different_at_every_door(lab: Lab, case: str) -> None:
    tool, one, other = ALIKE[case]
    await an_asker(lab)
    await wants(lab, tool, one)
    first = await everywhere(lab)
    await lab.fleet.command(lab.call(), "a", "deny: no")
    await lab.becomes("a", "working")
    await wants(lab, tool, other)
    second = await everywhere(lab)
    assert [where for where in first if first[where] == second[where]] == []


@pytest.mark.requirement("permission:allow:only-what-was-shown", "question:answer:closed-is-no-task")
@pytest.mark.parametrize("tool", ["get_agent_status", "list_agents"])
async def test_a_slow_call_does_not_take_back_the_newer_question_that_a_parallel_one_shows(
    lab: Lab, tool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lab.create("a")
    await lab.asks("a", "red or blue?")
    is_held, may_go = asyncio.Event(), asyncio.Event()

    def held(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def wait_once(*arguments: Any) -> Any:
            if not is_held.is_set():
                is_held.set()
                await may_go.wait()
            return await original(*arguments)

        return wait_once

    # what a call reads besides the agents
    if tool == "list_agents":
        monkeypatch.setattr(query, "_personas", held(query._personas))
    else:
        store = type(lab.context.work.store)
        read = store.read
        slow = held(read)

        async def maybe_slow(self: Any, job: Any) -> Any:
            return await (slow if getattr(job, "__name__", "") == "all_left" else read)(self, job)

        monkeypatch.setattr(store, "read", maybe_slow)
    first = asyncio.create_task(lab.tool(tool))
    await is_held.wait()
    await lab.fleet.answer(person(lab), "a", "blue")
    await lab.asks("a", "now or later?")
    assert "now or later?" in await lab.tool(tool)
    may_go.set()
    await first
    receipt = await lab.fleet.command(lab.call(), "a", "now")
    assert "answered" in receipt.happened
