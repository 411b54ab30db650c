"""Operations on plans: a turn that ends with a plan asks a question, which its children answer by ending.

Its `call_id` is the id of the prompt that carries the answer. It is stored with the question, so that a successor can
tell from the transcript whether the agent has received the answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, update

from orchestrator.domain.agent import AgentSpec, Status
from orchestrator.domain.clearance import PLAN
from orchestrator.domain.event import EventKind
from orchestrator.domain.question import NewQuestion, QuestionState
from orchestrator.domain.text import one_line
from orchestrator.domain.tool import CallingTurn
from orchestrator.domain.turn import TurnStatus
from orchestrator.domain.usage import RunUsage
from orchestrator.domain.wait import SLOT
from orchestrator.store.agents import lifecycle
from orchestrator.store.engine.connection import Connection
from orchestrator.store.families import children
from orchestrator.store.families.children import ChildLimits
from orchestrator.store.schema.rows import AgentRow, QuestionRow, TurnRow, all_rows, one_row
from orchestrator.store.schema.tables import QUESTION, TURN
from orchestrator.store.schema.transitions import StaleOwnerError, agent_row, emit, move, owned_row
from orchestrator.store.turns.recovery import note_prompt
from orchestrator.store.turns.turns import Claim, run_ended
from orchestrator.store.waits import questions

SHOWN_CHARACTERS = 300


def of_turn(connection: Connection, agent_id: str, turn: int) -> Sequence[QuestionRow]:
    """Return the plans of this turn (an ordinal), in order."""
    its = (QUESTION.c.agent_id == agent_id) & (QUESTION.c.turn == turn) & (QUESTION.c.tool == PLAN)
    found = all_rows(QuestionRow, connection.execute(select(QUESTION).where(its)))
    return sorted(found, key=lambda row: row.input.get("number", 0))


def fan_out(
    connection: Connection,
    claim: Claim,
    planned: Sequence[AgentSpec],
    asked: NewQuestion,
    usage: RunUsage,
    now: float,
    *,
    limits: ChildLimits,
) -> None:
    """Create all of the plan's children, or none, and suspend the turn until the last of them has ended.

    A turn that must stop creates none.

    Raises:
        StaleOwnerError: the claim is over; nothing is written.
        ConflictError, RefusedError: a child cannot be created; nothing is written.
    """
    agent, turn = _running(connection, claim)
    run_ended(connection, agent, claim, usage, now)
    for child in () if turn.stop else planned:
        lifecycle.create(connection, child, limits, CallingTurn(agent_id=claim.agent_id, epoch=claim.epoch))
    children.suspend(connection, claim, asked, now)
    _comes_back(connection, claim, asked.call_id)


def send_back(connection: Connection, claim: Claim, asked: NewQuestion, why: str, usage: RunUsage, now: float) -> None:
    """Refuse the plan: its turn resumes with the reason once a slot is free.

    Raises:
        StaleOwnerError: the claim is over; nothing is written.
    """
    agent, _ = _running(connection, claim)
    run_ended(connection, agent, claim, usage, now)
    questions.ask_policy(connection, claim.agent_id, claim.turn, asked, answer=why, now=now)
    _comes_back(connection, claim, asked.call_id)
    emit(connection, claim.agent_id, EventKind.PLAN_REFUSED, now, claim.turn, reason=one_line(why, SHOWN_CHARACTERS))
    move(connection, agent_row(connection, claim.agent_id), Status.QUEUED, now, wait=SLOT, owner=None)


def add_children_results(connection: Connection, claim: Claim, prompt_id: str) -> None:
    """Record the prompt with which the turn continues; it says what became of the plan.

    Raises:
        StaleOwnerError: the claim is over; nothing is written.
    """
    note_prompt(connection, claim, prompt_id)
    its = (QUESTION.c.agent_id == claim.agent_id) & (QUESTION.c.tool == PLAN)
    connection.execute(
        update(QUESTION).where(its, QUESTION.c.state == QuestionState.ANSWERED).values(state=QuestionState.SETTLED)
    )


def _running(connection: Connection, claim: Claim) -> tuple[AgentRow, TurnRow]:
    agent = owned_row(connection, claim.agent_id, claim.epoch)
    query = select(TURN).where(TURN.c.id == claim.turn_id, TURN.c.status == TurnStatus.WORKING)
    turn = one_row(TurnRow, connection.execute(query))
    if turn is None:
        raise StaleOwnerError(f"turn {claim.turn_id} has ended or is suspended")
    return agent, turn


def _comes_back(connection: Connection, claim: Claim, prompt_id: str) -> None:
    """Let the turn continue in its conversation, with a new prompt."""
    note_prompt(connection, claim, prompt_id)
    connection.execute(
        update(TURN)
        .where(TURN.c.id == claim.turn_id)
        .values(status=TurnStatus.WAITING, suspended_for=PLAN, prompt_received=True, resumes=TURN.c.resumes + 1)
    )
