"""Readers: rows for the verbs, in as few queries as the question needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from orchestrator.domain.turn import TurnStatus
from orchestrator.store.tables import Agent, Artifact, Input, Turn


async def living(session: AsyncSession, project: str | None) -> Sequence[Agent]:
    """The agents that are not deleted, of one project or of all, oldest first."""
    query = select(Agent).where(col(Agent.deleted_at).is_(None)).order_by(col(Agent.created_at))
    if project is not None:
        query = query.where(Agent.project == project)
    return (await session.exec(query)).all()


async def by_ids(session: AsyncSession, ids: Collection[str]) -> Sequence[Agent]:
    """These agents, deleted ones included."""
    return (await session.exec(select(Agent).where(col(Agent.id).in_(ids)))).all()


async def by_reference(session: AsyncSession, reference: str, project: str | None) -> Sequence[Agent]:
    """Agents whose id is or begins with the reference, or whose name it is: the living before the deleted."""
    query = (
        select(Agent)
        .where(
            (col(Agent.id) == reference)
            | (col(Agent.name) == reference)
            | (col(Agent.id).startswith(reference, autoescape=True))
        )
        .order_by(col(Agent.deleted_at).is_not(None), col(Agent.created_at).desc())
    )
    if project is not None:
        query = query.where(Agent.project == project)
    return (await session.exec(query)).all()


async def turns_of(session: AsyncSession, agent_id: str) -> Sequence[Turn]:
    """The agent's turns, in order."""
    query = select(Turn).where(Turn.agent_id == agent_id).order_by(col(Turn.ordinal))
    return (await session.exec(query)).all()


async def turn(session: AsyncSession, turn_id: str) -> Turn | None:
    """One turn."""
    return await session.get(Turn, turn_id)


async def ended_turns(session: AsyncSession, agent_ids: Collection[str]) -> dict[str, Turn]:
    """The last ended turn of each agent that has one (cancelled ones do not count)."""
    ended = {TurnStatus.COMPLETE, TurnStatus.FAILED, TurnStatus.INTERRUPTED}
    query = (
        select(Turn)
        .where(col(Turn.agent_id).in_(agent_ids), col(Turn.status).in_(ended))
        .order_by(col(Turn.ended_at), col(Turn.ordinal))
    )
    return {row.agent_id: row for row in (await session.exec(query)).all()}


async def last_turns(session: AsyncSession, agents: Collection[Agent]) -> dict[str, Turn]:
    """The newest turn of each agent that has one."""
    query = (
        select(Turn)
        .join(Agent, (col(Agent.id) == col(Turn.agent_id)) & (col(Agent.turns) == col(Turn.ordinal)))
        .where(col(Turn.agent_id).in_([agent.id for agent in agents]))
    )
    return {row.agent_id: row for row in (await session.exec(query)).all()}


async def children_of(session: AsyncSession, parent_id: str) -> Sequence[Agent]:
    """The agent's children that live, in the order of their creation."""
    query = select(Agent).where(Agent.parent == parent_id, col(Agent.deleted_at).is_(None))
    return (await session.exec(query.order_by(col(Agent.child_index)))).all()


async def families_of(session: AsyncSession, agents: Collection[Agent]) -> Sequence[Agent]:
    """The living agents of these agents' families, without themselves."""
    ids, roots = [agent.id for agent in agents], {agent.root for agent in agents}
    query = select(Agent).where(col(Agent.root).in_(roots), col(Agent.id).not_in(ids), col(Agent.deleted_at).is_(None))
    return (await session.exec(query.order_by(col(Agent.created_at)))).all()


async def inputs_of(session: AsyncSession, agent_ids: Collection[str]) -> Sequence[Input]:
    """The inputs of these agents, in order."""
    query = (
        select(Input)
        .where(col(Input.agent_id).in_(agent_ids))
        .order_by(col(Input.agent_id), col(Input.turn), col(Input.position))
    )
    return (await session.exec(query)).all()


async def receivers_of(session: AsyncSession, ended: Mapping[str, Turn]) -> set[str]:
    """Those of these agents whose ended turn is handed to a living agent: its receiving turn began later, or will."""
    query = (
        select(Input.source_id, Turn.started_at)
        .join(Agent, col(Agent.id) == col(Input.agent_id))
        .join(Turn, (col(Turn.agent_id) == col(Input.agent_id)) & (col(Turn.ordinal) == col(Input.turn)))
        .where(
            col(Input.source_id).in_(ended), col(Agent.deleted_at).is_(None), col(Turn.status) != TurnStatus.CANCELLED
        )
    )
    rows = (await session.exec(query)).all()
    return {source for source, begun in rows if begun is None or begun >= (ended[source].ended_at or 0.0)}


async def files_of(session: AsyncSession, agent_id: str, turn: int | None = None) -> Sequence[Artifact]:
    """The files that an agent consumed and produced, in all or in one turn."""
    query = (
        select(Artifact)
        .where(Artifact.agent_id == agent_id)
        .order_by(col(Artifact.turn), col(Artifact.at), col(Artifact.path))
    )
    if turn is not None:
        query = query.where(Artifact.turn == turn)
    return (await session.exec(query)).all()


async def file_counts(session: AsyncSession, agent_ids: Collection[str]) -> dict[tuple[str, str], int]:
    """How many different files each agent consumed and produced, by (agent id, kind)."""
    query = (
        select(Artifact.agent_id, Artifact.kind, Artifact.path).where(col(Artifact.agent_id).in_(agent_ids)).distinct()
    )
    counts: dict[tuple[str, str], int] = {}
    for agent_id, kind, _ in (await session.exec(query)).all():
        counts[agent_id, kind] = counts.get((agent_id, kind), 0) + 1
    return counts
