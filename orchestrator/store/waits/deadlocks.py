"""Finds cycles of agents that would wait for each other forever, through inputs, children or durable waits."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import BindParameter, bindparam, select

from orchestrator.domain.agent import OPEN
from orchestrator.domain.durable_wait import DurableWaitStatus
from orchestrator.domain.question import QuestionState
from orchestrator.domain.turn import TurnStatus
from orchestrator.domain.wait import ON_OTHERS, WaitKind
from orchestrator.store.engine.connection import Connection
from orchestrator.store.schema.tables import AGENT, DURABLE_WAIT, INPUT, QUESTION, TURN
from orchestrator.store.schema.transitions import agent_row

Waits = dict[str, list[list[str]]]
"""by agent: groups of agents, one of each of which must end before it continues"""

_IDS: BindParameter[list[str]] = bindparam("ids", expanding=True)
_OPEN = AGENT.c.status.in_(sorted(OPEN))
_INPUTS = (
    select(INPUT.c.agent_id, INPUT.c.source_id)
    .join(TURN, (TURN.c.agent_id == INPUT.c.agent_id) & (TURN.c.ordinal == INPUT.c.turn))
    .where(INPUT.c.agent_id.in_(_IDS), INPUT.c.settled.is_(False), TURN.c.status == TurnStatus.QUEUED)
)
_ON_OTHERS = select(AGENT.c.id, AGENT.c.wait_kind).where(AGENT.c.id.in_(_IDS), AGENT.c.wait_kind.in_(sorted(ON_OTHERS)))
_CHILDREN = select(AGENT.c.id).where(AGENT.c.parent == bindparam("agent"), _OPEN)
_DURABLE_WAIT = (
    select(DURABLE_WAIT.c.agents, DURABLE_WAIT.c.until, DURABLE_WAIT.c.project, DURABLE_WAIT.c.orchestrator)
    .join(QUESTION, DURABLE_WAIT.c.question_id == QUESTION.c.id)
    .where(QUESTION.c.agent_id == bindparam("agent"), QUESTION.c.state == QuestionState.OPEN)
    .where(DURABLE_WAIT.c.status == DurableWaitStatus.WORKING, DURABLE_WAIT.c.deadline.is_(None))
)
_NAMED = select(AGENT.c.id).where(AGENT.c.id.in_(_IDS), _OPEN)
_CREATED = select(AGENT.c.id).where(
    AGENT.c.project == bindparam("project"), AGENT.c.orchestrator == bindparam("orchestrator"), _OPEN
)


class Awaited(NamedTuple):
    """Whom a durable wait waits for."""

    agents: Sequence[str]
    """ids; none: all of its orchestrator's"""
    until: str
    project: str
    orchestrator: str


def circle(connection: Connection, agent_id: str) -> str | None:
    """Return the name of an agent that this one waits for and that could only end after it, or None."""
    waits = _reached(connection, agent_id)
    if not any(agent_id in group for groups in waits.values() for group in groups):
        return None
    free: set[str] = set()
    while new := {one for one, groups in waits.items() if one not in free and not _stuck(groups, free)}:
        free |= new
    stuck = _stuck(waits[agent_id], free)
    return str(agent_row(connection, stuck[0]).name) if stuck else None


def _stuck(groups: Iterable[list[str]], free: set[str]) -> list[str] | None:
    """Return the first group of which no agent can end."""
    return next((group for group in groups if free.isdisjoint(group)), None)


def _reached(connection: Connection, agent_id: str) -> Waits:
    """Return the waits of all agents that the agent waits for, directly or not, including its own."""
    found: Waits = {}
    ahead = {agent_id}
    while ahead:
        found |= blocks_on(connection, ahead)
        ahead = {source for one in ahead for group in found[one] for source in group} - found.keys()
    return found


def blocks_on(connection: Connection, agent_ids: Collection[str]) -> Waits:
    """Return what each of these agents waits for; questions, budgets and times do not count."""
    found: Waits = {agent_id: [] for agent_id in agent_ids}
    for agent_id, source in connection.execute(_INPUTS, {"ids": list(agent_ids)}):
        found[agent_id].append([source])
    for agent_id, kind in connection.execute(_ON_OTHERS, {"ids": list(agent_ids)}).all():
        if kind == WaitKind.CHILDREN:
            found[agent_id] += [[one] for one in connection.execute(_CHILDREN, {"agent": agent_id}).scalars()]
        elif (row := connection.execute(_DURABLE_WAIT, {"agent": agent_id}).one_or_none()) is not None:
            found[agent_id] += _awaited_by(connection, Awaited._make(row))
    return found


def _awaited_by(connection: Connection, wait: Awaited) -> list[list[str]]:
    """Return the same for durable waits without a time-out; one with a time-out ends by itself."""
    if wait.agents:
        ids = list(connection.execute(_NAMED, {"ids": wait.agents}).scalars())
    else:
        whose = {"project": wait.project, "orchestrator": wait.orchestrator}
        ids = list(connection.execute(_CREATED, whose).scalars())
    return [ids] if wait.until == "any" and ids else [[one] for one in ids]
