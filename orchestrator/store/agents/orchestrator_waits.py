"""Operations for orchestrators that Fleet runs: they wait with a durable wait, whose end answers their question."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import select

from orchestrator.domain.durable_wait import DurableWaitStatus, NewDurableWait, WaitEnd
from orchestrator.domain.question import AnsweredBy, NewQuestion, QuestionState
from orchestrator.domain.usage import RunUsage
from orchestrator.domain.wait import Wait, WaitKind
from orchestrator.errors import ConflictError
from orchestrator.store.engine.connection import Connection
from orchestrator.store.families import children
from orchestrator.store.schema.tables import DURABLE_WAIT, QUESTION
from orchestrator.store.schema.transitions import owned_row
from orchestrator.store.turns.turns import Claim, run_ended
from orchestrator.store.waits import durable_waits
from orchestrator.store.waits.deadlocks import circle


def suspend(
    connection: Connection,
    claim: Claim,
    asked: NewQuestion,
    new: NewDurableWait,
    usage: RunUsage,
    now: float,
    *,
    refusal: str = "",
) -> None:
    """End the run and begin a durable wait; a wait that is refused ends at once.

    A wait for agents that wait for the orchestrator is refused, too.

    Raises:
        StaleOwnerError: the claim is over; nothing is written.
    """
    agent = owned_row(connection, claim.agent_id, claim.epoch)
    run_ended(connection, agent, claim, usage, now)
    question_id = children.suspend_turn(connection, claim, asked, Wait(kind=WaitKind.AGENTS), now)
    wait_id = durable_waits.begin(connection, replace(new, question_id=question_id), now)
    if not refusal and (other := circle(connection, claim.agent_id)) is not None:
        hint = "wait for others, or write your report: it waits for your end"
        refusal = str(ConflictError(f"{agent.name} and {other} would wait for each other", hint=hint))
    if refusal:
        end(connection, wait_id, DurableWaitStatus.COMPLETED, now, WaitEnd(result=refusal, is_error=True))


def end(connection: Connection, wait_id: str, status: DurableWaitStatus, now: float, ended: WaitEnd) -> bool:
    """End the durable wait once, and resume its orchestrator; returns whether this call ended it."""
    if not durable_waits.end(connection, wait_id, status, now, ended):
        return False
    query = (
        select(QUESTION.c.agent_id)
        .join(DURABLE_WAIT, DURABLE_WAIT.c.question_id == QUESTION.c.id)
        .where(DURABLE_WAIT.c.id == wait_id, QUESTION.c.state == QuestionState.OPEN)
    )
    orchestrator_id = connection.execute(query).scalar_one_or_none()
    if orchestrator_id is not None:
        children.resume(connection, orchestrator_id, AnsweredBy.AGENTS, now)
    return True


def open_wait(connection: Connection, agent_id: str) -> str | None:
    """Return the durable wait that this agent waits in, or None."""
    query = (
        select(DURABLE_WAIT.c.id)
        .join(QUESTION, DURABLE_WAIT.c.question_id == QUESTION.c.id)
        .where(
            QUESTION.c.agent_id == agent_id,
            QUESTION.c.state == QuestionState.OPEN,
            DURABLE_WAIT.c.status == DurableWaitStatus.WORKING,
        )
    )
    return connection.execute(query).scalar_one_or_none()
