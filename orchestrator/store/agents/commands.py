"""Operations for commands to an agent: its next task, the answer to its question, new caps, or a stop.

Each reads the agent's state, decides (`domain.command`) and writes in one transaction, so the state that was
decided on cannot change before the decision is carried out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.domain.agent import OPEN, Account, Brief, Status
from orchestrator.domain.budget import Unit
from orchestrator.domain.check import UNCHANGED, NewChecks
from orchestrator.domain.command import (
    AddToPrompt,
    AgentState,
    AnswerQuestion,
    BindAccount,
    CommandOptions,
    Decision,
    DropQueue,
    EndDurableWait,
    Interruption,
    InterruptTurn,
    NextTurn,
    Queueing,
    ReleaseQueue,
    ReplaceTurn,
    SteerTurn,
    asks,
    caps_receipt_text,
    check_command,
    decide,
    decide_interrupt,
    receipt_text,
    urgency_of,
)
from orchestrator.domain.durable_wait import DurableWaitStatus, WaitEnd
from orchestrator.domain.persona import Persona
from orchestrator.domain.question import AnsweredBy
from orchestrator.domain.turn import DeliveryMode
from orchestrator.domain.wait import WaitKind
from orchestrator.errors import ConflictError
from orchestrator.store.agents import lifecycle, orchestrator_waits
from orchestrator.store.engine.connection import Connection
from orchestrator.store.families import budgets, children
from orchestrator.store.schema.states import wait_of
from orchestrator.store.schema.transitions import agent_row
from orchestrator.store.turns import cancellation, turns
from orchestrator.store.turns.checks import set_checks
from orchestrator.store.waits import leases, questions, ready_queue
from orchestrator.store.waits.inputs import set_inputs, source_opened
from orchestrator.store.waits.suspension import resume

MESSAGE = "a message for you, while your agents work on:\n{text}\nact on it, then wait_for_agents again"


@dataclass(frozen=True, kw_only=True)
class Command:
    """A validated command, ready for its transaction."""

    agent_id: str
    text: str
    mode: DeliveryMode
    inputs: Sequence[str] | None
    turn_id: str
    call_key: str | None
    account: Account
    """the caller's"""
    any_end: Collection[str] = ()
    """the inputs that may end in any way"""
    briefs: Sequence[Brief] = ()
    """what the chains of the inputs were told"""
    caps: Mapping[Unit, float] = field(default_factory=dict[Unit, float])
    """caps to set first; with them the text may be empty"""
    verify: NewChecks = UNCHANGED
    """changes to the checks of its turns, from this one on"""
    only_answer: bool = False
    """refuse it unless the agent waits for an answer"""
    by: AnsweredBy = AnsweredBy.ORCHESTRATOR
    """who answers, if this is an answer"""
    question_id: str | None = None
    """the question that it answers; None: the caller was shown none"""
    read: str | None = None
    """the id of the question that its caller was shown whole"""
    knows_closed: bool = False
    """its caller has answered that question itself"""
    knows_agent: bool = True
    """its caller was shown what the agent asks, or that it asks nothing"""

    @property
    def may_answer(self) -> bool:
        """Whether it reads as an answer: only tasks come with a mode, inputs or checks."""
        plain = self.mode is DeliveryMode.QUEUE and self.inputs is None and self.verify == UNCHANGED
        return bool(self.text) and plain


@dataclass(frozen=True, kw_only=True)
class Commanded:
    """The result of a command; `steer`: the running turn may absorb this turn's text."""

    turn_id: str | None
    happened: str
    steer: bool = False
    running: Mapping[str, str] = field(default_factory=dict[str, str])
    """turns to stop now, by agent: its own and its descendants'"""
    answered: str | None = None
    """the id of the question that it answered"""
    is_repeat: bool = False
    """it was carried out before, under the same idempotency key"""


def command(connection: Connection, asked: Command, now: float) -> Commanded:
    """Carry out the command in whatever state the agent is; a repeated idempotency key has no further effect."""
    if (before := turns.commanded(connection, asked.call_key)) is not None:
        if before.agent_id != asked.agent_id:
            raise ConflictError(
                "this idempotency key was used for another agent", hint="send each command under its own"
            )
        return Commanded(turn_id=before.turn_id, happened=before.happened, is_repeat=True)
    done = _carry_out(connection, asked, now)
    set_checks(connection, asked.agent_id, done.turn_id, asked.verify)
    turns.note_command(
        connection, asked.call_key, agent_id=asked.agent_id, turn_id=done.turn_id, happened=done.happened, at=now
    )
    return done


def _carry_out(connection: Connection, asked: Command, now: float) -> Commanded:
    terms = CommandOptions(
        mode=asked.mode,
        only_answer=asked.only_answer,
        sets_inputs=asked.inputs is not None,
        sets_checks=asked.verify.checks is not None,
    )
    # single writer: the state stays true until the command is carried out
    state = _state(connection, asked.agent_id, now)
    _check_open(connection, asked, state)
    if asked.caps:
        check_command(state, terms)
        told = _set_caps(connection, asked, now)
        if not asked.text:
            return Commanded(turn_id=None, happened=told)
        state = _state(connection, asked.agent_id, now)
    return _apply(connection, asked, decide(state, terms), now)


def _check_open(connection: Connection, asked: Command, state: AgentState) -> None:
    """Check that a text for a question that was closed meanwhile does not become a task.

    Raises:
        ClosedQuestionError: it would.
    """
    if asks(state) or state.status is Status.DELETED:
        return
    agent = agent_row(connection, asked.agent_id)
    if asked.only_answer:
        questions.check_open(connection, agent, asked.question_id)
    elif asked.may_answer and (asked.knows_closed or not (asked.question_id or asked.knows_agent)):
        questions.check_no_answer(connection, agent, asked.question_id, asked.text)
    elif asked.may_answer and asked.question_id is not None:
        questions.check_open(connection, agent, asked.question_id)


def _set_caps(connection: Connection, asked: Command, now: float) -> str:
    """Set the caps first: an agent that resumes by them no longer waits for budget."""
    scope = Persona(**agent_row(connection, asked.agent_id).persona_body).cap_scope
    resumed = asked.agent_id in budgets.raise_caps(connection, asked.agent_id, scope, asked.caps, now)
    return caps_receipt_text(_state(connection, asked.agent_id, now), asked.caps, resumed=resumed)


def _state(connection: Connection, agent_id: str, now: float) -> AgentState:
    agent = agent_row(connection, agent_id)
    turn = turns.next_turn(connection, agent_id)
    wait = wait_of(agent)
    kind = None if wait is None else wait.kind
    begun = ready_queue.has_begun(turn)
    return AgentState(
        id=agent_id,
        name=agent.name,
        status=agent.status,
        wait=wait,
        next_turn=None if turn is None else NextTurn(id=turn.id, ordinal=turn.ordinal, has_begun=begun),
        durable_wait=orchestrator_waits.open_wait(connection, agent_id) if kind is WaitKind.AGENTS else None,
        rooms=budgets.rooms(connection, agent_id, now) if kind is WaitKind.BUDGET else (),
    )


def _apply(connection: Connection, asked: Command, decision: Decision, now: float) -> Commanded:
    match decision:
        case AddToPrompt(turn):
            turn_id = turn.id
            turns.add_to_prompt(connection, turn_id, asked.text)
            source_opened(connection, asked.agent_id)
            if asked.inputs is not None:
                _set_inputs(connection, asked, turn.ordinal)
        case AnswerQuestion():
            return _answer(connection, asked, decision, now)
        case EndDurableWait(wait_id, turn_id):
            told = MESSAGE.format(text=asked.text)
            orchestrator_waits.end(connection, wait_id, DurableWaitStatus.COMPLETED, now, WaitEnd(result=told))
        case _:
            return _queue(connection, asked, decision, now)
    return Commanded(turn_id=turn_id, happened=receipt_text(decision))


def _answer(connection: Connection, asked: Command, decision: AnswerQuestion, now: float) -> Commanded:
    by, meant, turn = asked.by, asked.question_id, turns.next_turn(connection, asked.agent_id)
    question = turns.answer(connection, asked.agent_id, asked.text, now, by=by, question_id=meant, read=asked.read)
    return Commanded(turn_id=None if turn is None else turn.id, happened=receipt_text(decision), answered=question.id)


def _queue(connection: Connection, asked: Command, decision: Queueing, now: float) -> Commanded:
    """Queue the text as a new turn, after ending what must make way for it; the result names the turns to stop."""
    agent_id, running = asked.agent_id, dict[str, str]()
    if decision in {BindAccount(), ReplaceTurn(binds_account=True)}:
        lifecycle.rebind(connection, agent_id, asked.account)
        lifecycle.account_arrived(connection, asked.account.id, now)
    if isinstance(decision, InterruptTurn):
        running = {agent_id: cancellation.ask(connection, agent_id)} | interrupt_below(connection, agent_id, now)
    ordinal = turns.queue_turn(
        connection, agent_id, turn_id=asked.turn_id, prompt=asked.text, now=now, urgent=urgency_of(decision)
    )
    if isinstance(decision, DropQueue):
        lifecycle.drop_queued(connection, agent_id, now, keep=asked.turn_id)
    if isinstance(decision, (ReleaseQueue, DropQueue)):
        resume(connection, agent_row(connection, agent_id), now)
    if isinstance(decision, ReplaceTurn):  # once the new turn is queued; otherwise the agent would end and be reported
        turns.drop_question(connection, agent_id, now)
        running = interrupt_below(connection, agent_id, now)
    _set_inputs(connection, asked, ordinal)
    steer = isinstance(decision, SteerTurn)
    return Commanded(turn_id=asked.turn_id, happened=receipt_text(decision, ordinal), steer=steer, running=running)


def _set_inputs(connection: Connection, asked: Command, ordinal: int) -> None:
    set_inputs(connection, asked.agent_id, ordinal, asked.inputs or (), asked.any_end)
    lifecycle.add_briefs(connection, asked.agent_id, asked.briefs)


def interrupt(connection: Connection, agent_id: str, now: float) -> dict[str, str]:
    """Interrupt the agent and all its descendants; returns the running turns that its caller must stop, by agent.

    Raises:
        ConflictError: none of them has an open turn.
    """
    below = [one for one in children.subtree(connection, agent_id)[1:] if _is_open(connection, one)]
    what = decide_interrupt(_state(connection, agent_id, now), descendants_open=bool(below))
    running = _interrupt(connection, agent_id, what, now)
    return ({agent_id: running} if running else {}) | interrupt_below(connection, agent_id, now)


def interrupt_below(connection: Connection, agent_id: str, now: float) -> dict[str, str]:
    """Interrupt the descendants alone, with all their queued turns; returns their running turns, if any."""
    below = [one for one in children.subtree(connection, agent_id)[1:] if _is_open(connection, one)]
    running: dict[str, str] = {}
    for one in below:
        if _is_open(connection, one):  # the end of another one may have ended it
            what = decide_interrupt(_state(connection, one, now))
            running[one] = _interrupt(connection, one, what, now, whole=True)
    return {one: turn for one, turn in running.items() if turn}


def _is_open(connection: Connection, agent_id: str) -> bool:
    return agent_row(connection, agent_id).status in OPEN


def _interrupt(connection: Connection, agent_id: str, what: Interruption, now: float, *, whole: bool = False) -> str:
    """Return the running turn that must be stopped; if none runs, end the next one and return ''.

    Later queued turns are kept, unless a failure holds them; with `whole` they end, too, if the agent has not begun its
    next turn.
    """
    match what:
        case Interruption.RUNNING:
            return cancellation.ask(connection, agent_id)
        case Interruption.BEGUN:
            turns.drop_question(connection, agent_id, now)
        case Interruption.QUEUED | Interruption.HELD:
            agent, whole = agent_row(connection, agent_id), whole or what is Interruption.HELD
            lifecycle.end_open_turns(connection, agent, now, reason="interrupted", whole=whole)
            leases.release(connection, agent_id, now, leases.CHECKOUT)
            turns.withdraw(connection, agent)
            turns.rest(connection, agent, Status.INTERRUPTED, "before it began", now)
        case Interruption.DESCENDANTS:
            pass
    return ""
