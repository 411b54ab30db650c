"""Sessions at the worst moments: stops before they open, deletes while they start, full disks at their end."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import text

from orchestrator.domain.event import TERMINAL, Ended, Said, SessionOutcome, ToolEnded, ToolStarted
from orchestrator.errors import ProviderError, StoreError
from orchestrator.fleet.execution import worker
from orchestrator.store.turns import events as event_rows
from tests.fleet.scripted import Crash, Lab, eventually, open_lab

pytestmark = pytest.mark.anyio


async def ends_of(lab: Lab, name: str) -> list[tuple[int | None, str]]:
    """The terminal events, each with its turn."""
    return [(event.turn, event.kind) for event in await lab.events(name) if event.kind in TERMINAL]


async def test_an_interrupt_before_the_session_opens_ends_the_turn_without_a_prompt(lab: Lab) -> None:
    lab.provider.may_open.clear()
    await lab.create("a")
    await eventually(lambda: asyncio.sleep(0, lab.provider.opening == ["a"]))
    await lab.fleet.interrupt(lab.call(), "a")
    lab.provider.may_open.set()
    await lab.becomes("a", "interrupted")
    assert lab.provider.prompts["a"] == []
    assert await ends_of(lab, "a") == [(1, "turn.interrupted")]
    await lab.fleet.command(lab.call(), "a", "now")
    lab.finish("a")
    await lab.becomes("a", "complete")
    assert lab.provider.prompts["a"] == ["now"]


async def test_a_delete_while_the_session_starts_leaves_no_session_behind(lab: Lab) -> None:
    lab.provider.may_open.clear()
    made = await lab.create("a")
    await eventually(lambda: asyncio.sleep(0, lab.provider.opening == ["a"]))
    deleting = asyncio.create_task(lab.fleet.delete(lab.call(), ["a"]))
    (slot,) = lab.slots()
    await slot.stopped.wait()
    assert (await lab.view(made.agent.id)).status == "deleted"
    lab.provider.may_open.set()
    assert (await deleting)[0].was == "working"
    assert lab.provider.prompts["a"] == []
    assert all(session.closed for session in lab.provider.sessions)
    assert await ends_of(lab, made.agent.id) == [(1, "turn.interrupted")]


async def test_a_session_that_does_not_open_fails_the_turn_with_its_own_words(lab: Lab) -> None:
    lab.provider.fails["a"] = ProviderError("claude does not start: no such file", hint="install it")
    await lab.create("a")
    await lab.becomes("a", "failed", "start")
    turn = (await lab.turns("a"))[0]
    assert (turn.detail, turn.hint) == ("claude does not start: no such file", "install it")
    del lab.provider.fails["a"]
    await lab.fleet.command(lab.call(), "a", "again")
    lab.finish("a")
    await lab.becomes("a", "complete")


async def test_a_session_that_crashes_fails_its_own_turn_only(lab: Lab) -> None:
    await lab.create("a")
    await lab.create("b")
    lab.play("a", Crash(ValueError("boom")))
    await lab.becomes("a", "failed", "internal")
    assert (await lab.turns("a"))[0].detail == "ValueError: boom"
    lab.finish("b")
    await lab.becomes("b", "complete")


async def test_a_deaf_session_is_cut_off_and_its_turn_ends_as_interrupted(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "STOP_SECONDS", 0.05)
    lab.provider.deaf.add("a")
    await lab.create("a")
    await lab.becomes("a", "working")
    await eventually(lambda: asyncio.sleep(0, bool(lab.provider.prompts["a"])))
    await lab.fleet.interrupt(lab.call(), "a")
    await lab.becomes("a", "interrupted")
    assert lab.provider.sessions[0].closed
    assert await ends_of(lab, "a") == [(1, "turn.interrupted")]
    await lab.fleet.command(lab.call(), "a", "again")
    lab.finish("a")
    await lab.becomes("a", "complete")
    assert len(lab.provider.sessions) == 2


async def test_a_deaf_session_does_not_hold_up_its_delete(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "STOP_SECONDS", 0.05)
    lab.provider.deaf.add("a")
    await lab.create("a")
    await eventually(lambda: asyncio.sleep(0, bool(lab.provider.prompts["a"])))
    async with asyncio.timeout(9):
        await lab.fleet.delete(lab.call(), ["a"])
    assert lab.provider.sessions[0].closed


@pytest.mark.requirement("session:idle:no-process", "session:resume:by-id")
async def test_a_resting_session_is_closed_and_the_next_command_resumes_the_conversation(tmp_path: Path) -> None:
    async with open_lab(tmp_path, rest_seconds=0) as lab:
        await lab.create("a")
        lab.finish("a")
        await lab.becomes("a", "complete")
        await eventually(lambda: asyncio.sleep(0, lab.context.slots.session_count() == 0))
        await lab.fleet.command(lab.call(), "a", "more")
        lab.finish("a")
        await lab.becomes("a", "complete")
        first, second = lab.provider.sessions
        assert first.spec.session_id == second.spec.session_id
        assert (first.spec.resume, second.spec.resume) == (False, True)


async def _closing_lab(lab: Lab) -> None:
    """The agent `a` rests, and its session is just being closed."""
    await lab.create("a")
    lab.provider.may_close.clear()
    lab.finish("a")
    await lab.becomes("a", "complete")
    await eventually(lambda: asyncio.sleep(0, lab.provider.closing == ["a"]))


async def test_a_command_while_the_session_closes_runs_in_a_new_one(tmp_path: Path) -> None:
    async with open_lab(tmp_path, rest_seconds=0) as lab:
        await _closing_lab(lab)
        await lab.fleet.command(lab.call(), "a", "more")
        assert len(lab.provider.sessions) == 1
        lab.finish("a")
        lab.provider.may_close.set()
        await lab.becomes("a", "complete")
        assert lab.provider.prompts["a"] == ["look", "more"]
        assert lab.provider.violations == []


async def test_an_interrupt_while_the_old_session_closes_stops_the_new_turn(tmp_path: Path) -> None:
    async with open_lab(tmp_path, rest_seconds=0) as lab:
        await _closing_lab(lab)
        await lab.fleet.command(lab.call(), "a", "more")
        await lab.fleet.interrupt(lab.call(), "a")
        lab.provider.may_close.set()
        await lab.becomes("a", "interrupted")
        assert lab.provider.prompts["a"] == ["look"]


async def test_a_delete_while_the_old_session_closes_starts_no_other(tmp_path: Path) -> None:
    async with open_lab(tmp_path, rest_seconds=0) as lab:
        await _closing_lab(lab)
        await lab.fleet.command(lab.call(), "a", "more")
        (slot,) = lab.slots()
        deleting = asyncio.create_task(lab.fleet.delete(lab.call(), ["a"]))
        await eventually(lambda: asyncio.sleep(0, slot.stopping is not None and slot.stopping.reason == "deleted"))
        lab.provider.may_close.set()
        await deleting
        assert lab.provider.prompts["a"] == ["look"]
        assert all(session.closed for session in lab.provider.sessions)


async def test_of_more_resting_sessions_than_slots_the_oldest_is_closed(tmp_path: Path) -> None:
    async with open_lab(tmp_path, slots=2) as lab:
        for name in ("a", "b", "c"):
            await lab.create(name)
            lab.finish(name)
            await lab.becomes(name, "complete")
        await eventually(lambda: asyncio.sleep(0, lab.provider.closing == ["a"]))
        assert lab.context.slots.session_count() == 2


async def test_a_stop_that_interrupts_what_works_leaves_queued_agents_queued(tmp_path: Path) -> None:
    async with open_lab(tmp_path, slots=1) as lab:
        await lab.create("a")
        await lab.create("b")
        await lab.becomes("b", "queued", "slot")
        lab.fleet.interrupt_at_end()
    async with open_lab(tmp_path, slots=1) as lab:
        assert (await lab.becomes("a", "interrupted")).reason == "stopped"
        await lab.becomes("b", "working")
        assert lab.provider.opening == ["b"]


async def test_a_full_disk_at_the_end_of_a_turn_delays_the_end_and_loses_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "STORE_AGAIN_SECONDS", 0.01)
    await lab.create("a")
    await lab.becomes("a", "working")
    page_limit = await _limit_pages(lab, 1)
    lab.play("a", Said(text="x" * 3000), Said(text="y" * 3000))
    lab.finish("a", "the result " * 2000)
    with pytest.raises(StoreError):
        await lab.create("b", task="z" * 100_000)
    assert (await lab.view("a")).status == "working"
    await _limit_pages(lab, page_limit)
    await lab.becomes("a", "complete")
    assert await ends_of(lab, "a") == [(1, "turn.complete")]
    said = [event.body["text"][0] for event in await lab.events("a") if event.kind == "session.said"]
    assert said == ["x", "y"]


async def _limit_pages(lab: Lab, pages: int) -> int:
    """Let the writer's connection take no more than this many pages (at least those there are); the former limit."""

    def limit(connection: event_rows.Connection) -> int:
        before = int(connection.execute(text("PRAGMA max_page_count")).scalar_one())
        connection.execute(text(f"PRAGMA max_page_count = {pages}"))
        return before

    while True:
        with suppress(StoreError):  # a write that fails takes those with it that share its transaction
            return await lab.context.work.store.write(limit)


async def test_a_locked_database_is_an_error_that_passes(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def impatient(connection: event_rows.Connection) -> None:
        connection.execute(text("PRAGMA busy_timeout = 20"))

    await lab.create("a")
    await lab.context.work.store.write(impatient)
    other = sqlite3.connect(lab.context.work.store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError) as error:
        await lab.create("b")
    assert "cannot be written" in error.value.message
    other.execute("ROLLBACK")
    other.close()
    await lab.create("b")


async def test_what_a_model_cuts_in_the_middle_of_a_character_harms_nobody(lab: Lab) -> None:
    await lab.create("a")
    half = "smile \ud83d"
    lab.play(
        "a",
        Said(text=half),
        ToolStarted(call_id="c", tool="Read", summary=half),
        ToolEnded(call_id="c", tool="Read", ok=True, summary=half, consumed=(f"/x/{half}",), produced=("/y/\udce4",)),
        Ended(outcome=SessionOutcome.COMPLETE, text=half, detail=half, hint=half, reason=half, cost_usd=0.0),
    )
    await lab.becomes("a", "complete")
    assert (await lab.fleet.output(lab.call(), "a")).text == "smile \ufffd"
    detail = await lab.fleet.detail(lab.call(), "a")
    assert detail.model_dump_json()
    for event in await lab.fleet.events(lab.call(), since="0"):
        assert event.model_dump_json()


async def test_an_end_that_cannot_be_recorded_becomes_a_failure(lab: Lab) -> None:
    await lab.create("a")
    odd = Ended(outcome=SessionOutcome.COMPLETE, text="x", session_cost_usd=object())  # pyright: ignore[reportArgumentType] - a provider's bug
    lab.play("a", odd)
    await lab.becomes("a", "failed", "internal")
    assert await ends_of(lab, "a") == [(1, "turn.failed")]


async def test_a_caller_that_goes_away_takes_no_agent_with_it(lab: Lab) -> None:
    for number in range(5):
        task = asyncio.create_task(lab.create(f"a{number}"))
        await asyncio.sleep(0)
        for _ in range(number * 3):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
    await lab.create("last")
    for view in (await lab.fleet.status(lab.call())).agents:
        if view.status == "working":
            await eventually(lambda name=view.name: asyncio.sleep(0, bool(lab.provider.prompts[name])))


async def test_a_stale_session_writes_nothing(lab: Lab) -> None:
    made = await lab.create("a")
    await lab.becomes("a", "working")
    found = await lab.context.find(lab.caller, "a")
    await lab.context.work.commit(_next_epoch, found.id)
    before = len(await lab.events("a"))
    lab.play("a", Said(text="too late"))
    lab.finish("a", "too late")
    await eventually(lambda: asyncio.sleep(0, not lab.provider.sessions[0].running))
    await lab.fleet.delete(lab.call(), [made.agent.id])
    assert not [event for event in await lab.events(made.agent.id) if event.kind == "session.said"]
    assert (await lab.turns(made.agent.id))[0].result == ""
    assert len(await lab.events(made.agent.id)) == before + 2


def _next_epoch(connection: event_rows.Connection, agent_id: str) -> None:
    event_rows.change(connection, agent_id, epoch=99)


async def test_an_agent_whose_directory_is_gone_fails_with_that(lab: Lab) -> None:
    await lab.create("a")
    await lab.becomes("a", "working")
    await lab.fleet.command(lab.call(), "a", "more")
    moved = lab.project.rename(lab.project.with_name("moved"))
    lab.finish("a", "result")
    await lab.becomes("a", "failed", "start")
    assert "is gone" in (await lab.turns("a"))[1].detail
    moved.rename(lab.project)
    assert (await lab.turns("a"))[0].result == "result"
