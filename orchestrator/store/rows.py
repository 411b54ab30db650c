"""What every operation needs: one agent's row, its next event, a status change."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, RowMapping, insert, select, update

from orchestrator.domain.agent import Status, check_move
from orchestrator.domain.event import Kind
from orchestrator.errors import ConflictError, NotFoundError
from orchestrator.store.tables import AGENT, EVENT


class StaleOwnerError(ConflictError):
    """The writer no longer owns the agent: its epoch is over."""


def agent_row(connection: Connection, agent_id: str) -> RowMapping:
    """The agent's row.

    Raises:
        NotFoundError: there is none.
    """
    row = connection.execute(select(AGENT).where(AGENT.c.id == agent_id)).mappings().one_or_none()
    if row is None:
        raise NotFoundError(f"no agent {agent_id}")
    return row


def owned_row(connection: Connection, agent_id: str, epoch: int) -> RowMapping:
    """The agent's row, if the caller's epoch is still the valid one.

    Raises:
        StaleOwnerError: another claim came since.
    """
    row = agent_row(connection, agent_id)
    if row["epoch"] != epoch:
        raise StaleOwnerError(f"epoch {epoch} of {agent_id} is over; {row['epoch']} is valid")
    return row


def change(connection: Connection, agent_id: str, **values: Any) -> None:
    """Set columns of the agent."""
    connection.execute(update(AGENT).where(AGENT.c.id == agent_id).values(**values))


def move(connection: Connection, agent: RowMapping, status: Status, reason: str, now: float, **values: Any) -> None:
    """Change the status, if the move is legal, with its reason and time.

    Raises:
        ConflictError: the move is illegal.
    """
    before = Status(agent["status"])
    if before is not status:
        check_move(before, status)
    change(connection, agent["id"], status=status, reason=reason, changed_at=now, **values)


def emit(connection: Connection, agent_id: str, kind: Kind, now: float, turn: int | None = None, **body: Any) -> int:
    """Append the agent's next event in this transaction and return its cursor."""
    seq = connection.execute(
        update(AGENT).where(AGENT.c.id == agent_id).values(last_seq=AGENT.c.last_seq + 1).returning(AGENT.c.last_seq)
    ).scalar_one()
    done = connection.execute(insert(EVENT).values(agent_id=agent_id, seq=seq, turn=turn, kind=kind, at=now, body=body))
    key = done.inserted_primary_key
    return int(key[0]) if key is not None else 0
