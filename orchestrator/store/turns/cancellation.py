"""Requests to stop a turn, kept as rows so that no crash and no race loses them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec

from sqlalchemy import select, update

from orchestrator.domain.turn import TurnResult, TurnStatus
from orchestrator.domain.usage import RunUsage
from orchestrator.store.engine.connection import Connection
from orchestrator.store.schema.tables import TURN
from orchestrator.store.turns import turns
from orchestrator.store.turns.turns import Claim

P = ParamSpec("P")
INTERRUPTED = "interrupted"


def ask(connection: Connection, agent_id: str) -> str:
    """Record that the running turn must stop; an owner that takes it over ends it instead. Returns its id."""
    running = (TURN.c.agent_id == agent_id) & (TURN.c.status == TurnStatus.WORKING)
    connection.execute(update(TURN).where(running).values(stop=INTERRUPTED))
    return str(connection.execute(select(TURN.c.id).where(running)).scalar_one())


def fail(connection: Connection, claim: Claim, reason: str, detail: str, usage: RunUsage, now: float) -> None:
    """End the claimed turn as failed, or as interrupted if that is the reason; its changes are unknown.

    Raises:
        StaleOwnerError: the claim is over; nothing is written.
    """
    status = TurnStatus.INTERRUPTED if reason == INTERRUPTED else TurnStatus.FAILED
    turns.finish(connection, claim, TurnResult(status=status, reason=reason, detail=detail), usage, now)


def unless_cancelled(
    connection: Connection,
    put_aside: Callable[Concatenate[Connection, Claim, P], None],
    claim: Claim,
    now: float,
    *args: P.args,
    **kwargs: P.kwargs,
) -> None:
    """Suspend the claimed turn; if a stop was requested meanwhile, end it as interrupted instead.

    Raises:
        StaleOwnerError: the claim is over; nothing is written.
    """
    put_aside(connection, claim, *args, **kwargs)
    if connection.execute(select(TURN.c.stop).where(TURN.c.id == claim.turn_id)).scalar_one():
        turns.drop_question(connection, claim.agent_id, now)
