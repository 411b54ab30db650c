"""Sums over many agents are those of the agents one by one, and what needs few rows reads few."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest
import sqlalchemy
from sqlalchemy import Select, select, update
from sqlalchemy.dialects.sqlite import dialect

from orchestrator.domain.agent import Status
from orchestrator.domain.event import EventKind
from orchestrator.domain.tool import Caller
from orchestrator.fleet import lookup
from orchestrator.fleet.projections.agent_views import cost_of
from orchestrator.store.engine.connection import Connection
from orchestrator.store.queries import agents, left, outcomes, totals
from orchestrator.store.schema.tables import AGENT
from orchestrator.store.turns.events import Fact, append
from orchestrator.store.turns.evidence import write_evidence
from orchestrator.store.turns.turns import Claim
from tests.store.world import ORCHESTRATOR, PROJECT, World

pytestmark = pytest.mark.anyio

FIGURES = [
    {
        "status": status,
        "running_since": running_since,
        "live_tokens": live_tokens,
        "live_cost_usd": live_cost_usd,
        "cost_unknown": cost_unknown,
        "tokens": tokens,
        "cost_usd": 0.25,
    }
    for status, running_since, live_tokens, live_cost_usd, cost_unknown, tokens in itertools.product(
        (Status.WORKING, Status.COMPLETE), (None, 1.0), (0, 5), (0.0, 0.5), (False, True), (0, 70)
    )
]
"""every mix of what a turn at work has reported and what earlier turns have cost"""


CALLER = Caller(project=PROJECT, orchestrator=ORCHESTRATOR, cwd=PROJECT)


@pytest.mark.requirement("view:fleet:totals-and-waits")
async def test_totals_are_the_sums_of_the_agents_whatever_a_turn_at_work_has_reported(world: World) -> None:
    for number, figures in enumerate(FIGURES):
        project = "/elsewhere" if number % 5 == 0 else PROJECT
        made = await world.create(f"agent-{number}", rehearsal=number % 3 == 0, project=project)
        await world.store.write(_set, made, {**figures, "context_tokens": None if number % 4 == 0 else number})
    await world.delete("ag_agent-1")
    for project in (None, PROJECT, "/elsewhere", "/nowhere"):
        living = [row for row in await world.rows(select(AGENT)) if row.deleted_at is None]
        mine = [row for row in living if project in {None, row.project}]
        found = await world.store.read(lambda connection, project=project: totals.by_status(connection, project))
        for status in Status:
            sums, rows = [one for one in found if one.status == status], [row for row in mine if row.status == status]
            costs = [cost_of(row) for row in rows]
            assert sum(one.agents for one in sums) == len(rows)
            assert sum(one.tokens for one in sums) == sum(row.tokens + row.live_tokens for row in rows)
            assert sum(one.context_tokens for one in sums) == sum(row.context_tokens or 0 for row in rows)
            assert sum(one.unknown_costs for one in sums) == costs.count(None)
            assert sum(one.known_cost_usd for one in sums) == pytest.approx(sum(cost or 0.0 for cost in costs))
            assert any(one.rehearsal for one in sums) == any(row.rehearsal for row in rows)


READS: dict[str, Callable[[Connection], object]] = {
    "who waits for whom": lambda connection: totals.blocks(connection, PROJECT),
    "unread turns": lambda connection: outcomes.unread_of(connection, PROJECT, ORCHESTRATOR),
    "unread turns of others": lambda connection: left.unread(connection, PROJECT, ORCHESTRATOR),
    "questions of others": lambda connection: left.asking(connection, PROJECT, ORCHESTRATOR),
    "work of others": lambda connection: left.at_work(connection, PROJECT, ORCHESTRATOR),
    "the oldest": lambda connection: agents.living(connection, PROJECT, 5),
    "an agent by its name": lambda connection: agents.living_by_names(connection, ["agent-3"], PROJECT),
    "an agent by its name, and names of none, given very often": lambda connection: lookup.find_living(
        connection, CALLER, ["agent-3", "a", "ag", *(f"x{number}" for number in range(20))] * 100
    ),
    "the newest deleted agent of a name": lambda connection: agents.last_deleted(connection, "deleted", PROJECT),
    "the project of the newest event": agents.last_project,
}
READS_OF_LIVING: dict[str, Callable[[Connection], object]] = {
    **READS,
    "the caller's agents": lambda connection: agents.living_of(connection, PROJECT, ORCHESTRATOR),
    "all agents": lambda connection: agents.living(connection, PROJECT),
    "the agents of all projects": lambda connection: agents.living(connection, None),
    "totals": lambda connection: totals.by_status(connection, PROJECT),
    "projects": left.projects,
}


async def test_what_needs_few_rows_costs_the_same_with_many_agents(world: World) -> None:
    await _resting(world, range(10))
    few = await _costs(world, READS)
    await _resting(world, range(10, 200))
    many = await _costs(world, READS)
    assert {what: many[what] for what in few if many[what] >= 2 * few[what]} == {}


@pytest.mark.requirement("agent:lookup:each-name-once")
async def test_a_read_costs_the_same_after_many_agents_were_deleted(world: World) -> None:
    await _resting(world, range(10))
    await _deleted(world, range(10, 20))
    few = await _costs(world, READS_OF_LIVING)
    await _deleted(world, range(20, 200))
    many = await _costs(world, READS_OF_LIVING)
    assert {what: many[what] for what in few if many[what] >= 2 * few[what]} == {}


async def test_totals_of_resting_agents_read_no_row_of_an_agent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, bool]] = []

    def explain(connection: Connection, statement: Select[*tuple[Any, ...]], values: Mapping[str, object]) -> list[Any]:
        compiled = statement.compile(dialect=dialect())
        given = compiled.construct_params(dict(values))
        parameters = [given[name] for name in compiled.positiontup or ()]
        driver: Any = cast("sqlalchemy.Connection", connection).connection.driver_connection
        ((table,),) = driver.execute("SELECT rootpage FROM sqlite_master WHERE name = 'agent'")
        program = driver.execute(f"EXPLAIN {compiled}", parameters).fetchall()
        cursors = {first for _, code, first, second, *_ in program if code == "OpenRead" and second == table}
        reads_rows = any(code == "Column" and first in cursors for _, code, first, *_ in program)
        (_, _, _, plan), *_ = driver.execute(f"EXPLAIN QUERY PLAN {compiled}", parameters)
        seen.append((plan.replace("COVERING ", ""), reads_rows))
        return []

    monkeypatch.setattr(totals, "fetch", explain)
    await world.store.read(lambda connection: totals.by_status(connection, PROJECT))
    await world.store.read(lambda connection: totals.by_status(connection, None))
    assert seen == [
        ("SEARCH agent USING INDEX ix_agent_resting (project=?)", False),
        ("SEARCH agent USING INDEX ix_agent_at_work (project=?)", True),
        ("SCAN agent USING INDEX ix_agent_resting", False),
        ("SCAN agent USING INDEX ix_agent_at_work", True),
    ]


def _set(connection: Connection, agent_id: str, values: dict[str, Any]) -> None:
    connection.execute(update(AGENT).where(AGENT.c.id == agent_id).values(**values))


@pytest.mark.requirement("checkout:changes:attributed")
async def test_what_is_known_about_who_wrote_is_read_without_what_was_before_the_turn(world: World) -> None:
    claim = await world.start("now")
    known: list[int] = []
    for turns in (3, 60):
        for number in range(turns):
            await _edit(world, claim)
            await world.finish(claim)
            other = await world.start(f"before-{turns}-{number}")
            await _edit(world, other)
            await world.finish(other)
            world.now += 10
            claim = (await world.admit_more(claim.agent_id))[claim.agent_id]
        world.now += 10
        await _edit(world, claim)
        read = functools.partial(write_evidence, claim=claim, now=world.now)
        known.append(await world.store.read(lambda connection, read=read: _steps(connection, read)))
    assert known[1] < 1.2 * known[0]


async def _edit(world: World, claim: Claim) -> None:
    """Let the turn run a shell and edit a file."""
    facts = [
        Fact(kind=EventKind.TOOL, at=world.now, body={"call_id": "1", "tool": "Bash"}),
        Fact(kind=EventKind.TOOL_ENDED, at=world.now, body={"call_id": "1"}, files=[("produced", f"/{claim.turn_id}")]),
    ]
    await world.write(append, claim, facts * 3)


async def _resting(world: World, numbers: range) -> None:
    """Create agents that rest."""
    for number in numbers:
        await world.create(f"agent-{number}")
        await world.store.write(_set, f"ag_agent-{number}", {"status": Status.COMPLETE})


async def _deleted(world: World, numbers: range) -> None:
    """Create agents that are then deleted, all of one name."""
    for number in numbers:
        made = await world.create(f"agent-{number}")
        await world.delete(made)
        await world.store.write(_set, made, {"name": "deleted", "created_at": world.now + number})


async def _costs(world: World, reads: Mapping[str, Callable[[Connection], object]]) -> dict[str, int]:
    """What each read takes now."""
    return {
        what: await world.store.read(lambda connection, read=read: _steps(connection, read))
        for what, read in reads.items()
    }


def _steps(connection: Connection, read: Callable[[Connection], object]) -> int:
    """How many instructions of SQLite's machine the read takes."""
    driver: Any = cast("sqlalchemy.Connection", connection).connection.driver_connection
    taken = itertools.count()
    driver.set_progress_handler(lambda: next(taken) < 0, 1)
    try:
        read(connection)
    finally:
        driver.set_progress_handler(None, 0)
    return next(taken)
