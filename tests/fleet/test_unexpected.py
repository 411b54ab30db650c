"""Unplanned events: a task of the daemon dies, and a stop is requested just before everything ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.domain.event import TERMINAL
from orchestrator.domain.turn import DeliveryMode
from orchestrator.store.turns.cancellation import ask
from orchestrator.store.turns.turns import Claim
from tests.fleet.scripted import Ask, Crash, Lab, ScriptedProvider, open_lab

pytestmark = pytest.mark.anyio


async def ends(lab: Lab, name: str) -> list[str]:
    return [event.kind for event in await lab.events(name) if event.kind in TERMINAL]


@pytest.mark.requirement("guarantee:outcome:exactly-one-and-true")
@pytest.mark.parametrize("how", ["cancelled", "raises"])
async def test_a_worker_that_dies_ends_its_turn_as_failed_and_harms_nobody_else(lab: Lab, how: str) -> None:
    for name in ("a", "b"):
        await lab.create(name)
        await lab.becomes(name, "working")
    view = await lab.view("a")
    if how == "cancelled":
        lab.task(view.id).cancel()
    else:
        lab.play("a", Crash(asyncio.CancelledError("a cancel scope of somebody else's library")))
    view = await lab.becomes("a", "failed", "internal")
    (turn,) = await lab.turns("a")
    assert "died" in turn.detail
    assert "command the agent" in turn.hint
    assert await ends(lab, "a") == ["turn.failed"]

    await lab.fleet.command(lab.call(), "a", "once more")
    await lab.becomes("a", "working")
    for name in ("a", "b"):
        lab.finish(name)
        await lab.becomes(name, "complete")
    assert await ends(lab, "b") == ["turn.complete"]


@pytest.mark.requirement("status:unknown:reconciled-within-seconds", "recovery:unknown:resolved-within-seconds")
async def test_a_turn_that_works_by_its_row_only_is_found_and_taken_up_again(lab: Lab) -> None:
    dropped = asyncio.Event()

    def drop(claims: Sequence[Claim]) -> None:
        if claims:
            dropped.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab.context.slots, "dispatch", drop)
        await lab.create("a")
        await dropped.wait()
        assert (await lab.view("a")).status == "working"
    lab.finish("a", "done after all")
    await lab.becomes("a", "complete")
    kinds = [event.kind for event in await lab.events("a")]
    assert kinds.count("turn.lost") == 1
    assert kinds.count("turn.complete") == 1
    assert (await lab.turns("a"))[0].result == "done after all"


@pytest.mark.requirement("fault:stop:outlives-every-race")
@pytest.mark.parametrize("by", ["interrupt", "command"])
async def test_a_stop_that_came_just_before_the_daemons_death_is_not_forgotten(tmp_path: Path, by: str) -> None:
    provider = ScriptedProvider()
    provider.deaf.add("a")
    async with open_lab(tmp_path, provider=provider) as lab:
        await lab.create("a")
        await lab.becomes("a", "working")
        if by == "interrupt":
            await lab.fleet.interrupt(lab.call(), "a")
        else:
            await lab.fleet.command(lab.call(), "a", "this instead", mode=DeliveryMode.INTERRUPT)
        await lab.die()
    async with open_lab(tmp_path) as lab:
        if by == "interrupt":
            await lab.becomes("a", "interrupted")
        else:
            await lab.becomes("a", "working")
            lab.finish("a")
            await lab.becomes("a", "complete")
        first, *_ = await lab.turns("a")
        assert (first.status, first.reason) == ("interrupted", "interrupted")
        assert (await ends(lab, "a"))[0] == "turn.interrupted"


@pytest.mark.requirement("fault:stop:outlives-every-race")
async def test_a_stop_that_meets_a_question_halfway_ends_the_turn_all_the_same(lab: Lab) -> None:
    await lab.create("a")
    view = await lab.becomes("a", "working")
    # the verb's transaction comes between the worker's last look and the commit of the question
    await lab.context.work.store.write(ask, view.id)
    lab.play("a", Ask("which one?"))
    await lab.becomes("a", "interrupted")
    assert await ends(lab, "a") == ["turn.interrupted"]
    await lab.fleet.command(lab.call(), "a", "go on")
    await lab.becomes("a", "working")
    lab.finish("a")
    await lab.becomes("a", "complete")
