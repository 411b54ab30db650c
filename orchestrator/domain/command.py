"""Decides from an agent's state what a command (a task or an answer) or an interrupt does, and words the receipt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.domain.agent import OPEN, Status
from orchestrator.domain.budget import Headroom, Unit, format_cap, remedy_for, shortage
from orchestrator.domain.turn import DeliveryMode, TurnPriority
from orchestrator.domain.wait import ANSWERS, SUSPENDED, Wait, WaitKind, wait_words
from orchestrator.errors import ConflictError


@dataclass(frozen=True, kw_only=True)
class NextTurn:
    """The turn that an agent runs next."""

    id: str
    ordinal: int
    has_begun: bool
    """it has no session: it waits in the middle, or its session died"""


@dataclass(frozen=True, kw_only=True)
class AgentState:
    """The parts of an agent's state that decide what a command does to it."""

    id: str
    name: str
    status: Status
    wait: Wait | None
    next_turn: NextTurn | None
    durable_wait: str | None = None
    """the id of the durable wait in which it waits for other agents; a text can end it"""
    rooms: Sequence[Headroom] = ()
    """the caps that apply to it, if it waits for budget"""


@dataclass(frozen=True, kw_only=True)
class CommandOptions:
    """The properties of a command that decide how it is carried out."""

    mode: DeliveryMode = DeliveryMode.QUEUE
    only_answer: bool = False
    """refuse it unless the agent waits for an answer"""
    sets_inputs: bool = False
    sets_checks: bool = False


@dataclass(frozen=True)
class AddToPrompt:
    """Add the text to the prompt of the queued turn, which has not begun."""

    turn: NextTurn


@dataclass(frozen=True)
class AnswerQuestion:
    """Store the text as the answer to the question that the agent waits with."""


@dataclass(frozen=True)
class EndDurableWait:
    """End the agent's wait for others; its call returns with the text."""

    wait_id: str
    turn_id: str | None


@dataclass(frozen=True)
class ReplaceTurn:
    """End the turn that has begun but is not running, and run a new one next."""

    binds_account: bool
    """the agent waits for an account; it gets the caller's"""


@dataclass(frozen=True)
class InterruptTurn:
    """Interrupt the running turn, and run a new one next."""


@dataclass(frozen=True)
class SteerTurn:
    """Queue a turn with a text that the running turn may absorb."""


@dataclass(frozen=True)
class BindAccount:
    """Give the agent the caller's account, and queue a turn after the one that waited for it."""


@dataclass(frozen=True)
class ReleaseQueue:
    """Queue a turn before the turns that a failure holds, and release them."""

    held: str


@dataclass(frozen=True)
class DropQueue:
    """Drop the turns that a failure holds, and queue a turn in their place."""

    held: str


@dataclass(frozen=True)
class QueueBehindWait:
    """Queue a turn after the one that is suspended with this wait."""

    wait: Wait


@dataclass(frozen=True)
class QueueTurn:
    """Queue a turn."""

    is_behind_running: bool
    cannot_steer: bool
    """the running turn was meant to absorb it"""


QueueingOnly = ReplaceTurn | InterruptTurn | BindAccount | ReleaseQueue | DropQueue | QueueBehindWait | QueueTurn
Queueing = SteerTurn | QueueingOnly
"""decisions that queue the text as a separate turn; a steer's is dropped when the running turn has read it"""
Decision = AddToPrompt | AnswerQuestion | EndDurableWait | Queueing


def check_command(agent: AgentState, command: CommandOptions) -> None:
    """Check that the agent accepts commands like this one at all; `decide` decides what the text does.

    Raises:
        ConflictError: it is deleted, or the command is only an answer and it has no question.
    """
    if agent.status is Status.DELETED:
        raise ConflictError(f"{agent.name} is deleted", hint="create a new agent")
    if command.only_answer and not asks(agent):
        raise ConflictError(
            f"{agent.name} is not waiting for an answer: it is {agent.status}",
            hint="give it its next task with command_agent (fleet command)",
        )


def asks(agent: AgentState) -> bool:
    """Whether the agent waits for an answer."""
    return agent.status is Status.WAITING and agent.wait is not None and agent.wait.kind in ANSWERS


def decide(agent: AgentState, command: CommandOptions) -> Decision:
    """Decide what the text of the command does to the agent in this state; new caps are set first and may change it.

    Raises:
        ConflictError: the state does not allow it; the hint says what to do instead.
    """
    check_command(agent, command)
    if agent.status is Status.WAITING:
        return _decide_waiting(agent, command)
    if agent.status is Status.WORKING:
        return _decide_working(command)
    turn = agent.next_turn
    if agent.status is Status.QUEUED and turn is not None and not turn.has_begun:
        return AddToPrompt(turn)
    if agent.status is Status.QUEUED and command.mode is DeliveryMode.INTERRUPT:
        return ReplaceTurn(binds_account=False)
    return QueueTurn(is_behind_running=False, cannot_steer=command.mode is DeliveryMode.STEER)


def _decide_working(command: CommandOptions) -> Decision:
    if command.mode is DeliveryMode.INTERRUPT:
        return InterruptTurn()
    if command.mode is DeliveryMode.STEER and not command.sets_inputs and not command.sets_checks:
        return SteerTurn()
    return QueueTurn(is_behind_running=True, cannot_steer=command.mode is DeliveryMode.STEER)


def _decide_waiting(agent: AgentState, command: CommandOptions) -> Decision:
    """Decide what a command does to an agent that waits: for its account, an answer, budget, time, or other agents."""
    wait = agent.wait
    if wait is not None and wait.kind is WaitKind.HELD:
        return DropQueue(wait.detail) if command.mode is DeliveryMode.INTERRUPT else ReleaseQueue(wait.detail)
    waits_for_account = wait is not None and wait.kind is WaitKind.ACCOUNT
    if command.mode is DeliveryMode.INTERRUPT:
        return ReplaceTurn(binds_account=waits_for_account)
    if waits_for_account:
        return BindAccount()
    if wait is not None and wait.kind is WaitKind.AGENTS and agent.durable_wait is not None:
        return EndDurableWait(agent.durable_wait, None if agent.next_turn is None else agent.next_turn.id)
    if wait is not None and wait.kind in SUSPENDED:
        _check_budget(agent, wait)
        return QueueBehindWait(wait)
    if not asks(agent):
        raise ConflictError(f"{agent.name} is not waiting for an answer: it is {agent.status}", hint="read its status")
    return AnswerQuestion()


def _check_budget(agent: AgentState, wait: Wait) -> None:
    """Check that a task for this waiting agent would not have to wait for more budget."""
    if wait.kind is WaitKind.BUDGET:
        raise ConflictError(
            f"{agent.name} waits: {wait_words(wait)}; nothing was queued",
            hint=remedy_for(wait, agent.name, agent.rooms),
        )


def urgency_of(decision: Queueing) -> TurnPriority:
    """Return how the new turn is ordered among the agent's queued turns."""
    match decision:
        case ReplaceTurn() | InterruptTurn():
            return TurnPriority.REPLACES
        case SteerTurn():
            return TurnPriority.STEERED
        case ReleaseQueue():
            return TurnPriority.RETRIES
        case BindAccount() | DropQueue() | QueueBehindWait() | QueueTurn():
            return TurnPriority.NONE


def receipt_text(decision: Decision, turn: int = 0) -> str:
    """Return the decision in words for its receipt, once it is carried out; `turn` is the ordinal of a new turn."""
    match decision:
        case AddToPrompt():
            return "added to the task of its queued turn"
        case AnswerQuestion():
            return "answered: the agent continues"
        case EndDurableWait():
            return "woken: its wait_for_agents returns with this text"
        case SteerTurn():
            return f"handed into the running turn at its next tool call; if that turn ends first, it is turn {turn}"
        case _:
            return f"turn {turn}: {_queued(decision)}"


def _queued(decision: QueueingOnly) -> str:
    match decision:
        case QueueTurn(is_behind_running=True, cannot_steer=cannot_steer):
            reason = " (not steered: inputs and checks belong to a turn of their own)" if cannot_steer else ""
            return f"queued behind the running turn{reason}"
        case QueueTurn(cannot_steer=cannot_steer):
            return "queued" + (" (not steered: no turn is running)" if cannot_steer else "")
        case InterruptTurn():
            return "the running turn is interrupted; this one is next"
        case _:
            return _queued_while_waiting(decision)


def _queued_while_waiting(decision: ReplaceTurn | BindAccount | ReleaseQueue | DropQueue | QueueBehindWait) -> str:
    match decision:
        case ReplaceTurn():
            return "its open turn was dropped; the new task is next"
        case BindAccount():
            return "its account is available again; queued behind its open turn"
        case ReleaseQueue(held):
            return f"it runs first, then what was held ({held})"
        case DropQueue(held):
            return f"it runs next; what was held is dropped ({held})"
        case QueueBehindWait(wait):
            return f"queued behind its open turn ({wait_words(wait)})"


def caps_receipt_text(agent: AgentState, caps: Mapping[Unit, float], *, resumed: bool) -> str:
    """Return the effect of new caps in words for the receipt; `agent` is its state under them."""
    told = "its budget is now " + ", ".join(format_cap(unit, cap) for unit, cap in caps.items())
    if resumed:
        return f"{told}; its turn continues where it stopped"
    short = shortage(agent.rooms, starts_turn=False)
    return told if short is None else f"{told}; it still waits: {short.shown(agent.id)}"


def release_call(name: str, *, person: bool = False) -> str:
    """Return the calls that release or drop the queue of an agent that a failure holds."""
    if person:
        return (
            f'fleet command {name} "<try again, or a task>" runs that first, then what is held; '
            f"with --interrupt it runs instead; fleet rm {name} drops all"
        )
    return (
        f'command_agent(agent="{name}", task="<try again, or a task>") runs that first, then what is held; '
        'mode="interrupt" runs it instead; delete_agent drops all'
    )


class Interruption(StrEnum):
    """What ends when an agent is interrupted; its descendants are interrupted as well."""

    RUNNING = "running"
    """The running turn: its session is told to end it."""
    BEGUN = "begun"
    """The turn that has begun and has no session."""
    QUEUED = "queued"
    """The queued turn that was next."""
    HELD = "held"
    """All its queued turns, which a failure holds."""
    DESCENDANTS = "descendants"
    """No turn of the agent itself: only descendants have an open turn."""


def decide_interrupt(agent: AgentState, *, descendants_open: bool = False) -> Interruption:
    """Decide what an interrupt ends.

    Raises:
        ConflictError: neither the agent nor a descendant has an open turn; the hint says what to do instead.
    """
    if agent.status is Status.WORKING:
        return Interruption.RUNNING
    if agent.status in OPEN:
        if agent.wait is not None and agent.wait.kind is WaitKind.HELD:
            return Interruption.HELD
        return Interruption.BEGUN if agent.next_turn and agent.next_turn.has_begun else Interruption.QUEUED
    if descendants_open:
        return Interruption.DESCENDANTS
    raise ConflictError(f"{agent.name} has no running turn: it is {agent.status}", hint="give it its next task")


def interrupt_receipt_text(*, ends_running: bool) -> str:
    """Return an interrupt in words for its receipt; `ends_running`: it reached a running turn, a descendant's too."""
    return "the running turn is being interrupted" if ends_running else "its open turn was ended before it went on"
