"""The queue of agents whose turns may start; read at every commit, so with few statements that are built once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import bindparam, exists, func, or_, select

from orchestrator.domain.agent import Status
from orchestrator.domain.turn import TURN_OPEN, TURN_SUSPENDED, TurnStatus
from orchestrator.domain.wait import Wait, WaitKind
from orchestrator.store.engine.connection import Connection
from orchestrator.store.schema.rows import TurnRow, one_row
from orchestrator.store.schema.states import WAIT_COLUMNS, read_wait
from orchestrator.store.schema.tables import AGENT, BREAKER, BUDGET, INPUT, TURN

_ASIDE_FIRST = ((TURN.c.status != TurnStatus.QUEUED).desc(), TURN.c.urgent.desc(), TURN.c.ordinal)
_CAN_RUN = TURN.c.status.in_(sorted(TURN_OPEN - {TurnStatus.WORKING}))
_NEXT_TURN = select(TURN).where(TURN.c.agent_id == bindparam("agent"), _CAN_RUN).order_by(*_ASIDE_FIRST).limit(1)
_COUNT_QUEUED = select(func.count()).where(TURN.c.agent_id == bindparam("agent"), TURN.c.status == TurnStatus.QUEUED)
_ITS_NEXT = (
    select(TURN.c.id)
    .where(TURN.c.agent_id == AGENT.c.id, _CAN_RUN)
    .order_by(*_ASIDE_FIRST)
    .limit(1)
    .correlate(AGENT)
    .scalar_subquery()
)
_KIN = AGENT.alias("kin")
_FAMILY = select(_KIN.c.id).where(_KIN.c.root == AGENT.c.root).correlate(AGENT)
_CAPPED = exists().where(BUDGET.c.subject.in_(_FAMILY)).correlate(AGENT)
_QUEUED = (
    select(
        *WAIT_COLUMNS,
        AGENT.c.id,
        AGENT.c.root,
        AGENT.c.account,
        AGENT.c.provider,
        AGENT.c.writes,
        AGENT.c.checkout,
        TURN.c.id,
        TURN.c.ordinal,
        TURN.c.status != TurnStatus.QUEUED,
        _CAPPED,
    )
    .join(TURN, TURN.c.id == _ITS_NEXT)
    .where(AGENT.c.status == Status.QUEUED)
    .order_by(AGENT.c.priority.desc(), AGENT.c.changed_at, AGENT.c.created_at)
)
_BLOCKED = _QUEUED.where(
    or_(
        AGENT.c.wait_kind.is_distinct_from(WaitKind.SLOT),
        exists().where(INPUT.c.agent_id == AGENT.c.id, INPUT.c.settled.is_(False)).correlate(AGENT),
        exists()
        .where(
            BREAKER.c.account == AGENT.c.account,
            BREAKER.c.provider == AGENT.c.provider,
            BREAKER.c.until > bindparam("now"),
        )
        .correlate(AGENT),
        _CAPPED,
    )
)
_ACCOUNTS = select(AGENT.c.account).where(AGENT.c.status == Status.QUEUED).distinct()
_WORKING = select(func.count()).select_from(AGENT).where(AGENT.c.status == Status.WORKING)
_SOURCE = AGENT.alias("source")
_UNSETTLED = (
    select(INPUT.c.agent_id, INPUT.c.turn, _SOURCE.c.name, INPUT.c.blocked, _SOURCE.c.status, _SOURCE.c.reason)
    .select_from(AGENT)
    .join(INPUT, INPUT.c.agent_id == AGENT.c.id)
    .join(_SOURCE, _SOURCE.c.id == INPUT.c.source_id)
    .where(AGENT.c.status == Status.QUEUED, INPUT.c.settled.is_(False))
    .order_by(INPUT.c.agent_id, INPUT.c.turn, INPUT.c.position)
)


class Entry(NamedTuple):
    """An agent in the queue, with what decides whether its next turn may start."""

    wait: Wait | None
    agent_id: str
    root: str
    account: str
    provider: str
    writes: bool
    checkout: str
    turn_id: str
    turn: int
    begun: bool
    """the turn is in the middle of a question or of a recovery"""
    capped: bool
    """an agent of its family has a cap"""


class Source(NamedTuple):
    """An input that a turn still waits for."""

    name: str
    blocked: bool
    status: Status
    reason: str


def queued(connection: Connection) -> Sequence[Entry]:
    """Return the queued agents, each with its next turn: by priority, then the longest wait first."""
    return [_entry(row) for row in connection.execute(_QUEUED)]


def blocked(connection: Connection, now: float) -> Sequence[Entry]:
    """Return the queue without agents that waited only for a slot and still do, as far as the store knows."""
    return [_entry(row) for row in connection.execute(_BLOCKED, {"now": now})]


def _entry(row: Sequence[Any]) -> Entry:
    kind, on, until, detail, is_blocked, *rest = row
    return Entry(read_wait(kind, on, until, detail, blocked=is_blocked), *rest)


def accounts(connection: Connection) -> Sequence[str]:
    """Return the accounts of the queued agents."""
    return connection.execute(_ACCOUNTS).scalars().all()


def working(connection: Connection) -> int:
    """Return how many agents hold a slot."""
    return int(connection.execute(_WORKING).scalar_one())


def next_turn(connection: Connection, agent_id: str) -> TurnRow | None:
    """Return the turn to run next: one in the middle of a question or a recovery, then urgent ones, then the oldest."""
    return one_row(TurnRow, connection.execute(_NEXT_TURN, {"agent": agent_id}))


def count_queued(connection: Connection, agent_id: str) -> int:
    """Return how many turns of the agent have not begun."""
    return int(connection.execute(_COUNT_QUEUED, {"agent": agent_id}).scalar_one())


def has_begun(turn: TurnRow | None) -> bool:
    """Whether this is a turn in the middle, whose agent has no session."""
    return turn is not None and turn.status in TURN_SUSPENDED


def unsettled(connection: Connection) -> Mapping[tuple[str, int], Sequence[Source]]:
    """Return the inputs that turns of queued agents still wait for, by agent and ordinal of the turn."""
    found: dict[tuple[str, int], list[Source]] = {}
    for agent_id, turn, *source in connection.execute(_UNSETTLED):
        found.setdefault((agent_id, turn), []).append(Source(*source))
    return found
