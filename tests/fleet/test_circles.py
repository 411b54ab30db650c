"""Agents that would wait for each other are refused when the cycle would close, whatever they wait by."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import ConflictError
from tests.fleet.scripted import Direct, Lab, SleepOnChildren, Spawn, open_lab
from tests.fleet.test_families import write_lead
from tests.fleet.test_orchestrating import create, sleeps, told

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("inputs:cycle:refused")]


def wait(*agents: str, **more: object) -> Direct:
    """The orchestrator waits for these; for all of its own if none is named."""
    return Direct("wait_for_agents", {**({"agents": list(agents)} if agents else {}), **more})


async def orchestrators(lab: Lab, *names: str) -> None:
    """Orchestrators of one session, at work."""
    for name in names:
        await lab.create(name, persona="orchestrator")
        await lab.becomes(name, "working")


async def test_of_two_orchestrators_that_wait_for_each_other_the_second_is_told(lab: Lab) -> None:
    await orchestrators(lab, "a", "b")
    lab.play("a", wait("b"))
    await sleeps(lab, "a")
    lab.play("b", wait("a"))
    assert await told(lab, 1, "b") == (
        "ERROR b and a would wait for each other -> wait for others, or write your report: it waits for your end"
    )
    lab.finish("b", "the report")
    assert "| the report" in await told(lab, 1, "a")


@pytest.mark.parametrize("named", [True, False])
async def test_an_orchestrator_does_not_wait_for_whoever_gets_its_result(lab: Lab, named: bool) -> None:
    await orchestrators(lab, "a")
    lab.play("a", create("w"))
    await told(lab, 1, "a")
    lab.finish("w")
    await lab.becomes("w", "complete")
    await lab.fleet.command(lab.call(), "w", "go on", inputs=["a"])
    lab.play("a", wait(*(["w"] if named else [])))
    assert "a and w would wait for each other" in await told(lab, 2, "a")
    lab.finish("a")
    await lab.becomes("w", "working")


async def test_whoever_an_orchestrator_sleeps_on_does_not_get_it_as_an_input(lab: Lab) -> None:
    await orchestrators(lab, "a")
    lab.play("a", create("w"), wait())
    await sleeps(lab, "a")
    with pytest.raises(ConflictError, match="w and a would wait for each other"):
        await lab.fleet.command(lab.call(), "w", "go on", inputs=["a"])
    assert len(await lab.turns("w")) == 1


async def test_a_circle_through_several_kinds_of_waits_is_seen(lab: Lab) -> None:
    await orchestrators(lab, "a", "b")
    await lab.create("w", inputs=["a"])
    lab.play("b", wait("w"))
    await sleeps(lab, "b")
    lab.play("a", wait("b"))
    assert "a and b would wait for each other" in await told(lab, 1, "a")


@pytest.mark.parametrize("more", [{"timeout_seconds": 600}, {"until": "any"}])
async def test_a_wait_that_can_end_otherwise_is_no_circle(lab: Lab, more: dict[str, object]) -> None:
    await orchestrators(lab, "a")
    await lab.create("w", inputs=["a"])
    await lab.create("other")
    lab.play("a", wait("w", "other", **more))
    await sleeps(lab, "a")


@pytest.mark.parametrize("first", ["parent", "child"])
async def test_a_parent_and_a_child_that_waits_for_its_result_are_told(tmp_path: Path, first: str) -> None:
    write_lead(tmp_path)
    async with open_lab(tmp_path) as lab:
        await lab.create("boss", persona="lead")
        lab.play("boss", Spawn("kid"))
        await told(lab, 1, "boss")
        await lab.becomes("kid", "working")
        if first == "parent":
            lab.play("boss", SleepOnChildren())
            await lab.becomes("boss", "waiting", "children")
            with pytest.raises(ConflictError, match="kid and boss would wait for each other"):
                await lab.fleet.command(lab.call(), "kid", "more", inputs=["boss"])
            lab.finish("kid")
            assert "[kid complete" in await told(lab, 2, "boss")
        else:
            await lab.fleet.command(lab.call(), "kid", "more", inputs=["boss"])
            lab.play("boss", SleepOnChildren())
            assert (await told(lab, 2, "boss")).startswith("not waited for: kid starts only when you have ended")
            lab.finish("boss")
            lab.finish("kid")
            lab.finish("kid")
            await lab.becomes("kid", "complete")
