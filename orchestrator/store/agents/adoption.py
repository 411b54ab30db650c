"""Operations that give agents another orchestrator, or another project directory after theirs was moved."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, update

from orchestrator.domain.agent import Status
from orchestrator.domain.event import EventKind
from orchestrator.errors import ConflictError
from orchestrator.store.engine.connection import Connection
from orchestrator.store.families.children import subtree
from orchestrator.store.schema.rows import AgentRow
from orchestrator.store.schema.tables import AGENT, LEASE
from orchestrator.store.schema.transitions import agent_row, change, emit


def adopt(connection: Connection, agent_id: str, whose: str, orchestrator: str, now: float) -> bool:
    """Give the agent to this orchestrator if it still belongs to `whose`; returns whether it does now."""
    agent = agent_row(connection, agent_id)
    if agent.orchestrator == whose != orchestrator:
        change(connection, agent_id, orchestrator=orchestrator)
        emit(connection, agent_id, EventKind.ADOPTED, now, was=whose, by=orchestrator)
    return agent.orchestrator in {whose, orchestrator}


def rebind(connection: Connection, agent_id: str, project: str, now: float) -> None:
    """Bind the agent and its descendants to the directory to which their project was moved.

    Raises:
        ConflictError: one of them works, or its name is taken there; then nothing was changed.
    """
    family = [agent_row(connection, one) for one in subtree(connection, agent_id)]
    was = family[0].project
    _check_free(connection, family, project)
    for agent in family:
        change(
            connection,
            agent.id,
            project=project,
            cwd=_moved(agent.cwd, was, project),
            checkout=_moved(agent.checkout, was, project),
        )
        for lease_id, name in connection.execute(
            select(LEASE.c.id, LEASE.c.name).where(LEASE.c.agent_id == agent.id, LEASE.c.released_at.is_(None))
        ).all():
            connection.execute(update(LEASE).where(LEASE.c.id == lease_id).values(name=_moved(name, was, project)))
        emit(connection, agent.id, EventKind.MOVED, now, was=was, to=project)


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
            f"the name {name!r} is taken in {project}", hint=f"delete that agent first: fleet rm {name}"
        )


def _moved(path: str, was: str, project: str) -> str:
    return project + path.removeprefix(was) if path == was or path.startswith(f"{was}/") else path
