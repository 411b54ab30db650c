"""A stop that was asked for is a row, so that no crash and no race forgets it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec

from sqlalchemy import Connection, select, update

from orchestrator.domain.turn import TurnStatus
from orchestrator.domain.usage import RunUsage
from orchestrator.store.schema.tables import TURN
from orchestrator.store.turns import turns
from orchestrator.store.turns.turns import Claim

P = ParamSpec("P")
INTERRUPTED = "interrupted"


def ask(connection: Connection, agent_id: str) -> str:
    """Note that the running turn is to end: whoever takes it over ends it instead of going on. Returns its id."""
    running = (TURN.c.agent_id == agent_id) & (TURN.c.status == TurnStatus.WORKING)
    connection.execute(update(TURN).where(running).values(stop=INTERRUPTED))
    return str(connection.execute(select(TURN.c.id).where(running)).scalar_one())


def fail(connection: Connection, claim: Claim, reason: str, detail: str, usage: RunUsage, now: float) -> None:
    """End the claimed turn as failed, or as interrupted if that is the reason; of what it changed nobody knows.

    Raises:
        StaleOwnerError: the claim is over; nothing is written.
    """
    status = TurnStatus.INTERRUPTED if reason == INTERRUPTED else TurnStatus.FAILED
    ended = {"status": status, "reason": reason, "detail": detail, "changes": None}
    turns.finish(connection, claim, ended, usage, now)


def unless_cancelled(
    connection: Connection,
    put_aside: Callable[Concatenate[Connection, Claim, P], None],
    claim: Claim,
    now: float,
    *args: P.args,
    **kwargs: P.kwargs,
) -> None:
    """Put the claimed turn aside; but one that was told to end meanwhile ends here, as interrupted.

    Raises:
        StaleOwnerError: the claim is over; nothing is written.
    """
    put_aside(connection, claim, *args, **kwargs)
    if connection.execute(select(TURN.c.stop).where(TURN.c.id == claim.turn_id)).scalar_one():
        turns.drop_question(connection, claim.agent_id, now)
