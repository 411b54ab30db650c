"""Operations on outcomes: which ended turns have one, and when it has reached its orchestrator."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select, update

from orchestrator.domain.turn import TurnPriority, TurnStatus
from orchestrator.store.engine.connection import Connection
from orchestrator.store.schema.tables import TURN
from orchestrator.store.waits.inputs import source_failed


def record(connection: Connection, agent_id: str, turn_id: str, status: TurnStatus, cursor: int) -> None:
    """Give the ended turn its outcome; `cursor` is that of its terminal event.

    A turn that was interrupted to make way for another one has none: its orchestrator asked for that. One without a
    result blocks the agents that wait for this one.
    """
    if status is TurnStatus.INTERRUPTED and is_replaced(connection, agent_id):
        return
    connection.execute(update(TURN).where(TURN.c.id == turn_id).values(outcome_cursor=cursor))
    if status is not TurnStatus.COMPLETE:
        source_failed(connection, agent_id)


def is_replaced(connection: Connection, agent_id: str) -> bool:
    """Whether a queued turn was commanded to replace the running one."""
    query = select(TURN.c.id).where(
        TURN.c.agent_id == agent_id, TURN.c.status == TurnStatus.QUEUED, TURN.c.urgent == TurnPriority.REPLACES
    )
    return connection.execute(query.limit(1)).one_or_none() is not None


def deliver(connection: Connection, turn_ids: Collection[str], now: float) -> None:
    """Record that the outcomes of these turns have reached their orchestrator."""
    connection.execute(
        update(TURN).where(TURN.c.id.in_(list(turn_ids)), TURN.c.delivered_at.is_(None)).values(delivered_at=now)
    )


def drop(connection: Connection, agent_id: str, now: float) -> None:
    """Record that nobody will be told the outcomes of this agent, which is being deleted."""
    mine = (TURN.c.agent_id == agent_id) & TURN.c.outcome_cursor.is_not(None) & TURN.c.delivered_at.is_(None)
    connection.execute(update(TURN).where(mine).values(delivered_at=now))
