"""Totals of the fleet, added up in SQL instead of loading every agent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import and_, bindparam, case, func, or_, select

from orchestrator.domain.agent import OPEN
from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.dialect import unindexed
from orchestrator.store.engine.prepared import fetch
from orchestrator.store.schema.tables import AGENT, INPUT, IS_AT_WORK, IS_RESTING, TURN

_IN_PROJECT = AGENT.c.project == bindparam("project")
_UNTOLD = and_(
    AGENT.c.running_since.is_not(None),
    AGENT.c.live_cost_usd == 0,
    or_(AGENT.c.live_tokens > 0, AGENT.c.tokens == 0),
)
_UNKNOWN = or_(AGENT.c.cost_unknown, _UNTOLD)
_GROUP = (AGENT.c.project, AGENT.c.status, AGENT.c.cost_unknown, AGENT.c.rehearsal)
_RESTING = (  # read from the index ix_agent_resting alone, in its order: ten thousand agents take 2 ms (measured)
    select(
        AGENT.c.status,
        AGENT.c.rehearsal,
        func.count(),
        func.sum(AGENT.c.tokens),
        func.coalesce(func.sum(AGENT.c.context_tokens), 0),
        case((AGENT.c.cost_unknown, 0.0), else_=func.sum(AGENT.c.cost_usd)),
        case((AGENT.c.cost_unknown, func.count()), else_=0),
    )
    .where(IS_RESTING)
    .group_by(*_GROUP)
)
_AT_WORK = (
    select(
        AGENT.c.status,
        AGENT.c.rehearsal,
        func.count(),
        func.sum(AGENT.c.tokens + AGENT.c.live_tokens),
        func.coalesce(func.sum(AGENT.c.context_tokens), 0),
        func.sum(case((_UNKNOWN, 0.0), else_=AGENT.c.cost_usd + AGENT.c.live_cost_usd)),
        func.sum(case((_UNKNOWN, 1), else_=0)),
    )
    .where(IS_AT_WORK)
    .group_by(*_GROUP)
)
_ALL = (_RESTING, _AT_WORK)
_IN_PROJECTS = (_RESTING.where(_IN_PROJECT), _AT_WORK.where(_IN_PROJECT))
_SOURCE = AGENT.alias("source")
_BLOCKS = (
    select(
        _SOURCE.c.name,
        _SOURCE.c.status,
        TURN.c.started_at,
        TURN.c.ended_at,
        AGENT.c.name,
        AGENT.c.created_at,
        INPUT.c.turn,
        INPUT.c.position,
    )
    .select_from(INPUT)
    .join(AGENT, AGENT.c.id == INPUT.c.agent_id)
    .join(_SOURCE, _SOURCE.c.id == INPUT.c.source_id)
    .outerjoin(TURN, and_(TURN.c.agent_id == _SOURCE.c.id, TURN.c.ordinal == _SOURCE.c.turns))
    .where(AGENT.c.deleted_at.is_(None), INPUT.c.settled.is_(False), unindexed(AGENT.c.status).in_(sorted(OPEN)))
)  # the few unsettled inputs are read first, then their agents
_BLOCKS_IN_PROJECT = _BLOCKS.where(unindexed(AGENT.c.project) == bindparam("project"))


class Sum(NamedTuple):
    """Sums over living agents that share a status and whether they are rehearsed."""

    status: str
    rehearsal: bool
    agents: int
    tokens: int
    context_tokens: int
    known_cost_usd: float
    unknown_costs: int


class Block(NamedTuple):
    """An agent that another one waits for, and when its last turn began and ended."""

    name: str
    status: str
    started_at: float | None
    ended_at: float | None
    waiter: str


def by_status(connection: Connection, project: str | None) -> Sequence[Sum]:
    """Return the living agents of one project, or of all projects, as sums; a status may have several."""
    values = {} if project is None else {"project": project}
    queries = _ALL if project is None else _IN_PROJECTS
    return [Sum(*row) for query in queries for row in fetch(connection, query, values)]


def blocks(connection: Connection, project: str | None) -> Sequence[Block]:
    """Return which agents wait for which, one entry for each pair, the oldest waiter first."""
    query = _BLOCKS if project is None else _BLOCKS_IN_PROJECT
    rows = fetch(connection, query, {} if project is None else {"project": project}).all()
    # sorted here, because for an ORDER BY SQLite would read every living agent in order
    return [Block(*row[:5]) for row in sorted(rows, key=lambda row: tuple(row[5:]))]
