"""The line of agents whose turns may start: read at every commit, so its statements are built once."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, RowMapping, bindparam, func, select

from orchestrator.domain.agent import Status
from orchestrator.domain.turn import TURN_OPEN, TurnStatus
from orchestrator.store.tables import AGENT, INPUT, TURN

_QUEUED = (
    select(AGENT)
    .where(AGENT.c.status == Status.QUEUED)
    .order_by(AGENT.c.priority.desc(), AGENT.c.changed_at, AGENT.c.created_at)
)
_WORKING = select(func.count()).select_from(AGENT).where(AGENT.c.status == Status.WORKING)
_NEXT_TURN = (
    select(TURN)
    .where(TURN.c.agent_id == bindparam("agent"), TURN.c.status.in_(sorted(TURN_OPEN - {TurnStatus.WORKING})))
    .order_by((TURN.c.status != TurnStatus.QUEUED).desc(), TURN.c.urgent.desc(), TURN.c.ordinal)
    .limit(1)
)
_UNSETTLED = (
    select(AGENT.c.name, INPUT.c.blocked, AGENT.c.status, AGENT.c.reason)
    .join(INPUT, INPUT.c.source_id == AGENT.c.id)
    .where(INPUT.c.agent_id == bindparam("agent"), INPUT.c.turn == bindparam("turn"), INPUT.c.settled.is_(False))
    .order_by(INPUT.c.position)
)


def queued(connection: Connection) -> Sequence[tuple[RowMapping, RowMapping]]:
    """The queued agents, each with the turn that it runs next: by priority, then who has waited longest."""
    agents = connection.execute(_QUEUED).mappings().all()
    pairs = [(agent, next_turn(connection, agent["id"])) for agent in agents]
    return [(agent, turn) for agent, turn in pairs if turn is not None]


def working(connection: Connection) -> int:
    """How many agents hold a slot."""
    return int(connection.execute(_WORKING).scalar_one())


def next_turn(connection: Connection, agent_id: str) -> RowMapping | None:
    """The turn to run next: the one in the middle of a question or of a recovery, then urgent ones, then in order."""
    return connection.execute(_NEXT_TURN, {"agent": agent_id}).mappings().one_or_none()


def unsettled(connection: Connection, agent_id: str, ordinal: int) -> Sequence[tuple[str, bool, str, str]]:
    """The inputs that the turn still waits for: name, whether it is blocked, status and its reason."""
    rows = connection.execute(_UNSETTLED, {"agent": agent_id, "turn": ordinal})
    return [(name, blocked, status, reason) for name, blocked, status, reason in rows]
