"""Operations on acceptance checks: which ones a turn must pass, and the record of each run of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sqlalchemy import select, update

from orchestrator.domain.activity import WORKING
from orchestrator.domain.check import CheckRound, NewChecks
from orchestrator.domain.event import EventKind
from orchestrator.domain.usage import RunUsage
from orchestrator.store.engine.connection import Connection
from orchestrator.store.schema.changes import AgentChange
from orchestrator.store.schema.rows import StoredCheckRound
from orchestrator.store.schema.states import activity_values, stored_check
from orchestrator.store.schema.tables import TURN
from orchestrator.store.schema.transitions import change, emit, owned_row
from orchestrator.store.turns.recovery import note_prompt
from orchestrator.store.turns.steering import fold
from orchestrator.store.turns.turns import Claim, count


def set_checks(connection: Connection, agent_id: str, turn_id: str | None, new: NewChecks) -> None:
    """Replace the agent's checks and retries, for this turn and those after it; None leaves what is there."""
    if new.retries is not None:
        change(connection, agent_id, check_retries=new.retries)
    if new.checks is not None:
        rows = [stored_check(one) for one in new.checks]
        change(connection, agent_id, checks=rows)
        connection.execute(update(TURN).where(TURN.c.id == turn_id).values(checks=rows))


def note_attempt(connection: Connection, claim: Claim, attempt: CheckRound) -> None:
    """Record the receipts of checks that have run, with their event.

    Raises:
        StaleOwnerError: the claim is over; nothing is written.
    """
    owned_row(connection, claim.agent_id, claim.epoch)
    known: Sequence[StoredCheckRound] = (
        connection.execute(select(TURN.c.checked).where(TURN.c.id == claim.turn_id)).scalar_one() or []
    )
    row = dataclasses.asdict(attempt)
    connection.execute(update(TURN).where(TURN.c.id == claim.turn_id).values(checked=[*known, row]))
    told = [{name: one[name] for name in ("check", "passed", "said", "seconds")} for one in row["receipts"]]
    body = {"attempt": attempt.number, "passed": attempt.passed, "checks": told}
    emit(connection, claim.agent_id, EventKind.CHECKED, attempt.at, claim.turn, **body)
    told_at: AgentChange = {"changed_at": attempt.at, "last_event_at": attempt.at}
    change(connection, claim.agent_id, **(told_at | activity_values(WORKING)))


def send_back(connection: Connection, claim: Claim, attempt: CheckRound, usage: RunUsage, read: Sequence[str]) -> None:
    """Record that the turn goes back to its agent: the receipts, the prompt that contains them, and what it has used.

    `read` are turns whose text it has absorbed. One transaction writes all of it: a successor finds the prompt in the
    transcript, or knows that it must send it.

    Raises:
        StaleOwnerError: the claim is over; nothing is written.
    """
    note_attempt(connection, claim, attempt)
    if read:
        fold(connection, claim, read, attempt.at)
    if attempt.prompt is not None:
        note_prompt(connection, claim, attempt.prompt)
    count(connection, owned_row(connection, claim.agent_id, claim.epoch), claim.turn_id, usage)
