"""Operations that give agents another orchestrator, or another project directory after theirs was moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import select, update

from orchestrator.domain.agent import Status
from orchestrator.domain.event import EventKind
from orchestrator.domain.text import named, named_path
from orchestrator.errors import ConflictError
from orchestrator.store.engine.connection import Connection
from orchestrator.store.families.children import subtree
from orchestrator.store.schema.rows import AgentRow
from orchestrator.store.schema.tables import AGENT, LEASE
from orchestrator.store.schema.transitions import agent_row, change, emit
from orchestrator.store.waits import leases


def adopt(connection: Connection, agent_id: str, whose: str, orchestrator: str, now: float) -> bool:
    """Give the agent to this orchestrator if it still belongs to `whose`; returns whether it does now."""
    agent = agent_row(connection, agent_id)
    if agent.orchestrator == whose != orchestrator:
        change(connection, agent_id, orchestrator=orchestrator)
        emit(connection, agent_id, EventKind.ADOPTED, now, was=whose, by=orchestrator)
    return agent.orchestrator in {whose, orchestrator}


def rebind(connection: Connection, agent_id: str, project: str, area: Callable[[Path], str], now: float) -> None:
    """Bind the agent and its descendants to the directory to which their project was moved.

    `area` names the lease of those who write in a directory.

    Raises:
        ConflictError: one of them works, its name is taken there, or another agent has the right to write where one of
            them has it; then nothing was changed.
    """
    family = [agent_row(connection, one) for one in subtree(connection, agent_id)]
    was = family[0].project
    _check_free(connection, family, project)
    for agent in family:
        cwd = _moved(agent.cwd, was, project)
        change(connection, agent.id, project=project, cwd=cwd, checkout=area(Path(cwd)))
        _move_desk(connection, agent.id, was, project)
        emit(connection, agent.id, EventKind.MOVED, now, was=was, to=project)
    _take_leases_along(connection, family, now)


def _move_desk(connection: Connection, agent_id: str, was: str, project: str) -> None:
    desk = (LEASE.c.agent_id == agent_id) & (LEASE.c.kind == leases.DESK) & LEASE.c.released_at.is_(None)
    for lease_id, name in connection.execute(select(LEASE.c.id, LEASE.c.name).where(desk)).all():
        connection.execute(update(LEASE).where(LEASE.c.id == lease_id).values(name=_moved(name, was, project)))


def _take_leases_along(connection: Connection, family: Sequence[AgentRow], now: float) -> None:
    """Let those that have the right to write in their old checkouts have it in the new ones."""
    writers = [agent for agent in family if leases.holds_checkout(connection, agent.id)]
    for agent in writers:
        leases.release(connection, agent.id, now, leases.CHECKOUT)
    for agent in writers:
        checkout = agent_row(connection, agent.id).checkout
        if (holder := leases.acquire_checkout(connection, checkout, agent.id, now)) is not None:
            raise ConflictError(
                f"{agent.name} is in the middle of a turn that writes, and {holder.name} writes in {named(checkout)}",
                hint=f"wait until that turn has ended, or end it: fleet interrupt {holder.agent_id}",
            )


def _check_free(connection: Connection, family: Sequence[AgentRow], project: str) -> None:
    for agent in family:
        if agent.status is Status.WORKING:
            raise ConflictError(f"{agent.name} is at work", hint=f"interrupt it first: fleet interrupt {agent.id}")
    taken = connection.execute(
        select(AGENT.c.name).where(
            AGENT.c.project == project, AGENT.c.deleted_at.is_(None), AGENT.c.name.in_([one.name for one in family])
        )
    ).scalars()
    for name in taken:
        raise ConflictError(
            f"the name {name!r} is taken in {named_path(project)}", hint=f"delete that agent first: fleet rm {name}"
        )


def _moved(path: str, was: str, project: str) -> str:
    return project + path.removeprefix(was) if path == was or path.startswith(f"{was}/") else path
