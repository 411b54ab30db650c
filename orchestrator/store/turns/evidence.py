"""Reads what tool calls say about who wrote in a checkout during a turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, or_, select

from orchestrator.domain.attribution import CALL_EVENTS, CallEvent, WriteEvidence, writing_spans
from orchestrator.domain.checkout import WORKTREE
from orchestrator.domain.event import EventKind
from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.dialect import unindexed
from orchestrator.store.schema.tables import AGENT, ARTIFACT, EVENT, TURN
from orchestrator.store.turns.turns import Claim
from orchestrator.store.waits.leases import overlap


def write_evidence(connection: Connection, claim: Claim, now: float) -> WriteEvidence:
    """Return what is known about who wrote since the claimed turn began."""
    begun, area = connection.execute(
        select(TURN.c.started_at, AGENT.c.checkout)
        .join(AGENT, AGENT.c.id == TURN.c.agent_id)
        .where(TURN.c.id == claim.turn_id)
    ).one()
    produced = select(ARTIFACT.c.path).where(ARTIFACT.c.agent_id == claim.agent_id, ARTIFACT.c.turn == claim.turn)
    meanwhile = _meanwhile(claim, begun, now)
    others = (
        select(ARTIFACT.c.path, AGENT.c.name)
        .join(TURN, (unindexed(TURN.c.agent_id) == ARTIFACT.c.agent_id) & (TURN.c.ordinal == ARTIFACT.c.turn))
        .join(AGENT, AGENT.c.id == TURN.c.agent_id)
        .where(meanwhile, ARTIFACT.c.kind == "produced", ARTIFACT.c.at >= begun)
    )
    places = _writers(connection, meanwhile, area, begun, now)
    near = [name for place, names in places.items() if overlap(place, area) for name in names]
    return WriteEvidence(
        own=frozenset(connection.execute(produced.where(ARTIFACT.c.kind == "produced")).scalars()),
        spans=writing_spans(_calls(connection, claim.agent_id, claim.turn), now),
        others={str(path): str(name) for path, name in connection.execute(others)},
        writers=[*dict.fromkeys(near)],
        worktree_writers={
            place.removeprefix(WORKTREE): names for place, names in places.items() if place.startswith(WORKTREE)
        },
    )


def _meanwhile(claim: Claim, begun: float, now: float) -> ColumnElement[bool]:
    """The turns of other agents that ran at some time since `begun`: those that are open or ended later."""
    return (
        or_(TURN.c.ended_at.is_(None), TURN.c.ended_at > begun)
        & (TURN.c.started_at < now)
        & (TURN.c.agent_id != claim.agent_id)
    )


def _calls(connection: Connection, agent_id: str, turn: int) -> Sequence[CallEvent]:
    """Return the turn's events about calls in order; no older ones than the turn are read."""
    its = (EVENT.c.agent_id == agent_id) & (EVENT.c.turn == turn)
    began = select(EVENT.c.seq).where(its, EVENT.c.kind == EventKind.STARTED).order_by(EVENT.c.seq.desc()).limit(1)
    rows = connection.execute(
        select(EVENT.c.kind, EVENT.c.at, EVENT.c.body)
        .where(its, EVENT.c.kind.in_(CALL_EVENTS), EVENT.c.seq > (connection.execute(began).scalar() or 0))
        .order_by(EVENT.c.seq)
    )
    return [CallEvent(*row) for row in rows]


def _writers(
    connection: Connection, meanwhile: ColumnElement[bool], area: str, begun: float, now: float
) -> Mapping[str, Sequence[str]]:
    """Return the agents near that ran tools that may write anything, by the place that they worked in."""
    rows = connection.execute(
        select(AGENT.c.id, AGENT.c.name, AGENT.c.checkout, TURN.c.ordinal)
        .join(AGENT, AGENT.c.id == TURN.c.agent_id)
        .where(meanwhile, or_(TURN.c.before.is_not(None), TURN.c.changes_unknown != ""))
        .order_by(AGENT.c.name)
    )
    found: dict[str, list[str]] = {}
    for agent_id, name, place, turn in rows:
        is_near = overlap(place.removeprefix(WORKTREE), area.removeprefix(WORKTREE))
        if is_near and any(ended > begun for _, ended in writing_spans(_calls(connection, agent_id, turn), now)):
            found.setdefault(place, []).append(name)
    return found
