"""Reads what tool calls say about who wrote in a checkout during a turn."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import or_, select

from orchestrator.domain.attribution import WriteEvidence, may_write_anything
from orchestrator.domain.event import EventKind
from orchestrator.store.engine.connection import Connection
from orchestrator.store.schema.tables import AGENT, ARTIFACT, EVENT, TURN
from orchestrator.store.turns.turns import Claim
from orchestrator.store.waits.leases import overlap

_CALLS = (EventKind.TOOL, EventKind.TOOL_ENDED, EventKind.CHECKING, EventKind.CHECKED)


def write_evidence(connection: Connection, claim: Claim, now: float) -> WriteEvidence:
    """Return what is known about who wrote since the claimed turn began."""
    begun, area = connection.execute(
        select(TURN.c.started_at, AGENT.c.checkout)
        .join(AGENT, AGENT.c.id == TURN.c.agent_id)
        .where(TURN.c.id == claim.turn_id)
    ).one()
    produced = select(ARTIFACT.c.path).where(ARTIFACT.c.agent_id == claim.agent_id, ARTIFACT.c.turn == claim.turn)
    others = (
        select(ARTIFACT.c.path, AGENT.c.name)
        .join(AGENT, AGENT.c.id == ARTIFACT.c.agent_id)
        .where(ARTIFACT.c.kind == "produced", ARTIFACT.c.agent_id != claim.agent_id, ARTIFACT.c.at >= begun)
    )
    return WriteEvidence(
        own=frozenset(connection.execute(produced.where(ARTIFACT.c.kind == "produced")).scalars()),
        spans=_spans(connection, claim.agent_id, claim.turn, now),
        others={str(path): str(name) for path, name in connection.execute(others)},
        writers=_writers(connection, claim, area, begun, now),
    )


def _spans(connection: Connection, agent_id: str, turn: int, now: float) -> Sequence[tuple[float, float]]:
    """When the turn ran tools that may write anything, or Fleet ran its checks; a call that has not ended lasts."""
    rows = connection.execute(
        select(EVENT.c.kind, EVENT.c.at, EVENT.c.body)
        .where(EVENT.c.agent_id == agent_id, EVENT.c.turn == turn, EVENT.c.kind.in_(_CALLS))
        .order_by(EVENT.c.seq)
    )
    begun: dict[str, float] = {}
    spans: list[tuple[float, float]] = []
    for kind, at, body in rows:
        call = str(body.get("call_id", ""))
        if kind == EventKind.CHECKING or (kind == EventKind.TOOL and may_write_anything(str(body.get("tool")))):
            begun.setdefault(call, at)
        elif call in begun and kind != EventKind.TOOL:
            spans.append((begun.pop(call), at))
    return [*spans, *((at, now) for at in begun.values())]


def _writers(connection: Connection, claim: Claim, area: str, begun: float, now: float) -> Sequence[str]:
    rows = connection.execute(
        select(AGENT.c.id, AGENT.c.name, AGENT.c.checkout, TURN.c.ordinal)
        .join(AGENT, AGENT.c.id == TURN.c.agent_id)
        .where(
            TURN.c.agent_id != claim.agent_id,
            TURN.c.started_at < now,
            or_(TURN.c.ended_at.is_(None), TURN.c.ended_at > begun),
            or_(TURN.c.before.is_not(None), TURN.c.changes_unknown != ""),
        )
        .order_by(AGENT.c.name)
    )
    near = [(agent_id, name, turn) for agent_id, name, checkout, turn in rows if overlap(checkout, area)]
    wrote = [
        name
        for agent_id, name, turn in near
        if any(ended > begun for _, ended in _spans(connection, agent_id, turn, now))
    ]
    return list(dict.fromkeys(wrote))
