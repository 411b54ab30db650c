"""Briefs: what a chain is told once, and who reads it; and inputs that may end in any way."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.domain.agent import MAX_BRIEF_BYTES, NewAgent
from orchestrator.errors import FleetError
from orchestrator.fleet.checks.criteria import Verify
from tests.fleet.scripted import Lab

pytestmark = pytest.mark.anyio


async def create(lab: Lab, name: str, brief: str = "", *inputs: str) -> tuple[str, ...]:
    """The agents with whose briefs the new one was created."""
    new = NewAgent(name=name, task="look", persona="planner", brief=brief, inputs=inputs)
    return (await lab.fleet.create(lab.call(), new)).agent.briefs_of


@pytest.mark.requirement("create:brief:once-per-chain")
async def test_a_brief_reaches_all_that_are_behind_it_and_all_that_name_it_each_once(lab: Lab) -> None:
    assert await create(lab, "one", "first things") == ("one",)
    assert await create(lab, "two") == ()
    assert await create(lab, "three", "@one") == ("one",)
    assert await create(lab, "four", "one") == ("one",)
    assert await create(lab, "five", "", "three", "four", "two") == ("one",)
    assert await create(lab, "six", "second things", "five") == ("six", "one")
    assert await create(lab, "seven", "", "six") == ("six", "one")
    [detail] = [await lab.fleet.detail(lab.call(), "seven")]
    assert [str(brief.of) for brief in detail.briefs] == ["six", "one"]


@pytest.mark.requirement("create:brief:once-per-chain")
async def test_the_same_text_said_with_several_agents_reaches_who_is_behind_them_once(lab: Lab) -> None:
    for name in ("one", "two", "three"):
        assert await create(lab, name, "the same things") == (name,)
    assert await create(lab, "four", " the same things\n", "one", "two", "three") == ("four",)
    assert await create(lab, "five", "", "one", "two", "three") == ("one",)


@pytest.mark.requirement("create:brief:once-per-chain")
async def test_briefs_that_are_too_long_together_create_no_agent_and_command_none(lab: Lab) -> None:
    for name in ("one", "two", "three"):
        await create(lab, name, f"{name} " * 5000)
    assert await create(lab, "four", "", "one", "two") == ("one", "two")
    with pytest.raises(FleetError, match="briefs have 70000 bytes together") as refused:
        await create(lab, "five", "", "one", "two", "three")
    assert "fewer inputs" in refused.value.hint
    with pytest.raises(FleetError, match="briefs have 70000 bytes together"):
        await lab.fleet.command(lab.call(), "four", "more", inputs=["three"])
    assert len((await lab.fleet.status(lab.call())).agents) == 4


@pytest.mark.requirement("create:brief:once-per-chain")
@pytest.mark.parametrize("when", ["it rests", "it has not begun"])
async def test_a_command_with_inputs_hands_on_the_briefs_of_their_chains(lab: Lab, when: str) -> None:
    await create(lab, "first", "first things")
    await lab.becomes("first", "working")
    if when == "it rests":
        await create(lab, "late", "own things")
        await lab.becomes("late", "working")
        lab.finish("late")
        await lab.becomes("late", "complete")
    else:
        await create(lab, "early")
        await create(lab, "late", "own things", "early")
    await lab.fleet.command(lab.call(), "late", "go on", inputs=["first"])
    assert (await lab.view("late")).briefs_of == ("late", "first")
    lab.finish("first")
    await lab.becomes("late", "working")
    prompts = [one.spec.system_prompt for one in lab.provider.sessions if one.spec.agent_name == "late"]
    assert ["first things" in prompt for prompt in prompts] == ([False, True] if when == "it rests" else [True])


@pytest.mark.requirement("create:brief:once-per-chain")
@pytest.mark.parametrize(
    ("brief", "said"),
    [
        ("@nobody", "no agent 'nobody'"),
        ("@mute", "mute has no brief"),
        ("a\x00b c", "brief contains a NUL"),
        ("x " * MAX_BRIEF_BYTES, "brief has 65536 bytes"),
    ],
)
async def test_a_brief_that_cannot_be_one_creates_no_agent(lab: Lab, brief: str, said: str) -> None:
    await create(lab, "mute")
    with pytest.raises(FleetError, match=said):
        await create(lab, "new", brief)
    assert len((await lab.fleet.status(lab.call())).agents) == 1


@pytest.mark.requirement("inputs:ended:however")
@pytest.mark.parametrize("how", ["complete", "failed", "interrupted"])
async def test_an_input_that_may_end_in_any_way_starts_who_waits_for_it(lab: Lab, how: str) -> None:
    await lab.create("review")
    await lab.becomes("review", "working")
    await lab.create("ship", inputs=["review"])
    await lab.create("mend", inputs=["review:ended"])
    await lab.becomes("mend", "queued", "inputs: review")
    match how:
        case "complete":
            lab.finish("review", "fine")
        case "failed":
            lab.fail("review", detail="findings")
        case _:
            await lab.fleet.interrupt(lab.call(), "review")
    await lab.becomes("mend", "working")
    await lab.becomes("ship", "working" if how == "complete" else "queued")


@pytest.mark.requirement("inputs:ended:however")
async def test_a_deleted_input_starts_nobody(lab: Lab) -> None:
    await lab.create("review")
    await lab.becomes("review", "working")
    await lab.create("mend", inputs=["review:ended"])
    await lab.fleet.delete(lab.call(), ["review"])
    await lab.becomes("mend", "queued", "its input review was deleted")


@pytest.mark.requirement("inputs:ended:however")
async def test_a_command_can_wait_for_any_end_too(lab: Lab) -> None:
    await lab.create("build")
    lab.finish("build", "built")
    await lab.becomes("build", "complete")
    await lab.create("review", inputs=["build"])
    await lab.becomes("review", "working")
    await lab.fleet.command(lab.call(), "build", "mend", inputs=["review:ended"])
    await lab.becomes("build", "queued")
    lab.fail("review", detail="findings")
    await lab.becomes("build", "working")


@pytest.mark.requirement("command:checks:receipt")
async def test_the_receipt_names_the_checks_that_replace_the_others(lab: Lab) -> None:
    await lab.create("build")
    said = await lab.fleet.command(lab.call(), "build", "more", verify=Verify(checks=["make test", {"exists": "a"}]))
    assert said.happened.endswith('; its checks are now: "make test", "a exists"')
    said = await lab.fleet.command(lab.call(), "build", "more", verify=Verify(checks=[]))
    assert said.happened.endswith("; its checks are now: none")


@pytest.mark.requirement("inputs:ended:however")
async def test_findings_that_start_the_agent_that_mends_them_wake_nobody(lab: Lab) -> None:
    await lab.create("review", persona="reviewer")
    await lab.create("mend", inputs=["review:ended"])
    await lab.becomes("review", "working")
    waiting = asyncio.create_task(lab.wait())
    lab.finish("review", "## Findings\n- one\n\nVERDICT: changes")
    await lab.becomes("mend", "working")
    lab.finish("mend", "mended")
    digest = await waiting
    assert [outcome.name for outcome in digest.outcomes] == ["review", "mend"]
    assert "->" not in digest.text


@pytest.mark.requirement("inputs:ended:however")
async def test_findings_that_nobody_was_told_to_mend_wake_their_orchestrator(lab: Lab) -> None:
    await lab.create("review", persona="reviewer")
    await lab.create("other")
    await lab.becomes("other", "working")
    lab.finish("review", "## Findings\n- one\n\nVERDICT: changes")
    digest = await lab.wait()
    assert [outcome.name for outcome in digest.outcomes] == ["review"]
    assert "-> have it fixed: command_agent" in digest.text
