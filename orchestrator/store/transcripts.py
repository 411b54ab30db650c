"""Mirrored transcripts: lines of an agent's conversation, in order, each once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.sqlite import insert
from sqlmodel import col
from sqlmodel import select as rows
from sqlmodel.ext.asyncio.session import AsyncSession

from orchestrator.store.tables import TRANSCRIPT, Transcript


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a transcript; `uuid` is the provider's id of it, if it has one."""

    uuid: str | None
    body: str


def append(connection: Connection, agent_id: str, subpath: str, lines: Sequence[Line]) -> None:
    """Add these lines at the end; a line whose uuid is known is not added again."""
    where = (TRANSCRIPT.c.agent_id == agent_id) & (TRANSCRIPT.c.subpath == subpath)
    last = connection.execute(select(func.max(TRANSCRIPT.c.seq)).where(where)).scalar_one() or 0
    values = [
        {"agent_id": agent_id, "subpath": subpath, "seq": last + number, "uuid": line.uuid, "body": line.body}
        for number, line in enumerate(lines, 1)
    ]
    if values:
        connection.execute(insert(TRANSCRIPT).on_conflict_do_nothing(), values)


async def lines_of(session: AsyncSession, agent_id: str) -> Sequence[tuple[str, str]]:
    """The agent's lines with their subpath, in order."""
    query = (
        rows(Transcript.subpath, Transcript.body)
        .where(Transcript.agent_id == agent_id)
        .order_by(col(Transcript.subpath), col(Transcript.seq))
    )
    return (await session.exec(query)).all()
