"""Reads outcomes: the ended turns of many agents, and which of them their orchestrator has not received.

A turn has an outcome once its terminal event is recorded; `store/turns/outcomes.py` decides which turns get one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, and_, bindparam, exists, func, or_, select

from orchestrator.domain.check import FAILED_VERDICT
from orchestrator.domain.turn import TURN_OPEN, TurnStatus
from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.dialect import unindexed
from orchestrator.store.engine.prepared import fetch
from orchestrator.store.queries.agents import HEARD
from orchestrator.store.schema.rows import TurnRow, all_rows
from orchestrator.store.schema.tables import AGENT, INPUT, TURN


def _among(name: str) -> BindParameter[Any]:
    found: BindParameter[Any] = bindparam(name, expanding=True)
    return found


_RECEIVER = TURN.alias("receiver")
_LIVES = AGENT.c.deleted_at.is_(None)
_THEIRS = TURN.c.agent_id.in_(_among("ids"))
_UNREAD = and_(TURN.c.outcome_cursor.is_not(None), TURN.c.delivered_at.is_(None))  # matches the index ix_turn_unread
_ENDED = select(TURN.c.id, TURN.c.agent_id, TURN.c.ordinal, TURN.c.status).where(_THEIRS)
_ENDED_UNREAD = _ENDED.where(_UNREAD).order_by(TURN.c.outcome_cursor)
_ENDED_SINCE = _ENDED.where(TURN.c.outcome_cursor > bindparam("since")).order_by(TURN.c.outcome_cursor)
_COUNTS = select(TURN.c.agent_id, func.count()).where(_THEIRS, _UNREAD).group_by(TURN.c.agent_id)
_COUNTED = select(TURN.c.agent_id, func.count().label("turns")).where(_UNREAD).group_by(TURN.c.agent_id).subquery()
_UNREAD_NAMES = (
    select(AGENT.c.name, _COUNTED.c.turns)
    .join(_COUNTED, _COUNTED.c.agent_id == AGENT.c.id)
    .where(_LIVES)
    .order_by(AGENT.c.created_at)
)
# the few unread turns are read first, then their agents: an index would lead through every agent of the orchestrator
_OF_ORCHESTRATOR = _UNREAD_NAMES.where(unindexed(AGENT.c.orchestrator) == bindparam("orchestrator"))
_OF_ORCHESTRATOR_HERE = _OF_ORCHESTRATOR.where(unindexed(AGENT.c.project) == bindparam("project"))
_TURNS = select(TURN).where(TURN.c.id.in_(_among("ids"))).order_by(TURN.c.outcome_cursor)
_RECEIVERS = (
    select(INPUT.c.source_id, _RECEIVER.c.started_at, INPUT.c.blocked)
    .join(AGENT, AGENT.c.id == INPUT.c.agent_id)
    .join(_RECEIVER, and_(_RECEIVER.c.agent_id == INPUT.c.agent_id, _RECEIVER.c.ordinal == INPUT.c.turn))
    .where(INPUT.c.source_id.in_(_among("ids")), _LIVES, _RECEIVER.c.status != TurnStatus.CANCELLED)
)
_AWAITED = (
    select(TURN.c.id)
    .join(INPUT, and_(INPUT.c.source_id == TURN.c.agent_id, INPUT.c.any_end.is_(True)))
    .join(AGENT, AGENT.c.id == INPUT.c.agent_id)
    .join(_RECEIVER, and_(_RECEIVER.c.agent_id == INPUT.c.agent_id, _RECEIVER.c.ordinal == INPUT.c.turn))
    .where(TURN.c.id.in_(_among("ids")), TURN.c.reason == FAILED_VERDICT, _LIVES)
    .where(_RECEIVER.c.status != TurnStatus.CANCELLED)
    .where(or_(_RECEIVER.c.started_at.is_(None), _RECEIVER.c.started_at >= TURN.c.ended_at))
)
_FIXER, _LAST = AGENT.alias("fixer"), TURN.alias("last")
_MAKES_CHANGES = and_(
    INPUT.c.source_id == AGENT.c.id,
    INPUT.c.any_end.is_(True),
    exists().where(
        _RECEIVER.c.agent_id == INPUT.c.agent_id,
        _RECEIVER.c.ordinal == INPUT.c.turn,
        _RECEIVER.c.status != TurnStatus.CANCELLED,
        or_(_RECEIVER.c.started_at.is_(None), _RECEIVER.c.started_at >= _LAST.c.ended_at),
    ),
)
_FIXERS = (
    select(AGENT.c.id, func.max(_FIXER.c.name))
    .join(_LAST, and_(_LAST.c.agent_id == AGENT.c.id, _LAST.c.ordinal == AGENT.c.turns))
    .outerjoin(INPUT, _MAKES_CHANGES)
    .outerjoin(_FIXER, and_(_FIXER.c.id == INPUT.c.agent_id, _FIXER.c.deleted_at.is_(None)))
    .where(AGENT.c.id.in_(_among("ids")), AGENT.c.reason == FAILED_VERDICT)
    .group_by(AGENT.c.id)
)
_OPEN = select(TURN.c.agent_id, TURN.c.ordinal, TURN.c.status, TURN.c.urgent).where(
    _THEIRS, TURN.c.status.in_(sorted(TURN_OPEN))
)
_LAST_HEARD = (
    select(TURN.c.id)
    .where(TURN.c.agent_id == bindparam("agent"), TURN.c.status.in_(sorted(HEARD)))
    .order_by(TURN.c.ended_at.desc(), TURN.c.ordinal.desc())
    .limit(1)
)
_ALL_ENDED = (
    select(TURN).where(_THEIRS, TURN.c.outcome_cursor.is_not(None)).order_by(TURN.c.agent_id, TURN.c.outcome_cursor)
)


class EndedTurn(NamedTuple):
    """A turn that has an outcome."""

    id: str
    agent_id: str
    ordinal: int
    status: TurnStatus


class OpenTurn(NamedTuple):
    """A turn that has not ended."""

    agent_id: str
    ordinal: int
    status: TurnStatus
    urgent: int


class LatestTurns(NamedTuple):
    """The turn of an agent that ended last, and the one that it works on; cancelled turns do not count."""

    ended_id: str | None
    open: OpenTurn | None
    """if none has started, the one that is next"""


def untold(connection: Connection, agent_ids: Collection[str], since: int | None) -> Sequence[EndedTurn]:
    """Return the ended turns of these agents that their orchestrator has not received, in the order of their ends.

    Without a cursor these are the undelivered turns, with one all that ended after it.
    """
    if not agent_ids:
        return []
    if since is None:
        return all_rows(EndedTurn, fetch(connection, _ENDED_UNREAD, {"ids": list(agent_ids)}))
    return all_rows(EndedTurn, fetch(connection, _ENDED_SINCE, {"ids": list(agent_ids), "since": since}))


def turns(connection: Connection, turn_ids: Collection[str]) -> Sequence[TurnRow]:
    """Return these turns, in the order of their ends."""
    return all_rows(TurnRow, fetch(connection, _TURNS, {"ids": list(turn_ids)})) if turn_ids else []


def awaited_verdicts(connection: Connection, ended: Sequence[EndedTurn]) -> frozenset[str]:
    """Return the ids of those turns that ask for changes, and whose end starts an agent, however they end."""
    failed = [turn.id for turn in ended if turn.status == TurnStatus.FAILED]
    return frozenset(fetch(connection, _AWAITED, {"ids": failed}).scalars()) if failed else frozenset()


def fixers(connection: Connection, agent_ids: Collection[str]) -> dict[str, str]:
    """Return those of these agents whose last turn asks for changes, each with the name of the agent that makes them.

    That is an agent that starts with the end of that turn, however it ends; '' if there is none.
    """
    rows = fetch(connection, _FIXERS, {"ids": list(agent_ids)}).all() if agent_ids else ()
    return {str(reviewer): str(fixer or "") for reviewer, fixer in rows}


def handed_on(connection: Connection, ended: Sequence[TurnRow], at_rest: Collection[str]) -> set[str]:
    """Return the ids of those turns whose result a living agent received or will receive.

    A turn receives its source's last result from before it began; a turn that has not begun, the last result of a
    source `at_rest` (an agent's id), unless that blocks it.
    """
    rows = fetch(connection, _RECEIVERS, {"ids": list({turn.agent_id for turn in ended})}).all() if ended else ()
    found: set[str] = set()
    for source, begun, is_blocked in rows:
        if begun is not None or (source in at_rest and not is_blocked):
            before = [turn for turn in ended if turn.agent_id == source and turn.status != TurnStatus.CANCELLED]
            found.update([turn.id for turn in before if begun is None or (turn.ended_at or 0.0) <= begun][-1:])
    return found


def latest(connection: Connection, agent_ids: Collection[str]) -> dict[str, LatestTurns]:
    """Return where each of these agents is in its turns, by agent id; its history may be long, so it is not read."""
    rows = all_rows(OpenTurn, fetch(connection, _OPEN, {"ids": list(agent_ids)})) if agent_ids else ()
    waiting: dict[str, OpenTurn] = {}
    for row in sorted(rows, key=lambda turn: (turn.status == TurnStatus.QUEUED, not turn.urgent, turn.ordinal)):
        waiting.setdefault(row.agent_id, row)
    ended = {one: fetch(connection, _LAST_HEARD, {"agent": one}).scalar_one_or_none() for one in agent_ids}
    return {one: LatestTurns(ended_id=ended[one], open=waiting.get(one)) for one in agent_ids}


def ended(connection: Connection, agent_ids: Collection[str]) -> dict[str, list[TurnRow]]:
    """Return the turns of each agent that have an outcome, in the order of their ends, by agent id."""
    found: dict[str, list[TurnRow]] = {}
    for row in all_rows(TurnRow, fetch(connection, _ALL_ENDED, {"ids": list(agent_ids)})) if agent_ids else ():
        found.setdefault(row.agent_id, []).append(row)
    return found


def unread_counts(connection: Connection, agent_ids: Collection[str]) -> dict[str, int]:
    """Return how many ended turns of each agent were not delivered, by agent id; agents without any are left out."""
    rows = fetch(connection, _COUNTS, {"ids": list(agent_ids)}) if agent_ids else ()
    return {str(agent_id): int(count) for agent_id, count in rows}


def unread_of(connection: Connection, project: str | None, orchestrator: str) -> dict[str, int]:
    """Return the same for the orchestrator's living agents, by name."""
    if project is None:
        return _by_name(fetch(connection, _OF_ORCHESTRATOR, {"orchestrator": orchestrator}).all())
    return _by_name(fetch(connection, _OF_ORCHESTRATOR_HERE, {"project": project, "orchestrator": orchestrator}).all())


def _by_name(rows: Sequence[Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name, count in rows:  # agents of several projects may share a name
        counts[str(name)] = counts.get(str(name), 0) + int(count)
    return counts
