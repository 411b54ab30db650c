"""Ends queued turns whose text the running turn has absorbed."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, update

from orchestrator.domain.event import EventKind
from orchestrator.domain.turn import TurnStatus
from orchestrator.store.engine.connection import Connection
from orchestrator.store.schema.tables import TURN
from orchestrator.store.schema.transitions import emit, owned_row
from orchestrator.store.turns.turns import Claim

STEERED = "steered"


def read_in(turn: int) -> str:
    """Return what the turn of a steered text says of where the text was read."""
    return f"read in turn {turn}"


def fold(connection: Connection, claim: Claim, turn_ids: Sequence[str], now: float) -> None:
    """End these queued turns of the claimed agent, each with its terminal event: the running turn has read them.

    Raises:
        StaleOwnerError: the claim is over; nothing is written.
    """
    owned_row(connection, claim.agent_id, claim.epoch)
    query = select(TURN.c.id, TURN.c.ordinal).where(
        TURN.c.id.in_(turn_ids), TURN.c.agent_id == claim.agent_id, TURN.c.status == TurnStatus.QUEUED
    )
    detail = read_in(claim.turn)
    for turn_id, ordinal in connection.execute(query.order_by(TURN.c.ordinal)).all():
        ended = {"status": TurnStatus.CANCELLED, "reason": STEERED, "detail": detail, "ended_at": now}
        connection.execute(update(TURN).where(TURN.c.id == turn_id).values(**ended))
        emit(connection, claim.agent_id, EventKind.CANCELLED, now, ordinal, reason=STEERED, detail=detail)
