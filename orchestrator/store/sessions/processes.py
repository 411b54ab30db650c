"""Operations on processes: record the intent to start one (durable before it starts), its start, and its end."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import insert, select, update

from orchestrator.store.engine.connection import Connection
from orchestrator.store.schema.rows import ProcessRow, all_rows
from orchestrator.store.schema.tables import PROCESS
from orchestrator.store.schema.transitions import owned_row


def intend(connection: Connection, agent_id: str, *, epoch: int, marker: str, tier: str, boot: str, now: float) -> None:
    """Record that a session of the agent is about to start; its processes will carry this marker.

    Raises:
        StaleOwnerError: the agent was claimed again, so nothing may be started.
    """
    owned_row(connection, agent_id, epoch)
    connection.execute(
        insert(PROCESS).values(
            marker=marker, agent_id=agent_id, epoch=epoch, tier=tier, boot=boot, intended_at=now, started="", cgroup=""
        )
    )


def born(connection: Connection, marker: str, *, pid: int, started: str, cgroup: str, now: float) -> None:
    """Record the session's first process: its id, its start (clock ticks since boot), its cgroup."""
    connection.execute(
        update(PROCESS)
        .where(PROCESS.c.marker == marker)
        .values(pid=pid, started=started, cgroup=cgroup, started_at=now)
    )


def ended(connection: Connection, markers: Sequence[str], now: float) -> None:
    """Record that no process of these sessions is left."""
    connection.execute(
        update(PROCESS).where(PROCESS.c.marker.in_(markers), PROCESS.c.ended_at.is_(None)).values(ended_at=now)
    )


def not_ended(connection: Connection) -> Sequence[ProcessRow]:
    """Return every session that may have left processes."""
    return all_rows(ProcessRow, connection.execute(select(PROCESS).where(PROCESS.c.ended_at.is_(None))))
