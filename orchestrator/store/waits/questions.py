"""Operations on questions: ask, answer, settle, drop. Their rows are the inbox, and hold its deadlines."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from sqlalchemy import bindparam, func, insert, select, update

from orchestrator.domain.durable_wait import DurableWaitStatus
from orchestrator.domain.question import (
    ALLOW,
    ALWAYS,
    ANSWERED_BY,
    INBOX,
    MAX_LINE_CHARACTERS,
    AnsweredBy,
    NewQuestion,
    QuestionKind,
    QuestionState,
    fits_line,
    line_of,
    reads_as_answer,
    shown_text,
    whole_text,
)
from orchestrator.domain.text import named, quoted, quoted_ends
from orchestrator.errors import ConflictError
from orchestrator.store.engine.connection import Connection
from orchestrator.store.schema.rows import AgentRow, PendingQuestion, QuestionRow, all_rows, one_row
from orchestrator.store.schema.tables import DURABLE_WAIT, QUESTION
from orchestrator.store.schema.transitions import CLOCK, change, touch

MAX_TOLD_CHARACTERS = 400
_ITS = QUESTION.c.agent_id == bindparam("agent")
_OF_CALL = (
    select(QUESTION).where(_ITS, QUESTION.c.call_id == bindparam("call")).order_by(QUESTION.c.asked_at.desc()).limit(1)
)
_OF_AGENT = select(QUESTION).where(_ITS, QUESTION.c.kind.in_(sorted(INBOX))).order_by(QUESTION.c.asked_at)
_ALWAYS = select(QUESTION).where(_ITS, QUESTION.c.kind == QuestionKind.PERMISSION, QUESTION.c.answer == ALWAYS)


class OtherQuestionError(ConflictError):
    """The agent has another question than the one the answer is for; the message shows it (`question_id`)."""

    def __init__(self, name: str, question: QuestionRow) -> None:
        if question.kind == QuestionKind.PERMISSION:
            asks = f"wants to use {named(question.tool)}: {line_of(shown_text(question.tool, question.input))}"
        else:
            asks = f"asks: {quoted_ends(question.text, MAX_TOLD_CHARACTERS)}"
        super().__init__(f"nothing was answered: {name} now {asks}", hint="give your answer to this, if you mean it")
        self.question_id = question.id


class ClosedQuestionError(ConflictError):
    """The text answers a question that is closed; the message says how it was, and nothing was queued."""

    def __init__(self, name: str, question: QuestionRow) -> None:
        asked = quoted_ends(question.text, MAX_LINE_CHARACTERS)
        is_permission = question.kind is QuestionKind.PERMISSION
        what = f"permission to use {named(question.tool, 60)}" if is_permission else "question"
        if question.answer is None:
            ended = "was withdrawn: its turn ended without an answer"
        else:
            answer = quoted(question.answer, MAX_LINE_CHARACTERS)
            ended = f"was answered {answer} by {ANSWERED_BY.get(question.answered_by, 'Fleet')}"
        super().__init__(
            f"nothing was queued: {name}'s {what} {asked} {ended}",
            hint=f"if you mean this as the next task of {name}, send it with command_agent (fleet command) once more",
        )


class UnreadPermissionError(ConflictError):
    """An answer allows more than its caller was shown."""

    def __init__(self, name: str, question: QuestionRow) -> None:
        size = len(whole_text(question.kind, question.text, question.tool, question.input))
        super().__init__(
            f"nothing was allowed: you were not shown all {size} characters of what {name} wants to use "
            f"{named(question.tool, 60)} for",
            hint=f'read them with get_agent_output(agent="{name}") (fleet output {name}), then answer; '
            "deny: <why> needs no reading",
        )


def ask(connection: Connection, agent_id: str, turn: int, asked: NewQuestion) -> str:
    """Write an open question and return its id; one for the inbox is also copied to the agent's row."""
    row = _row(agent_id, turn, asked, QuestionState.OPEN)
    connection.execute(insert(QUESTION).values(row))
    if asked.deadline_at is not None:
        touch(connection, CLOCK)
    if asked.kind in INBOX:
        change(connection, agent_id, pending=row)
    return row["id"]


def ask_in_vain(connection: Connection, agent_id: str, turn: int, asked: NewQuestion) -> None:
    """Write a question that cannot be answered any more, because its turn ended as it was asked."""
    connection.execute(insert(QUESTION).values(_row(agent_id, turn, asked, QuestionState.DROPPED)))


def ask_policy(
    connection: Connection, agent_id: str, turn: int, asked: NewQuestion, *, answer: str, now: float
) -> None:
    """Write a question that the persona's policy answered at once; the same call, asked again, finds it."""
    known = select(QUESTION.c.id).where(QUESTION.c.agent_id == agent_id, QUESTION.c.call_id == asked.call_id)
    if connection.execute(known).first() is None:
        row = insert(QUESTION).values(_row(agent_id, turn, asked, QuestionState.SETTLED))
        connection.execute(row.values(answer=answer, answered_at=now, answered_by=AnsweredBy.POLICY))


def _row(agent_id: str, turn: int, asked: NewQuestion, state: QuestionState) -> PendingQuestion:
    return {
        "id": f"qu_{secrets.token_hex(16)}",
        "agent_id": agent_id,
        "turn": turn,
        "kind": str(asked.kind),
        "call_id": asked.call_id,
        "tool": asked.tool,
        "input": dict(asked.input),
        "text": asked.text,
        "options": list(asked.options),
        "asked_at": asked.asked_at,
        "deadline_at": asked.deadline_at,
        "fallback": asked.fallback,
        "state": str(state),
    }


def open_question(connection: Connection, agent_id: str) -> QuestionRow | None:
    """Return the question that the agent waits for."""
    query = select(QUESTION).where(QUESTION.c.agent_id == agent_id, QUESTION.c.state == QuestionState.OPEN)
    return one_row(QuestionRow, connection.execute(query))


def check_meant(name: str, question: QuestionRow, meant: str | None, by: AnsweredBy) -> None:
    """Check that this question is the one that is answered; `meant` is its id or the beginning of it.

    Without an id, a question accepts any answer, a permission only a person's: an orchestrator must have seen it.

    Raises:
        OtherQuestionError: it is not.
    """
    if meant is None:
        fits = by is not AnsweredBy.ORCHESTRATOR or question.kind != QuestionKind.PERMISSION
    else:
        fits = question.id.startswith(meant)
    if not fits:
        raise OtherQuestionError(name, question)


def check_read(name: str, question: QuestionRow, given: str, read: str | None) -> None:
    """Check that who allows a tool call was shown all of its input; `read` is the id of the question read whole.

    Raises:
        UnreadPermissionError: it may have been shown only in part.
    """
    allows = question.kind is QuestionKind.PERMISSION and given in {ALLOW, ALWAYS}
    if allows and read != question.id and not fits_line(question.kind, shown_text(question.tool, question.input)):
        raise UnreadPermissionError(name, question)


def check_open(connection: Connection, agent: AgentRow, meant: str | None) -> None:
    """Check that the question that a text answers is open; None means the agent's last one.

    Raises:
        ClosedQuestionError: it is closed.
    """
    rows = [row for row in of_agent(connection, agent.id) if meant is None or row.id.startswith(meant)]
    if rows and rows[-1].state != QuestionState.OPEN:
        raise ClosedQuestionError(agent.name, rows[-1])


def check_no_answer(connection: Connection, agent: AgentRow, meant: str | None, text: str) -> None:
    """Check that the text does not read as an answer to this closed question.

    None means those of the agent's last turn in which it asked somebody.

    Raises:
        ClosedQuestionError: it reads as one.
    """
    rows = [row for row in of_agent(connection, agent.id) if row.answered_by is not AnsweredBy.POLICY]
    for row in reversed(rows):
        is_meant = row.turn == rows[-1].turn if meant is None else row.id.startswith(meant)
        closed = is_meant and row.state != QuestionState.OPEN
        if closed and reads_as_answer(row.kind, row.options, row.answer, text):
            raise ClosedQuestionError(agent.name, row)


def put_answer(connection: Connection, question_id: str, text: str, by: AnsweredBy, now: float) -> None:
    """Record the answer to the open question."""
    connection.execute(
        update(QUESTION)
        .where(QUESTION.c.id == question_id)
        .values(answer=text, answered_at=now, answered_by=by, state=QuestionState.ANSWERED)
    )


def settle(connection: Connection, question_id: str) -> None:
    """Record that the call that asked runs now."""
    connection.execute(
        update(QUESTION)
        .where(QUESTION.c.id == question_id, QUESTION.c.state == QuestionState.ANSWERED)
        .values(state=QuestionState.SETTLED)
    )


def drop(connection: Connection, agent_id: str) -> None:
    """Drop questions whose call has not run: the conversation still contains the call, which is now denied."""
    asked = (QUESTION.c.agent_id == agent_id) & QUESTION.c.state.in_({QuestionState.OPEN, QuestionState.ANSWERED})
    theirs = DURABLE_WAIT.c.question_id.in_(select(QUESTION.c.id).where(asked)) & (
        DURABLE_WAIT.c.status == DurableWaitStatus.WORKING
    )
    connection.execute(update(DURABLE_WAIT).where(theirs).values(status=DurableWaitStatus.CANCELLED))
    connection.execute(update(QUESTION).where(asked).values(state=QuestionState.DROPPED))
    change(connection, agent_id, pending=None)


def overdue(connection: Connection, now: float) -> Sequence[QuestionRow]:
    """Return the open questions whose deadline has passed."""
    query = select(QUESTION).where(QUESTION.c.state == QuestionState.OPEN, QUESTION.c.deadline_at <= now)
    return all_rows(QuestionRow, connection.execute(query.order_by(QUESTION.c.deadline_at)))


def next_deadline(connection: Connection) -> float | None:
    """Return when the next open question must be answered; None if none has a deadline."""
    return connection.execute(
        select(func.min(QUESTION.c.deadline_at)).where(QUESTION.c.state == QuestionState.OPEN)
    ).scalar()


def of_call(connection: Connection, agent_id: str, call_id: str) -> QuestionRow | None:
    """Return the question of this tool call."""
    return one_row(QuestionRow, connection.execute(_OF_CALL, {"agent": agent_id, "call": call_id}))


def of_agent(connection: Connection, agent_id: str) -> Sequence[QuestionRow]:
    """Return all questions of the agent that a person or orchestrator had to answer, in order."""
    return all_rows(QuestionRow, connection.execute(_OF_AGENT, {"agent": agent_id}))


def always(connection: Connection, agent_id: str) -> Sequence[QuestionRow]:
    """Return the permissions of this agent that were answered `always`."""
    return all_rows(QuestionRow, connection.execute(_ALWAYS, {"agent": agent_id}))
