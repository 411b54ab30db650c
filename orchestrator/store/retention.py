"""Deletes rows 30 days after they have served their purpose; agents, turns, results and events are kept."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Table, delete, select

from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.dialect import ROW_ID
from orchestrator.store.schema.tables import AGENT, COMMAND, LEASE, PROCESS, TRANSCRIPT

KEPT_SECONDS = 30 * 86_400.0
"""as long as an MCP task: no command is sent again after that"""
BATCH = 2000
"""rows of a table per batch, so that writers are not delayed for longer than one batch takes"""


def prune(connection: Connection, now: float) -> int:
    """Delete what ended long ago, at most one batch of each kind; returns the number of rows.

    These are ended processes, released leases, the idempotency keys of commands, and the conversations of
    deleted agents.
    """
    before = now - KEPT_SECONDS
    gone = select(AGENT.c.id).where(AGENT.c.deleted_at < before)
    old: Sequence[tuple[Table, ColumnElement[bool]]] = (
        (PROCESS, PROCESS.c.ended_at < before),
        (LEASE, LEASE.c.released_at < before),
        (COMMAND, COMMAND.c.at < before),
        (TRANSCRIPT, TRANSCRIPT.c.agent_id.in_(gone)),
    )
    return sum(_prune(connection, table, condition) for table, condition in old)


def _prune(connection: Connection, table: Table, condition: ColumnElement[bool]) -> int:
    rows = select(ROW_ID).select_from(table).where(condition).limit(BATCH)
    return connection.execute(delete(table).where(ROW_ID.in_(rows))).rowcount
