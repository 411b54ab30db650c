"""An answer applies to one question; a caller can only answer questions that it was shown."""

from __future__ import annotations

import dataclasses

import pytest

from orchestrator.domain.durable_wait import DurableWait, Reply, WaitRequest
from orchestrator.domain.tool import Allow, CallContext, Deny
from orchestrator.errors import ConflictError
from orchestrator.fleet.context import FleetContext
from orchestrator.fleet.verbs import durable_wait
from orchestrator.fleet.views import Receipt
from tests.fixtures.personas import define
from tests.fleet.scripted import Ask, Direct, Lab, eventually

pytestmark = pytest.mark.anyio
LOOK = Ask("", tool="Bash", input={"command": "ls"})
ERASE = Ask("", tool="Bash", input={"command": "rm -rf ."})


def person(lab: Lab) -> CallContext:
    """The call of a person at a terminal."""
    return dataclasses.replace(lab.call(orchestrator="cli"), person=True)


async def wants(lab: Lab, step: Ask) -> str:
    """Let the agent ask for this permission; the question's id."""
    lab.play("a", step)
    text = str((step.input or {})["command"])

    async def asked() -> bool:
        view = await lab.view("a")
        return view.question is not None and view.question.text == text

    await eventually(asked)
    question = (await lab.view("a")).question
    assert question is not None
    return question.id


async def wants_to_look(lab: Lab) -> str:
    """An agent that wants to run `ls`."""
    define(lab.project, "shell", "tools: Read\nask: [Bash]")
    await lab.create("a", persona="shell")
    return await wants(lab, LOOK)


async def replaced(lab: Lab) -> None:
    """A person denies what the orchestrator has read, and the agent asks for something else."""
    await wants_to_look(lab)
    assert "ls" in (await lab.wait("a")).text
    await lab.fleet.answer(person(lab), "a", "deny: no")
    await wants(lab, ERASE)


async def verdicts(lab: Lab) -> list[type]:
    """What the agent's calls were answered, once it has ended."""
    lab.finish("a")
    await lab.becomes("a", "complete")
    return [type(one) for one in lab.provider.verdicts["a"]]


@pytest.mark.requirement("permission:gate:allow-deny-always")
@pytest.mark.parametrize("word", ["allow", "always"])
async def test_a_late_permission_is_not_given_to_another_call(lab: Lab, word: str) -> None:
    await replaced(lab)
    with pytest.raises(ConflictError) as error:
        await lab.fleet.command(lab.call(), "a", word)
    assert 'a now wants to use Bash: "rm -rf ."' in error.value.message
    assert (await lab.view("a")).status == "waiting"
    await lab.fleet.command(lab.call(), "a", "deny: never")
    assert await verdicts(lab) == [Deny, Deny]


@pytest.mark.requirement("permission:gate:allow-deny-always")
async def test_who_has_read_the_new_question_in_the_refusal_may_answer_it(lab: Lab) -> None:
    await replaced(lab)
    for _ in range(2):  # the very call that was refused is refused again, however often it is sent
        with pytest.raises(ConflictError):
            await lab.fleet.command(lab.call("k1"), "a", "allow")
    first = await lab.fleet.command(lab.call("k2"), "a", "allow")
    assert await lab.fleet.command(lab.call("k2"), "a", "allow") == first
    assert await verdicts(lab) == [Deny, Allow]


@pytest.mark.requirement("permission:gate:allow-deny-always")
@pytest.mark.parametrize("way", ["status", "detail", "registry", "wait"])
async def test_whoever_is_shown_the_new_question_may_answer_it(lab: Lab, way: str) -> None:
    await replaced(lab)
    if way == "status":
        await lab.fleet.status(lab.call())
    elif way == "detail":
        await lab.fleet.detail(lab.call(), "a")
    elif way == "registry":
        await lab.fleet.registry(lab.call())
    else:
        await lab.wait("a")
    await lab.fleet.command(lab.call(), "a", "allow")
    assert await verdicts(lab) == [Deny, Allow]


@pytest.mark.requirement("permission:gate:allow-deny-always")
async def test_an_orchestrator_permits_nothing_that_it_was_never_shown(lab: Lab) -> None:
    await wants_to_look(lab)
    with pytest.raises(ConflictError, match='a now wants to use Bash: "ls"'):
        await lab.fleet.command(lab.call(), "a", "allow")
    await lab.fleet.command(lab.call(), "a", "allow")
    assert await verdicts(lab) == [Allow]


@pytest.mark.requirement("permission:gate:allow-deny-always")
async def test_an_orchestrator_that_fleet_runs_is_refused_alike(lab: Lab) -> None:
    define(lab.project, "shell", "tools: Read\nask: [Bash]")
    await lab.create("orc", persona="orchestrator")
    lab.play("orc", Direct("create_agent", {"name": "a", "task": "t", "persona": "shell"}), Direct("wait_for_agents"))
    await lab.becomes("orc", "waiting", "agents")
    await wants(lab, LOOK)
    await lab.becomes("orc", "working")
    await lab.fleet.answer(person(lab), "a", "deny: no")
    await wants(lab, ERASE)
    lab.play("orc", Direct("command_agent", {"agent": "a", "task": "allow"}))

    async def told() -> bool:
        return len(lab.provider.answers["orc"]) == 3

    await eventually(told)
    assert "ERROR nothing was answered: a now wants to use Bash" in lab.provider.answers["orc"][-1]
    assert (await lab.view("a")).status == "waiting"


async def test_the_answer_to_a_question_is_no_answer_to_the_next_one(lab: Lab) -> None:
    await lab.create("a")
    await lab.asks("a", "red or blue?")
    await lab.wait("a")
    await lab.fleet.answer(person(lab), "a", "blue")
    await lab.becomes("a", "working")
    await lab.asks("a", "delete it all?")
    with pytest.raises(ConflictError, match='a now asks: "delete it all\\?"'):
        await lab.fleet.command(lab.call(), "a", "red")


@pytest.mark.requirement("question:answer:every-way")
async def test_an_answer_that_names_its_question_fits_no_other(lab: Lab) -> None:
    first = await wants_to_look(lab)
    await lab.fleet.answer(person(lab), "a", "deny: no", question=first[:11])
    second = await wants(lab, ERASE)
    await lab.fleet.detail(person(lab), "a")
    with pytest.raises(ConflictError):
        await lab.fleet.answer(person(lab), "a", "allow", question=first[:11])
    await lab.fleet.answer(person(lab), "a", "allow", question=second)
    assert await verdicts(lab) == [Deny, Allow]


@pytest.mark.requirement("task:input:terminal-form")
async def test_a_form_answers_the_question_that_it_showed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    define(lab.project, "shell", "tools: Read\nask: [Bash]")
    await lab.create("a", persona="shell")
    sleep = await lab.fleet.begin_durable_wait(lab.call(), WaitRequest(agents=["a"]), asks_person=True)
    assert isinstance(sleep, DurableWait)
    await wants(lab, LOOK)
    (key,) = (await lab.fleet.durable_wait(lab.call(), sleep.id)).forms
    command, raced = durable_wait.command, False

    async def late(
        context: FleetContext,
        call: CallContext,
        agent: str,
        text: str,
        *,
        only_answer: bool,
        question: str,
        is_read: bool,
    ) -> Receipt:
        nonlocal raced  # between the look at the form and the answer somebody denies it, and the agent asks anew
        raced = True
        await lab.fleet.answer(person(lab), "a", "deny: no")
        await wants(lab, ERASE)
        return await command(context, call, agent, text, only_answer=only_answer, question=question, is_read=is_read)

    monkeypatch.setattr(durable_wait, "command", late)
    await lab.fleet.reply_to_forms(lab.call(), sleep.id, {key: Reply(fields={"answer": "allow"})})
    assert raced
    view = await lab.view("a")
    assert view.question is not None
    assert view.question.text == "rm -rf ."


@pytest.mark.requirement("permission:gate:allow-deny-always")
async def test_what_a_full_digest_leaves_out_was_not_shown(lab: Lab) -> None:
    define(lab.project, "shell", "tools: Read\nask: [Bash]")
    names = [f"a{number}" for number in range(6)]
    for name in names:
        await lab.create(name, persona="shell")
        lab.play(name, Ask("", tool="Bash", input={"command": f"echo {'x' * 600}"}))
        await lab.becomes(name, "waiting", "permission")
    text = (await lab.wait()).text
    left_out = [name for name in names if f"NEEDS YOU {name} " not in text]
    assert 0 < len(left_out) < len(names)
    for name in names:
        if name in left_out:
            with pytest.raises(ConflictError, match="now wants to use Bash"):
                await lab.fleet.command(lab.call(), name, "allow")
        else:
            await lab.fleet.output(lab.call(), name)
            await lab.fleet.command(lab.call(), name, "allow")
