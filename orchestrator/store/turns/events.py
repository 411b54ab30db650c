"""Operations that record the events of a session, and reads of the event table."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Select, insert, select, update

from orchestrator.domain.activity import Activity
from orchestrator.domain.checkout import CheckoutState
from orchestrator.domain.event import EventKind
from orchestrator.domain.tool import Json
from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.database import Store
from orchestrator.store.engine.dialect import upsert
from orchestrator.store.schema.changes import AgentChange
from orchestrator.store.schema.states import activity_of, activity_values
from orchestrator.store.schema.tables import AGENT, ARTIFACT, EVENT, TURN
from orchestrator.store.schema.transitions import change, owned_row
from orchestrator.store.turns import progress
from orchestrator.store.turns.turns import Claim


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One report of a session: its event, what it changes in the agent's row, and the files it touched."""

    kind: EventKind | None
    """None: it changes only figures in the row"""
    at: float
    body: Json
    values: AgentChange = field(default_factory=AgentChange)
    activity: Activity | None = None
    """the agent's new activity; None: unchanged"""
    files: Sequence[tuple[str, str]] = ()
    """pairs of (consumed|produced, path)"""


class EventRow(NamedTuple):
    """An event as stored, with its agent's name."""

    id: int
    agent_id: str
    seq: int
    turn: int | None
    kind: str
    at: float
    body: dict[str, object]
    name: str


_EVENTS = insert(EVENT)
_FILES = upsert(ARTIFACT, "at")


def append(connection: Connection, claim: Claim, facts: Iterable[Fact]) -> None:
    """Record what the owner's session reported, in order.

    Raises:
        StaleOwnerError: the claim is over; nothing is written.
    """
    agent = owned_row(connection, claim.agent_id, claim.epoch)
    rows: list[dict[str, object]] = []
    files: list[dict[str, object]] = []
    values: AgentChange = {}
    about: dict[str, object] = {"agent_id": claim.agent_id, "turn": claim.turn}
    at, seq = 0.0, agent.last_seq  # single writer: nobody else takes the next numbers
    for fact in facts:
        if fact.kind is not None:
            at, seq = fact.at, seq + 1
            rows.append({**about, "seq": seq, "kind": fact.kind, "at": fact.at, "body": dict(fact.body)})
        files += [{**about, "kind": kind, "path": path, "at": fact.at} for kind, path in fact.files]
        values |= fact.values
        if fact.activity is not None:
            values |= activity_values(fact.activity)
        values |= progress.marks(agent, values, fact.kind, fact.at)
    if rows:
        connection.execute(_EVENTS, rows)
        calls = sum(row["kind"] is EventKind.TOOL for row in rows)
        values |= {"last_seq": seq, "last_event_at": at, "tool_calls": agent.tool_calls + calls}
    if files:
        connection.execute(_FILES, files)
    before = activity_values(activity_of(agent))
    if rows and any(values.get(name, value) != value for name, value in before.items()):
        values["changed_at"] = at
    if values:
        change(connection, claim.agent_id, **values)


def note_before(connection: Connection, claim: Claim, before: CheckoutState) -> None:
    """Record once how the checkout looked before the turn."""
    connection.execute(
        update(TURN).where(TURN.c.id == claim.turn_id, TURN.c.before.is_(None)).values(before=asdict(before))
    )


def note_unknown(connection: Connection, claim: Claim, reason: str) -> None:
    """Record why the checkout before the turn is unknown, so that a later run of the turn does not take its own."""
    connection.execute(update(TURN).where(TURN.c.id == claim.turn_id).values(changes_unknown=reason))


def events_after(
    connection: Connection, cursor: int, *, project: str | None, agent_id: str | None, limit: int
) -> Sequence[EventRow]:
    """Return at most `limit` events after the cursor, oldest first: of one agent, of a project, or of all."""
    query = _behind(cursor, project=project, agent_id=agent_id).limit(limit)
    return [EventRow._make(row) for row in connection.execute(query)]


def history(store: Store, cursor: int, *, project: str | None, agent_id: str | None) -> AsyncGenerator[EventRow]:
    """Yield all events after the cursor, oldest first, in constant memory; close it when you stop reading."""

    def after(last: EventRow | None) -> Select[*tuple[Any, ...]]:
        return _behind(cursor if last is None else last.id, project=project, agent_id=agent_id)

    return store.stream(after, EventRow)


def _behind(cursor: int, *, project: str | None, agent_id: str | None) -> Select[*tuple[Any, ...]]:
    query = (
        select(EVENT, AGENT.c.name)
        .join(AGENT, AGENT.c.id == EVENT.c.agent_id)
        .where(EVENT.c.id > cursor)
        .order_by(EVENT.c.id)
    )
    if agent_id is not None:
        return query.where(EVENT.c.agent_id == agent_id)
    return query if project is None else query.where(AGENT.c.project == project)
