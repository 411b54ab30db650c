"""Outcomes: every ended turn has one, at the cursor of its one terminal event, and it is delivered once."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from orchestrator.domain.event import TERMINAL
from orchestrator.domain.turn import DeliveryMode, TurnStatus
from orchestrator.errors import ConflictError
from orchestrator.store.agents import commands
from orchestrator.store.engine.connection import Connection
from orchestrator.store.queries import left
from orchestrator.store.queries import outcomes as reads
from orchestrator.store.schema.tables import TURN
from orchestrator.store.turns import cancellation, outcomes, steering
from orchestrator.store.turns.turns import Claim
from tests.store.world import World, open_world, usage

pytestmark = pytest.mark.anyio


async def untold(world: World, *agent_ids: str, since: int | None = None) -> list[str]:
    """Ids of the ended turns that their orchestrator does not know."""
    found = await world.store.read(lambda connection: reads.untold(connection, agent_ids, since))
    return [one.id for one in found]


@pytest.mark.requirement("turn:outcome:one-notice-per-turn")
@pytest.mark.parametrize("end", [TurnStatus.COMPLETE, TurnStatus.FAILED, TurnStatus.INTERRUPTED])
async def test_the_outcome_of_a_turn_is_at_the_cursor_of_its_terminal_event(world: World, end: TurnStatus) -> None:
    claim = await world.start("a")
    assert await untold(world, "ag_a") == []
    await world.finish(claim, end, "why")
    event, (turn,) = (await world.events("ag_a"))[-1], await world.turns("ag_a")
    assert (event.kind, event.turn, event.body["reason"]) == (f"turn.{end}", 1, "why")
    assert (turn.outcome_cursor, turn.delivered_at) == (event.id, None)


@pytest.mark.requirement("wait:digest:every-turn-once")
async def test_earlier_turns_are_told_though_the_agent_works_on(world: World) -> None:
    claim = await world.start("a")
    for _ in range(2):
        await world.queue("ag_a")
    ended: list[str] = []
    for _ in range(2):
        await world.finish(claim)
        ended.append(claim.turn_id)
        claim = (await world.admit())["ag_a"]
    assert await untold(world, "ag_a") == ended
    assert await world.status("ag_a") == "working"


async def test_outcomes_of_several_agents_are_told_in_the_order_of_their_ends(world: World) -> None:
    for name in ("a", "b", "c"):
        await world.create(name)
    claims = await world.admit()
    for name in ("c", "a", "b"):
        await world.finish(claims[f"ag_{name}"])
    assert await untold(world, "ag_a", "ag_b", "ag_c") == ["tn_c", "tn_a", "tn_b"]
    assert await untold(world, "ag_b") == ["tn_b"]
    assert await untold(world) == []


@pytest.mark.requirement("wait:digest:delivered-once")
async def test_what_was_delivered_is_not_told_again_and_keeps_its_moment(world: World) -> None:
    for name in ("a", "b"):
        await world.finish(await world.start(name))
    delivered = world.now
    await world.write(outcomes.deliver, ["tn_a"], delivered)
    world.now += 60
    await world.write(outcomes.deliver, ["tn_a", "tn_nobody"], world.now)
    assert await untold(world, "ag_a", "ag_b") == ["tn_b"]
    assert (await world.turn("tn_a")).delivered_at == delivered
    assert (await world.turn("tn_b")).delivered_at is None


async def test_a_cursor_tells_what_ended_behind_it_delivered_or_not(world: World) -> None:
    cursors: list[int] = []
    for name in ("a", "b", "c"):
        await world.finish(await world.start(name))
        cursors.append((await world.events())[-1].id)
    await world.write(outcomes.deliver, ["tn_a", "tn_b", "tn_c"], world.now)
    everyone = ("ag_a", "ag_b", "ag_c")
    assert await untold(world, *everyone) == []
    assert await untold(world, *everyone, since=0) == ["tn_a", "tn_b", "tn_c"]
    assert await untold(world, *everyone, since=cursors[0]) == ["tn_b", "tn_c"]
    assert await untold(world, *everyone, since=cursors[2]) == []


async def test_a_turn_that_was_read_into_another_has_a_terminal_event_and_no_outcome(world: World) -> None:
    claim = await world.start("a")
    done = await world.command("ag_a", "mind this", DeliveryMode.STEER)
    await world.write(steering.fold, claim, [str(done.turn_id)], world.now)
    turn = await world.turn(str(done.turn_id))
    assert (turn.status, turn.reason, turn.detail) == ("cancelled", "steered", "read in turn 1")
    assert turn.outcome_cursor is None
    await world.finish(claim)
    assert await world.admit() == {}
    assert await untold(world, "ag_a") == ["tn_a"]


async def test_only_queued_turns_of_the_claimed_agent_are_read_into_it(world: World) -> None:
    claim, other = await world.start("a"), await world.start("b")
    theirs = await world.queue("ag_b")
    await world.write(steering.fold, claim, [theirs, other.turn_id, claim.turn_id], world.now)
    assert [turn.status for turn in await world.turns("ag_b")] == ["working", "queued"]
    assert (await world.turn(claim.turn_id)).status == "working"


async def test_a_deleted_agents_turns_end_with_one_outcome_for_the_last(world: World) -> None:
    await world.start("a")
    await world.queue("ag_a")
    await world.delete("ag_a")
    turns = await world.turns("ag_a")
    assert [(turn.status, turn.reason) for turn in turns] == [("interrupted", "deleted"), ("cancelled", "deleted")]
    assert [turn.outcome_cursor is not None for turn in turns] == [False, True]


async def test_the_outcomes_of_an_agent_come_in_the_order_of_their_ends(world: World) -> None:
    claim = await world.start("a")
    await world.queue("ag_a")
    await world.finish(claim, TurnStatus.FAILED)
    found = await world.store.read(lambda connection: reads.ended(connection, ["ag_a", "ag_nobody"]))
    assert {agent_id: [turn.id for turn in turns] for agent_id, turns in found.items()} == {"ag_a": ["tn_a"]}
    claim = (await world.admit())["ag_a"]
    await world.finish(claim)
    found = await world.store.read(lambda connection: reads.ended(connection, ["ag_a"]))
    assert [turn.id for turn in found["ag_a"]] == ["tn_a", claim.turn_id]


async def test_unread_outcomes_are_counted_by_orchestrator_and_deleted_agents_do_not_count(world: World) -> None:
    for name, whose in (("mine", "host-1"), ("theirs", "host-2"), ("gone", "host-1"), ("read", "host-1")):
        await world.finish(await world.start(name, orchestrator=whose))
    await world.finish((await world.admit_more("ag_mine"))["ag_mine"])
    await world.delete("ag_gone")
    await world.write(outcomes.deliver, ["tn_read"], world.now)
    mine = await world.store.read(lambda connection: reads.unread_of(connection, "/project", "host-1"))
    others = await world.store.read(lambda connection: left.unread(connection, "/project", "host-1"))
    counts = await world.store.read(lambda connection: reads.unread_counts(connection, ["ag_mine", "ag_read"]))
    assert (mine, others, counts) == ({"mine": 2}, [("theirs", "host-2", 1)], {"ag_mine": 2})


# any order of ends


STEP = st.tuples(
    st.sampled_from(["create", "queue", "finish", "fail", "lose", "ask", "answer", "interrupt", "replace", "delete"]),
    st.integers(0, 9),
)


class Ends:
    """Agents that come to their ends in any order."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.claims: dict[str, Claim] = {}
        self.ids: list[str] = []

    async def step(self, what: str, number: int) -> None:
        """Take one step; what cannot be done now is refused or left out."""
        if what == "create" or not self.ids:
            self.ids.append(await self.world.create(f"a{len(self.ids)}"))
        elif what in {"finish", "fail", "lose", "ask"}:
            claims = list(self.claims.values())
            if claims:
                await self._end(what, self.claims.pop(claims[number % len(claims)].agent_id))
        else:
            await self._command(what, self.ids[number % len(self.ids)])

    async def _end(self, what: str, claim: Claim) -> None:
        if what == "ask":
            await self.world.ask(claim)
        elif what == "lose":
            final = await self.world.lose(claim, max_resumes=2)
            if final is not None:
                ended = (final.reason, final.detail)
                await self.world.write(cancellation.fail, claim, *ended, usage(), self.world.now)
        else:
            await self.world.finish(claim, TurnStatus.COMPLETE if what == "finish" else TurnStatus.FAILED)

    async def _command(self, what: str, agent_id: str) -> None:
        if what == "queue":
            await self.world.command(agent_id)
        elif what == "answer":
            await self.world.answer(agent_id)
        elif what == "delete":
            await self.world.delete(agent_id)
            self.claims.pop(agent_id, None)
        else:
            running = (
                await self.world.write(commands.interrupt, agent_id, self.world.now)
                if what == "interrupt"
                else (await self.world.command(agent_id, "instead", DeliveryMode.INTERRUPT)).running
            )
            for one in running:
                await self.world.finish(self.claims.pop(one), TurnStatus.INTERRUPTED, "interrupted")

    async def check(self) -> None:
        """One terminal event for each ended turn, none for an open one; an outcome is at that event."""
        turns = await self.world.rows(select(TURN))
        terminal = [event for event in await self.world.events() if event.kind in TERMINAL]
        ends = Counter((event.agent_id, event.turn) for event in terminal)
        over = [turn for turn in turns if turn.ended_at is not None]
        assert ends == {(turn.agent_id, turn.ordinal): 1 for turn in over}
        cursors = {(event.agent_id, event.turn): event.id for event in terminal}
        for turn in turns:
            if turn.outcome_cursor is not None:
                assert turn.outcome_cursor == cursors[turn.agent_id, turn.ordinal]
            assert turn.status in {"complete", "failed", "interrupted", "cancelled"} or turn not in over
            if turn.status in {"complete", "failed"}:
                assert turn.outcome_cursor is not None
        told = [one.id for one in await self._untold()]
        assert len(told) == len(set(told))

    async def _untold(self) -> Sequence[reads.EndedTurn]:
        return await self.world.store.read(lambda connection: reads.untold(connection, self.ids, None))


@pytest.mark.requirement("turn:outcome:one-notice-per-turn")
@given(steps=st.lists(STEP, min_size=5, max_size=30))
@settings(max_examples=40, deadline=None)
def test_in_any_order_of_ends_every_ended_turn_has_one_terminal_event_and_at_most_one_outcome(
    steps: list[tuple[str, int]],
) -> None:
    async def run(path: Path) -> None:
        async with open_world(path) as world:
            ends = Ends(world)
            for what, number in steps:
                world.now += 1
                with contextlib.suppress(ConflictError):  # what cannot be done now is refused
                    await ends.step(what, number)
                ends.claims |= await world.admit()
                await ends.check()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder) / "fleet.db"))


async def test_where_an_agent_is_in_its_turns_is_found_without_reading_its_history(world: World) -> None:
    ended = claim = await world.start("a")

    def work(connection: Connection) -> tuple[reads.LatestTurns, int]:
        driver, steps = cast("Any", connection).connection.driver_connection, list[int]()
        driver.set_progress_handler(lambda: steps.append(1), 1)  # called for each instruction of SQLite
        try:
            return reads.latest(connection, ["ag_a"])["ag_a"], len(steps)
        finally:
            driver.set_progress_handler(None, 0)

    counted: list[int] = []
    for turns in (2, 40):
        for _ in range(turns):
            await world.queue("ag_a")
            await world.finish(claim)
            ended, claim = claim, (await world.admit())["ag_a"]
        latest, steps = await world.store.read(work)
        assert latest.ended_id == ended.turn_id
        assert latest.open is not None
        assert (latest.open.ordinal, latest.open.status) == (claim.turn, TurnStatus.WORKING)
        counted.append(steps)
    assert counted[1] <= counted[0] + 10, "a history that is twenty times as long takes no more work"
