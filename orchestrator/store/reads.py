"""Readers: rows for the verbs, in as few queries as the question needs."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from orchestrator.domain.turn import TurnStatus
from orchestrator.store.tables import Agent, Artifact, Input, Turn


async def by_ids(session: AsyncSession, ids: Collection[str]) -> Sequence[Agent]:
    """These agents, deleted ones included."""
    return (await session.exec(select(Agent).where(col(Agent.id).in_(ids)))).all()


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


async def children_of(session: AsyncSession, parent_id: str) -> Sequence[Agent]:
    """The agent's children that live, in the order of their creation."""
    query = select(Agent).where(Agent.parent == parent_id, col(Agent.deleted_at).is_(None))
    return (await session.exec(query.order_by(col(Agent.child_index)))).all()


async def inputs_of(session: AsyncSession, agent_ids: Collection[str]) -> Sequence[Input]:
    """The inputs of these agents, in order."""
    query = (
        select(Input)
        .where(col(Input.agent_id).in_(agent_ids))
        .order_by(col(Input.agent_id), col(Input.turn), col(Input.position))
    )
    return (await session.exec(query)).all()


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
