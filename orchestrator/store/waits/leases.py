"""Leases: things that only one agent holds at a time."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import String, bindparam, func, insert, or_, select, update

from orchestrator.domain.wait import WaitKind
from orchestrator.store.engine.connection import Connection
from orchestrator.store.schema.tables import AGENT, LEASE

CHECKOUT = "checkout"
"""the right to write in a directory and everything below it; held from a writer's claim to the end of its turn"""
DESK = "desk"
"""an agent's own folder in the project; held while the agent lives"""
_NAME = bindparam("name", type_=String)
_HELD = func.rtrim(LEASE.c.name, "/") + "/"
_ASKED = func.rtrim(_NAME, "/") + "/"
_OVERLAPS = or_(
    LEASE.c.name == _NAME,
    func.substr(_ASKED, 1, func.length(_HELD)) == _HELD,  # the held directory contains the asked one
    func.substr(_HELD, 1, func.length(_ASKED)) == _ASKED,
)
_HOLDERS = (
    select(AGENT.c.id, AGENT.c.name, AGENT.c.wait_kind)
    .join(LEASE, LEASE.c.agent_id == AGENT.c.id)
    .where(LEASE.c.kind == bindparam("kind"), _OVERLAPS, LEASE.c.released_at.is_(None))
    .order_by(LEASE.c.id)
)


def overlap(one: str, other: str) -> bool:
    """Whether the names of two places are one lease: they are the same, or one contains the other."""
    first, second = f"{one.rstrip('/')}/", f"{other.rstrip('/')}/"
    return first.startswith(second) or second.startswith(first)


class Holder(NamedTuple):
    """The agent that holds a lease."""

    agent_id: str
    name: str
    wait_kind: WaitKind | None
    """what it waits for itself"""


def acquire_checkout(connection: Connection, name: str, agent_id: str, now: float) -> Holder | None:
    """Take the right to write; returns the agent that holds it instead, or None if this one now has it.

    A directory inside another, or around it, is the same lease: a submodule and its superproject have one writer.
    """
    # single writer: nobody takes it between this look-up and the insert
    holders = [Holder(*row) for row in connection.execute(_HOLDERS, {"kind": CHECKOUT, "name": name})]
    if not holders:
        hold(connection, CHECKOUT, name, agent_id, now)
        return None
    return None if agent_id in {holder.agent_id for holder in holders} else holders[0]


def holds_checkout(connection: Connection, agent_id: str) -> bool:
    """Return whether the agent has the right to write in its checkout."""
    its = (LEASE.c.agent_id == agent_id) & (LEASE.c.kind == CHECKOUT) & LEASE.c.released_at.is_(None)
    return connection.execute(select(LEASE.c.id).where(its)).first() is not None


def hold(connection: Connection, kind: str, name: str, agent_id: str, now: float) -> None:
    """Record that the agent holds what no other agent can ask for, such as its own desk."""
    connection.execute(insert(LEASE).values(kind=kind, name=name, agent_id=agent_id, acquired_at=now))


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
