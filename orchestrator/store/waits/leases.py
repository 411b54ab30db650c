"""Leases: things that only one agent holds at a time."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import bindparam, insert, select, update

from orchestrator.domain.wait import WaitKind
from orchestrator.store.engine.connection import Connection
from orchestrator.store.schema.tables import AGENT, LEASE

CHECKOUT = "checkout"
"""the right to write in a checkout; held from a writer's claim to the end of its turn"""
DESK = "desk"
"""an agent's own folder in the project; held while the agent lives"""
_HOLDER = (
    select(AGENT.c.id, AGENT.c.name, AGENT.c.wait_kind)
    .join(LEASE, LEASE.c.agent_id == AGENT.c.id)
    .where(LEASE.c.kind == bindparam("kind"), LEASE.c.name == bindparam("name"), LEASE.c.released_at.is_(None))
)


class Holder(NamedTuple):
    """The agent that holds a lease."""

    agent_id: str
    name: str
    wait_kind: WaitKind | None
    """what it waits for itself"""


def acquire(connection: Connection, kind: str, name: str, agent_id: str, now: float) -> Holder | None:
    """Take the lease; returns the agent that holds it instead, or None if this one now has it."""
    # single writer: nobody takes it between this look-up and the insert
    row = connection.execute(_HOLDER, {"kind": kind, "name": name}).one_or_none()
    if row is None:
        connection.execute(insert(LEASE).values(kind=kind, name=name, agent_id=agent_id, acquired_at=now))
        return None
    return None if row[0] == agent_id else Holder(*row)


def release(connection: Connection, agent_id: str, now: float, kind: str | None = None) -> None:
    """Release what the agent holds: everything, or leases of one kind."""
    condition = (LEASE.c.agent_id == agent_id) & LEASE.c.released_at.is_(None)
    if kind is not None:
        condition &= LEASE.c.kind == kind
    connection.execute(update(LEASE).where(condition).values(released_at=now))


def release_of_deleted(connection: Connection, now: float) -> None:
    """Release what deleted agents still hold because their daemon ended before their sessions did."""
    deleted = select(AGENT.c.id).where(AGENT.c.deleted_at.is_not(None))
    connection.execute(
        update(LEASE).where(LEASE.c.released_at.is_(None), LEASE.c.agent_id.in_(deleted)).values(released_at=now)
    )
