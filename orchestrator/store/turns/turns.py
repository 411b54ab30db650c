"""Operations on turns: queue, answer, suspend, finish. Admission claims them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import insert, select, update

from orchestrator.domain.agent import OPEN, Status
from orchestrator.domain.clearance import AUTHOR
from orchestrator.domain.event import TERMINAL, EventKind
from orchestrator.domain.question import INBOX, AnsweredBy, NewQuestion, checked_answer, chosen
from orchestrator.domain.text import one_line, quantity
from orchestrator.domain.turn import HOLDS_QUEUE, TURN_OPEN, TURN_SUSPENDED, TurnPriority, TurnResult, TurnStatus
from orchestrator.domain.usage import RunUsage
from orchestrator.domain.wait import SLOT, QuotaRefusal, Wait, WaitKind
from orchestrator.errors import ConflictError
from orchestrator.store.engine.connection import Connection
from orchestrator.store.families import budgets, children
from orchestrator.store.schema.changes import AgentChange
from orchestrator.store.schema.rows import AgentRow, CommandRow, QuestionRow, one_row
from orchestrator.store.schema.tables import COMMAND, TURN
from orchestrator.store.schema.transitions import (
    StaleOwnerError,
    agent_row,
    change,
    cost_is_unknown,
    emit,
    move,
    owned_row,
    turn_row,
)
from orchestrator.store.turns import outcomes
from orchestrator.store.waits import leases, pauses, questions, ready_queue
from orchestrator.store.waits.inputs import source_ended, source_opened
from orchestrator.store.waits.ready_queue import next_turn
from orchestrator.store.waits.suspension import suspend


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The right to run one turn of one agent until the epoch advances."""

    agent_id: str
    turn_id: str
    turn: int
    epoch: int
    continues: bool
    """the turn waits in the middle of a tool call that now has its answer"""
    was_suspended: bool = False
    """it was suspended outside a tool call, so it resumes with a new prompt"""
    prompt_received: bool = False
    resumes: int = 0
    overloads: int = 0
    recovers: bool = False
    """an earlier run of the turn died; its transcript says how to continue"""


def queue_turn(
    connection: Connection,
    agent_id: str,
    *,
    turn_id: str,
    prompt: str,
    now: float,
    urgent: TurnPriority = TurnPriority.NONE,
) -> int:
    """Append a turn and return its ordinal; an agent without an open turn becomes queued."""
    agent = agent_row(connection, agent_id)
    ordinal = agent.turns + 1  # single writer: nobody else takes the number
    connection.execute(
        insert(TURN).values(
            id=turn_id,
            agent_id=agent_id,
            ordinal=ordinal,
            urgent=int(urgent),
            status=TurnStatus.QUEUED,
            prompt=prompt,
            checks=agent.checks,
            created_at=now,
        )
    )
    change(connection, agent_id, turns=ordinal)
    emit(connection, agent_id, EventKind.QUEUED, now, ordinal, turn_id=turn_id)
    if agent.status not in {Status.WORKING, Status.WAITING}:
        move(connection, agent, Status.QUEUED, now, wait=SLOT)
    source_opened(connection, agent_id)
    return ordinal


def commanded(connection: Connection, key: str | None) -> CommandRow | None:
    """Return the recorded result of the command with this idempotency key."""
    if key is None:
        return None
    return one_row(CommandRow, connection.execute(select(COMMAND).where(COMMAND.c.key == key)))


def note_command(connection: Connection, key: str | None, **values: Any) -> None:
    """Record the result of a command: agent_id, turn_id, happened, at."""
    if key is not None:
        connection.execute(insert(COMMAND).values(key=key, **values))


def add_to_prompt(connection: Connection, turn_id: str, text: str) -> None:
    """Add to the task of a turn that has not begun."""
    connection.execute(
        update(TURN)
        .where(TURN.c.id == turn_id, TURN.c.status == TurnStatus.QUEUED)
        .values(prompt=TURN.c.prompt + "\n\n" + text)
    )


def suspend_turn(
    connection: Connection, claim: Claim, wait: Wait, usage: RunUsage, now: float, *, prompt_received: bool = True
) -> None:
    """Suspend the turn, count its use and free its slot; when resumed, it continues where it stopped.

    `prompt_received`: the session has shown that it has the prompt.
    """
    agent = owned_row(connection, claim.agent_id, claim.epoch)
    turn = turn_row(connection, claim.turn_id)
    run_ended(connection, agent, claim, budgets.at_least_live(agent, usage), now)
    pauses.suspend_turn(connection, claim.agent_id, turn, wait, now, prompt_received=prompt_received)
    if any(child.status in OPEN for child in children.of(connection, claim.agent_id)):
        leases.release(
            connection, claim.agent_id, now, leases.CHECKOUT
        )  # they may have to write before it can continue


def suspend_for_quota(connection: Connection, claim: Claim, told: QuotaRefusal, usage: RunUsage, now: float) -> None:
    """Suspend the turn, and the account's other agents, until the account's quota is back."""
    agent = owned_row(connection, claim.agent_id, claim.epoch)
    breaker = pauses.open_breaker(connection, agent, told, now)
    wait = pauses.quota_wait(connection, agent.account, agent.provider, breaker, now)
    suspend_turn(connection, claim, wait, usage, now)


def suspend_for_answer(connection: Connection, claim: Claim, asked: NewQuestion, usage: RunUsage, now: float) -> None:
    """End the run in the middle of a tool call, or before it began: the agent waits without slot or process."""
    agent = owned_row(connection, claim.agent_id, claim.epoch)
    before = AUTHOR if asked.tool == AUTHOR else ""
    connection.execute(
        update(TURN).where(TURN.c.id == claim.turn_id).values(status=TurnStatus.WAITING, suspended_for=before)
    )
    run_ended(connection, agent, claim, usage, now)
    question_id = questions.ask(connection, claim.agent_id, claim.turn, asked)
    wait = Wait(kind=WaitKind(asked.kind), until=asked.deadline_at)
    told = {"question": asked.text, "question_id": question_id, "call_id": asked.call_id}
    suspend(connection, agent_row(connection, claim.agent_id), claim.turn, wait, now, **told)


def suspend_for_children(connection: Connection, claim: Claim, asked: NewQuestion, usage: RunUsage, now: float) -> None:
    """End the run in the middle of a tool call that the last child's end answers; at once if none is at work."""
    agent = owned_row(connection, claim.agent_id, claim.epoch)
    run_ended(connection, agent, claim, usage, now)
    children.suspend(connection, claim, asked, now)


def answer(
    connection: Connection,
    agent_id: str,
    text: str,
    now: float,
    *,
    by: AnsweredBy = AnsweredBy.ORCHESTRATOR,
    question_id: str | None = None,
    read: str | None = None,
) -> QuestionRow:
    """Record the answer to the question that is meant and queue the agent to resume its turn. Returns the question.

    `read` is the id of the question that the caller was shown whole.

    Raises:
        ConflictError: the agent does not wait for an answer, has another question, or asks to be allowed more than the
            caller was shown.
        InvalidError: the agent waits for a permission, and the text does not answer one.
    """
    agent = agent_row(connection, agent_id)
    question = questions.open_question(connection, agent_id)
    if agent.status is not Status.WAITING or question is None or question.kind not in INBOX:
        raise ConflictError(f"{agent.name} is not waiting for an answer: it is {agent.status}", hint="read its status")
    questions.check_meant(agent.name, question, question_id, by)
    given = checked_answer(question.kind, chosen(question.options, text))
    if by is not AnsweredBy.DEADLINE:
        questions.check_read(agent.name, question, given, read)
    questions.put_answer(connection, question.id, given, by, now)
    move(connection, agent, Status.QUEUED, now, wait=SLOT, pending=None)
    turn = next_turn(connection, agent_id)
    if turn is None:
        raise ConflictError(f"{agent.name} has no turn with that question", hint="give it its next task")
    told = {
        "question_id": question.id,
        "call_id": question.call_id,
        "by": str(by),
        "answer": one_line(given, 300),
    }
    emit(connection, agent_id, EventKind.ANSWERED, now, turn.ordinal, **told)
    return question


def drop_question(connection: Connection, agent_id: str, now: float) -> None:
    """End the turn that waits for an answer as interrupted, and drop its question."""
    agent = agent_row(connection, agent_id)
    turn = next_turn(connection, agent_id)
    if turn is not None and turn.status in TURN_SUSPENDED:
        connection.execute(
            update(TURN)
            .where(TURN.c.id == turn.id)
            .values(status=TurnStatus.INTERRUPTED, reason="interrupted", ended_at=now)
        )
        if turn.status == TurnStatus.RECOVERING:
            budgets.fold(connection, agent, now)
            cost_is_unknown(connection, agent_id, turn.id)
        cursor = emit(connection, agent_id, EventKind.INTERRUPTED, now, turn.ordinal, reason="interrupted")
        outcomes.record(connection, agent_id, turn.id, TurnStatus.INTERRUPTED, cursor)
    leases.release(connection, agent_id, now, leases.CHECKOUT)
    withdraw(connection, agent)
    rest(connection, agent, Status.INTERRUPTED, "", now)


def withdraw(connection: Connection, agent: AgentRow) -> None:
    """Drop the agent's last question: the conversation still contains its call, which is now denied."""
    questions.drop(connection, agent.id)


def expire(connection: Connection, now: float) -> int:
    """Give the default answer to every question whose deadline has passed; returns how many."""
    late = questions.overdue(connection, now)
    for question in late:
        agent = agent_row(connection, question.agent_id)
        if agent.status is Status.WAITING:
            answer(connection, agent.id, question.fallback, now, by=AnsweredBy.DEADLINE, question_id=question.id)
        else:
            questions.drop(connection, agent.id)
    return len(late)


def rest(connection: Connection, agent: AgentRow, status: Status, reason: str, now: float) -> None:
    """Give the agent the status of its ended turn, or queue it again if it has more turns.

    After a failure that its next task would meet, too, they are held until a command releases or drops them.
    """
    more = next_turn(connection, agent.id)
    fresh = agent_row(connection, agent.id)
    if more is not None and status is Status.FAILED and reason in HOLDS_QUEUE:
        count = ready_queue.count_queued(connection, agent.id)
        held = Wait(kind=WaitKind.HELD, on=reason, detail=quantity(count, "task"))
        suspend(connection, fresh, more.ordinal, held, now)
    elif more is not None:
        move(connection, fresh, Status.QUEUED, now, wait=SLOT, owner=None)
    else:
        move(connection, fresh, status, now, reason=reason, owner=None)
        source_ended(connection, agent.id, status)
        children.ended(connection, fresh, now)


def finish(
    connection: Connection,
    claim: Claim,
    ended: TurnResult,
    usage: RunUsage,
    now: float,
    *,
    asked: NewQuestion | None = None,
) -> None:
    """End the turn with its one terminal event, count its cost, free its slot and checkout, update its waiters.

    `asked` is a question in the middle of which it ended.

    Raises:
        StaleOwnerError: the agent was deleted or claimed again, or the turn has ended; nothing is written.
    """
    agent = owned_row(connection, claim.agent_id, claim.epoch)
    status, row = ended.status, asdict(ended)
    done = connection.execute(
        update(TURN).where(TURN.c.id == claim.turn_id, TURN.c.status.in_(TURN_OPEN)).values(**row, ended_at=now)
    )
    if not done.rowcount:
        raise StaleOwnerError(f"turn {claim.turn_id} has already ended")
    run_ended(connection, agent, claim, usage if usage.tokens.model_calls else budgets.at_least_live(agent, usage), now)
    kind = EventKind(f"turn.{status}")
    if kind not in TERMINAL:
        raise ConflictError(f"{status} does not end a turn")
    cursor = emit(
        connection,
        claim.agent_id,
        kind,
        now,
        claim.turn,
        reason=ended.reason,
        detail=ended.detail,
        cost_usd=usage.cost_usd,
        changes=row["changes"],
    )
    outcomes.record(connection, claim.agent_id, claim.turn_id, status, cursor)
    withdraw(connection, agent)
    if asked:
        questions.ask_in_vain(connection, agent.id, claim.turn, asked)
    if status is TurnStatus.COMPLETE:
        pauses.close(connection, agent)
    leases.release(connection, claim.agent_id, now, leases.CHECKOUT)
    shown = "" if status is TurnStatus.COMPLETE else ended.reason
    rest(connection, agent, Status(str(status)), shown, now)


def run_ended(connection: Connection, agent: AgentRow, claim: Claim, usage: RunUsage, now: float) -> None:
    """Count what a run of the claimed turn used, and its time; `agent` is the row as it was before."""
    count(connection, agent, claim.turn_id, usage)
    budgets.run_ended(connection, agent, now)
    if agent.live_tokens or agent.live_cost_usd:  # it was an estimate: the real figure may leave room for others
        budgets.resume(connection, now)


def count(connection: Connection, agent: AgentRow, turn_id: str, usage: RunUsage) -> None:
    """Add the run's tokens and cost to its turn and its agent; an unknown cost makes the sums unknown."""
    cost, tokens = usage.cost_usd, usage.tokens
    connection.execute(
        update(TURN)
        .where(TURN.c.id == turn_id)
        .values(
            input_tokens=TURN.c.input_tokens + tokens.input_tokens,
            output_tokens=TURN.c.output_tokens + tokens.output_tokens,
            cache_read_tokens=TURN.c.cache_read_tokens + tokens.cache_read_tokens,
            cache_write_tokens=TURN.c.cache_write_tokens + tokens.cache_write_tokens,
            model_calls=TURN.c.model_calls + tokens.model_calls,
        )
    )
    values: AgentChange = {
        "tokens": agent.tokens + tokens.total_tokens,
        "session_cost_usd": usage.session_cost_usd,
        "live_tokens": 0,
        "live_cost_usd": 0.0,
    }
    if cost == 0 and usage.session_cost_usd is None:
        del values["session_cost_usd"]  # it ended before it could report the session's total
    if cost is None:
        values["cost_unknown"] = True
        values["cost_usd"] = agent.cost_usd + agent.live_cost_usd
        connection.execute(update(TURN).where(TURN.c.id == turn_id).values(cost_unknown=True))
    else:
        values["cost_usd"] = agent.cost_usd + cost
        connection.execute(update(TURN).where(TURN.c.id == turn_id).values(cost_usd=TURN.c.cost_usd + cost))
    if tokens.context_tokens is not None:
        values["context_tokens"] = tokens.context_tokens
    if tokens.context_window_tokens is not None:
        values["context_window_tokens"] = tokens.context_window_tokens
    change(connection, agent.id, **values)
