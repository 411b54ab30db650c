"""Mirrored transcripts: the lines of agents' conversations, in order, without duplicates."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Select, func, select

from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.database import Store
from orchestrator.store.engine.dialect import insert_or_ignore
from orchestrator.store.schema.tables import TRANSCRIPT

_APPEND = insert_or_ignore(TRANSCRIPT)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a transcript; `uuid` is the provider's id for it, if it has one."""

    uuid: str | None
    body: str


class StoredLine(NamedTuple):
    """A line with its place in its conversation."""

    seq: int
    body: str


def append(connection: Connection, agent_id: str, subpath: str, lines: Sequence[Line]) -> None:
    """Append these lines; a line whose uuid is known is not added again."""
    where = (TRANSCRIPT.c.agent_id == agent_id) & (TRANSCRIPT.c.subpath == subpath)
    # single writer: nobody else takes the next numbers
    last = connection.execute(select(func.max(TRANSCRIPT.c.seq)).where(where)).scalar_one() or 0
    values = [
        {"agent_id": agent_id, "subpath": subpath, "seq": last + number, "uuid": line.uuid, "body": line.body}
        for number, line in enumerate(lines, 1)
    ]
    if values:
        connection.execute(_APPEND, values)


def subpaths(connection: Connection, agent_id: str) -> Sequence[str]:
    """Return the agent's conversations: '' for its own, and one for each sub-agent."""
    query = select(TRANSCRIPT.c.subpath).where(TRANSCRIPT.c.agent_id == agent_id).distinct()
    return connection.execute(query).scalars().all()


def lines_of(store: Store, agent_id: str, subpath: str) -> AsyncGenerator[StoredLine]:
    """Yield the lines of one conversation, in order and in constant memory; close it with its consumer."""
    lines = (
        select(TRANSCRIPT.c.seq, TRANSCRIPT.c.body)
        .where(TRANSCRIPT.c.agent_id == agent_id, TRANSCRIPT.c.subpath == subpath)
        .order_by(TRANSCRIPT.c.seq)
    )

    def after(last: StoredLine | None) -> Select[*tuple[Any, ...]]:
        return lines if last is None else lines.where(TRANSCRIPT.c.seq > last.seq)

    return store.stream(after, StoredLine)
