"""Events: dense per agent, ascending over the fleet, never seen half, and told to those whom they are about."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from orchestrator.domain.activity import WORKING, Activity, ActivityKind, stalled
from orchestrator.domain.checkout import CheckoutState, state_of
from orchestrator.domain.event import EventKind
from orchestrator.domain.question import QuestionKind
from orchestrator.errors import ConflictError
from orchestrator.store.engine.connection import Connection
from orchestrator.store.schema.tables import ARTIFACT, EVENT
from orchestrator.store.schema.transitions import CLOCK, StaleOwnerError, emit, touched_topics
from orchestrator.store.turns import events, turns
from orchestrator.store.turns.events import EventRow, Fact, append
from orchestrator.store.turns.turns import Claim
from orchestrator.store.waits import questions
from tests.store.world import HOUR, NOON, World, asked, ended, open_world, usage

pytestmark = pytest.mark.anyio


def said(text: str, at: float = NOON, **more: Any) -> Fact:
    """That a session said something."""
    return Fact(kind=EventKind.SAID, at=at, body={"text": text}, **more)


async def after(world: World, cursor: int, limit: int = 100, **which: str | None) -> Sequence[EventRow]:
    """The events behind the cursor."""
    query = {"project": None, "agent_id": None, **which}
    return await world.store.read(lambda connection: events.events_after(connection, cursor, limit=limit, **query))


async def history(world: World, cursor: int = 0, **which: str | None) -> list[EventRow]:
    """All events behind the cursor, as a stream tells them."""
    query = {"project": None, "agent_id": None, **which}
    async with aclosing(events.history(world.store, cursor, **query)) as found:
        return [one async for one in found]


# numbers


STEP = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=8)


@pytest.mark.requirement("store:transaction:change-and-event")
@given(rounds=st.lists(STEP, min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_events_of_interleaved_agents_are_dense_per_agent_and_ascend_over_all(
    rounds: list[list[tuple[int, int]]],
) -> None:
    async def run(path: Path) -> None:
        async with open_world(path) as world:
            claims = [await world.start(f"a{number}") for number in range(4)]
            for steps in rounds:
                before = (await world.events())[-1].id
                await asyncio.gather(
                    *(
                        world.write(append, claims[which], [said(f"{number}") for number in range(count)])
                        for which, count in steps
                    ),
                    return_exceptions=False,
                )
                new = [event for event in await world.events() if event.id > before]
                assert len(new) == sum(count for _, count in steps)
            everything = await world.events()
            assert [event.id for event in everything] == sorted({event.id for event in everything})
            for claim in claims:
                mine = [event.seq for event in everything if event.agent_id == claim.agent_id]
                assert mine == list(range(1, len(mine) + 1))
                assert (await world.agent(claim.agent_id)).last_seq == len(mine)
            assert [one.id for one in await history(world)] == [event.id for event in everything]

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder) / "fleet.db"))


async def test_an_operation_that_fails_uses_up_no_number(world: World) -> None:
    def fail(connection: Connection) -> None:
        emit(connection, "ag_a", EventKind.PROGRESS, NOON, text="never")
        raise ConflictError("no")

    await world.create("a")
    results = await asyncio.gather(
        *(world.write(fail if number % 2 else emit_progress) for number in range(20)), return_exceptions=True
    )
    assert sum(isinstance(one, ConflictError) for one in results) == 10
    assert [event.seq for event in await world.events("ag_a")] == list(range(1, 13))


def emit_progress(connection: Connection) -> int:
    """The next event of the agent a."""
    return emit(connection, "ag_a", EventKind.PROGRESS, NOON, text="on")


async def test_the_cursor_of_an_event_is_given_back_and_never_used_again(world: World) -> None:
    await world.create("a")
    first = await world.write(emit_progress)
    await world.write(lambda connection: connection.execute(delete(EVENT).where(EVENT.c.id == first)))
    assert await world.write(emit_progress) > first


async def test_pages_behind_a_cursor_are_whole_in_order_and_without_gaps(world: World) -> None:
    for name in ("a", "b"):
        claim = await world.start(name)
        await world.write(append, claim, [said(str(number)) for number in range(7)])
    seen: list[int] = []
    while page := await after(world, seen[-1] if seen else 0, limit=4):
        assert len(page) <= 4
        seen += [event.id for event in page]
    assert seen == [event.id for event in await world.events()]


async def test_events_are_read_of_one_agent_of_a_project_or_of_all(world: World) -> None:
    await world.create("a")
    await world.create("b", project="/other")
    assert {event.name for event in await after(world, 0)} == {"a", "b"}
    for read in (after, history):
        found = [(await read(world, 0, agent_id="ag_b")), await read(world, 0, project="/project")]
        assert [{event.name for event in some} for some in found] == [{"b"}, {"a"}]


# what a session reports


async def test_facts_are_recorded_in_order_under_their_turn(world: World) -> None:
    claim = await world.start("a")
    await world.write(append, claim, [said("one", NOON + 1), said("two", NOON + 2)])
    found = (await world.events("ag_a"))[-2:]
    assert [(event.kind, event.turn, event.at, event.body) for event in found] == [
        ("session.said", 1, NOON + 1, {"text": "one"}),
        ("session.said", 1, NOON + 2, {"text": "two"}),
    ]
    assert (await world.agent("ag_a")).last_event_at == NOON + 2


async def test_a_fact_without_a_kind_changes_figures_and_tells_no_event(world: World) -> None:
    claim = await world.start("a")
    before = await world.events()
    await world.write(append, claim, [Fact(kind=None, at=NOON, body={}, values={"live_tokens": 77})])
    assert await world.events() == before
    assert (await world.agent("ag_a")).live_tokens == 77


async def test_no_facts_change_nothing(world: World) -> None:
    claim = await world.start("a")
    before = await world.agent("ag_a"), await world.events()
    await world.write(append, claim, [])
    assert (await world.agent("ag_a"), await world.events()) == before


async def test_a_stale_owner_records_neither_facts_nor_files(world: World) -> None:
    claim = await world.start("a")
    await world.take_over()
    before = await world.events()
    with pytest.raises(StaleOwnerError):
        await world.write(append, claim, [said("late", files=[("produced", "/x")])])
    assert await world.events() == before
    assert await world.count("artifact") == [0]


async def test_tool_calls_are_counted_and_open_ones_never_below_zero(world: World) -> None:
    claim = await world.start("a")
    tool, tool_ended = (Fact(kind=kind, at=NOON, body={}) for kind in (EventKind.TOOL, EventKind.TOOL_ENDED))
    for fact in (tool, tool, tool_ended, tool_ended, tool_ended, tool):
        await world.write(append, claim, [fact])
    agent = await world.agent("ag_a")
    assert (agent.tool_calls, agent.open_tools) == (3, 1)


async def test_files_of_a_turn_are_kept_once_with_their_last_moment(world: World) -> None:
    claim = await world.start("a")
    for at in (1.0, 2.0):
        await world.write(append, claim, [said("x", at, files=[("produced", "/x"), ("consumed", "/y")])])
    rows = await world.rows(select(ARTIFACT).order_by(ARTIFACT.c.path))
    assert [(row.kind, row.path, row.turn, row.at) for row in rows] == [
        ("produced", "/x", 1, 2.0),
        ("consumed", "/y", 1, 2.0),
    ]


async def test_an_activity_changes_when_it_is_another_one_and_not_when_it_is_told_again(world: World) -> None:
    claim = await world.start("a")
    moments: list[float] = []
    told: list[Activity | None] = [WORKING, WORKING, None, stalled(30), WORKING]
    for number, activity in enumerate(told):
        await world.write(append, claim, [said("x", NOON + number, activity=activity)])
        moments.append((await world.agent("ag_a")).changed_at)
    assert moments == [NOON, NOON, NOON, NOON + 3, NOON + 4]
    assert (await world.agent("ag_a")).activity == ActivityKind.NONE


async def test_what_a_checkout_was_before_its_turn_is_noted_once(world: World) -> None:
    claim = await world.start("a")
    for tree in ("first", "second"):
        await world.write(events.note_before, claim, CheckoutState(tree=tree, head=None))
    before = (await world.turn(claim.turn_id)).before
    assert before is not None
    assert state_of(before) == CheckoutState(tree="first", head=None)


# who is told


async def topics(world: World, op: Any, *args: Any, **kwargs: Any) -> set[str]:
    """Whom this operation is about."""

    def run(connection: Connection) -> set[str]:
        touched_topics(connection)
        op(connection, *args, **kwargs)
        return touched_topics(connection)

    return await world.write(run)


async def test_an_event_is_about_its_agent_its_root_its_project_and_its_orchestrator(world: World) -> None:
    lead = await world.start("lead")
    child = await world.create("child", parent=lead)
    whose = {"/project", "/project\nhost-1"}
    told = await topics(world, emit, "ag_lead", EventKind.PROGRESS, NOON)
    assert told == {"ag_lead", *whose}
    assert await topics(world, emit, child, EventKind.PROGRESS, NOON) == {child, "ag_lead", *whose}


async def test_an_operation_tells_every_agent_that_it_changed(world: World) -> None:
    lead = await world.start("lead")
    child = await world.create("child", parent=lead)
    claim = (await world.admit())[child]
    await world.wait_for_children(lead)
    told = await topics(world, turns.finish, claim, ended(), usage(), NOON)
    assert {child, "ag_lead"} <= told


async def test_what_only_reads_tells_nobody(world: World) -> None:
    await world.create("a")
    assert await topics(world, questions.open_question, "ag_a") == set()


@pytest.mark.parametrize("deadline", [None, NOON + HOUR])
async def test_the_clock_is_told_of_a_deadline_and_of_nothing_else(world: World, deadline: float | None) -> None:
    claim = await world.start("a")
    question = asked(QuestionKind.QUESTION, NOON, deadline_at=deadline)
    told = await topics(world, turns.suspend_for_answer, claim, question, usage(), NOON)
    assert (CLOCK in told) == (deadline is not None)


async def test_claims_of_other_agents_are_not_this_agents_news(world: World) -> None:
    claim: Claim = await world.start("a")
    await world.create("b", orchestrator="host-2", project="/other")
    assert await topics(world, append, claim, [said("x")]) <= {"ag_a", "/project", "/project\nhost-1"}
