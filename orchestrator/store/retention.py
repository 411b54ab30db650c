"""Rows that nobody will ask for again go after a while; agents, turns, results and events stay."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, Integer, Table, delete, literal_column, select

from orchestrator.store.schema.tables import AGENT, COMMAND, LEASE, PROCESS, TRANSCRIPT

KEPT_SECONDS = 30 * 86_400.0
"""as long as a task of MCP: nobody sends a command again after that"""
BATCH = 2000
"""so many rows of a table at once: nobody who writes waits longer than for that"""
_ROW: ColumnElement[int] = literal_column("rowid", Integer)


def prune(connection: Connection, now: float) -> int:
    """Delete what ended long ago, at most a batch of each sort; returns how many rows that were.

    Processes that ended, checkouts that were given back, the idempotency keys of commands, and the conversations of
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
    rows = select(_ROW).select_from(table).where(condition).limit(BATCH)
    return connection.execute(delete(table).where(_ROW.in_(rows))).rowcount
