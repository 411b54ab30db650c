"""Mirrored transcripts: the lines of agents' conversations, in order, without duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from sqlalchemy import func, select

from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.dialect import insert_or_ignore
from orchestrator.store.schema.tables import TRANSCRIPT

_APPEND = insert_or_ignore(TRANSCRIPT)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a transcript; `uuid` is the provider's id for it, if it has one."""

    uuid: str | None
    body: str


def append(connection: Connection, agent_id: str, subpath: str, lines: Sequence[Line]) -> None:
    """Append these lines; a line whose uuid is known is not added again."""
    where = (TRANSCRIPT.c.agent_id == agent_id) & (TRANSCRIPT.c.subpath == subpath)
    last = connection.execute(select(func.max(TRANSCRIPT.c.seq)).where(where)).scalar_one() or 0
    values = [
        {"agent_id": agent_id, "subpath": subpath, "seq": last + number, "uuid": line.uuid, "body": line.body}
        for number, line in enumerate(lines, 1)
    ]
    if values:
        connection.execute(_APPEND, values)


def lines_of(connection: Connection, agent_id: str) -> Sequence[tuple[str, str]]:
    """Return the agent's lines with their subpath, in order."""
    query = (
        select(TRANSCRIPT.c.subpath, TRANSCRIPT.c.body)
        .where(TRANSCRIPT.c.agent_id == agent_id)
        .order_by(TRANSCRIPT.c.subpath, TRANSCRIPT.c.seq)
    )
    return cast("Sequence[tuple[str, str]]", connection.execute(query).all())
