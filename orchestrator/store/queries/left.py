"""Reads what other orchestrators left in a project: agents at work, questions, and outcomes that nobody has read.

An agent that another agent created has the same owner as the agent at the top of its family.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, func, select

from orchestrator.domain.agent import OPEN
from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.dialect import unindexed
from orchestrator.store.engine.prepared import fetch
from orchestrator.store.schema.tables import AGENT, TURN

_TOP = AGENT.alias("top")
_WHOSE = _TOP.c.orchestrator.label("orchestrator")
_UNREAD = (
    select(TURN.c.agent_id, func.count().label("turns"))
    .where(TURN.c.outcome_cursor.is_not(None), TURN.c.delivered_at.is_(None))  # matches the index ix_turn_unread
    .group_by(TURN.c.agent_id)
    .subquery()
)
_IN_ORDER = func.coalesce(AGENT.c.created_at, 0.0)  # otherwise SQLite walks through all rows in order


def _of_others(found: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    return (
        found.join(_TOP, _TOP.c.id == AGENT.c.root)
        .where(AGENT.c.deleted_at.is_(None), _TOP.c.orchestrator != bindparam("orchestrator"))
        .order_by(_IN_ORDER)
    )


_HERE = AGENT.c.project == bindparam("project")
_ASKING = _of_others(select(AGENT.c.name, _WHOSE)).where(_HERE, AGENT.c.pending.is_not(None))
_AT_WORK = (  # few agents work: they are found by their status
    select(AGENT.c.name, AGENT.c.orchestrator)
    .where(
        AGENT.c.status.in_(sorted(OPEN)),
        AGENT.c.deleted_at.is_(None),
        AGENT.c.pending.is_(None),
        AGENT.c.depth == 0,
        unindexed(AGENT.c.project) == bindparam("project"),
        unindexed(AGENT.c.orchestrator) != bindparam("orchestrator"),
    )
    .order_by(_IN_ORDER)
)
_ENDED = _of_others(
    select(AGENT.c.name, _WHOSE, _UNREAD.c.turns).join(_UNREAD, _UNREAD.c.agent_id == AGENT.c.id)
).where(unindexed(AGENT.c.project) == bindparam("project"))
_PROJECTS = select(AGENT.c.project).where(AGENT.c.deleted_at.is_(None)).distinct()


class LeftAgent(NamedTuple):
    """An agent of another orchestrator, with how many of its ended turns nobody has read."""

    name: str
    orchestrator: str
    turns: int = 0


def asking(connection: Connection, project: str, orchestrator: str) -> Sequence[LeftAgent]:
    """Return the agents of others that wait for an answer."""
    return _left(connection, _ASKING, project, orchestrator)


def at_work(connection: Connection, project: str, orchestrator: str) -> Sequence[LeftAgent]:
    """Return the agents of others that work or will, without those that wait for an answer or that agents created."""
    return _left(connection, _AT_WORK, project, orchestrator)


def unread(connection: Connection, project: str, orchestrator: str) -> Sequence[LeftAgent]:
    """Return the agents of others with ended turns that nobody has read."""
    return _left(connection, _ENDED, project, orchestrator)


def projects(connection: Connection) -> Sequence[str]:
    """Return the projects with living agents."""
    return fetch(connection, _PROJECTS).scalars().all()


def _left(
    connection: Connection, query: Select[*tuple[Any, ...]], project: str, orchestrator: str
) -> Sequence[LeftAgent]:
    rows = fetch(connection, query, {"project": project, "orchestrator": orchestrator})
    return [LeftAgent(*row) for row in rows]
