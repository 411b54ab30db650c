"""Operations on commands: the next task of an agent, the answer to its question, more budget, or a stop.

Each decides and writes in one transaction, so that what a command meets cannot change under it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, RowMapping

from orchestrator.domain.agent import OPEN, Status
from orchestrator.domain.budget import Unit, remedy_for, shortage, shown_amount
from orchestrator.domain.persona import Persona
from orchestrator.domain.question import AnsweredBy
from orchestrator.domain.turn import Mode, Urgency
from orchestrator.domain.wait import ANSWERS, SUSPENDED, Wait, WaitKind, wait_words
from orchestrator.errors import ConflictError
from orchestrator.store.agents import lifecycle, orchestrator_waits
from orchestrator.store.families import budgets, children
from orchestrator.store.schema.states import wait_in
from orchestrator.store.schema.transitions import agent_row
from orchestrator.store.turns import cancellation, turns
from orchestrator.store.turns.checks import set_checks
from orchestrator.store.waits import leases, ready_queue
from orchestrator.store.waits.inputs import set_inputs

STEERED = "handed into the running turn at its next tool call; the next turn if that ends before"
STEER_QUEUED = {
    True: " (not steered: inputs and checks belong to a turn of their own)",
    False: " (not steered: no turn is running)",
}

MESSAGE = "a message for you, while your agents work on:\n{text}\nact on it, then wait_for_agents again"


@dataclass(frozen=True, kw_only=True)
class Command:
    """A checked command, ready for its transaction."""

    agent_id: str
    text: str
    mode: Mode
    inputs: Sequence[str] | None
    turn_id: str
    call_key: str | None
    account: tuple[str, dict[str, str], dict[str, str]]
    """id, public variables and environment of the caller's account"""
    caps: Mapping[Unit, float] = field(default_factory=dict[Unit, float])
    """what its caps are raised (or lowered) to first; with them the text may be empty"""
    verify: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """what its turns must show from this one on (`checks`, `check_retries`); None: what they had to before"""
    only_answer: bool = False
    """refuse it unless the agent waits for an answer"""
    by: AnsweredBy = AnsweredBy.ORCHESTRATOR
    """who answers, if this is an answer"""
    question_id: str | None = None
    """which question that answers; None: whoever commands has been shown none"""


@dataclass(frozen=True, kw_only=True)
class Commanded:
    """What became of it; `steer`: the running turn may take this turn's text in."""

    turn_id: str | None
    happened: str
    steer: bool = False
    running: Mapping[str, str] = field(default_factory=dict[str, str])
    """turns that must now be stopped, by agent: its own and its descendants'"""


def command(connection: Connection, asked: Command, now: float) -> Commanded:
    """Carry the command out, whatever the agent is doing; the same idempotency key does it once."""
    if (before := turns.commanded(connection, asked.call_key)) is not None:
        if before["agent_id"] != asked.agent_id:
            raise ConflictError(
                "this idempotency key was used for another agent", hint="send each command under its own"
            )
        return Commanded(turn_id=before["turn_id"], happened=before["happened"])
    done = _carry_out(connection, asked, now)
    set_checks(connection, asked.agent_id, done.turn_id, asked.verify)
    turns.note_command(
        connection, asked.call_key, agent_id=asked.agent_id, turn_id=done.turn_id, happened=done.happened, at=now
    )
    return done


def _carry_out(connection: Connection, asked: Command, now: float) -> Commanded:
    agent = agent_row(connection, asked.agent_id)
    _check(agent, Status(agent["status"]), asked)
    if asked.caps:
        topped = top_up(connection, agent, asked.caps, now)
        if not asked.text:
            return Commanded(turn_id=None, happened=topped)
        agent = agent_row(connection, asked.agent_id)
    status = Status(agent["status"])
    if status is Status.WAITING:
        return _to_waiting(connection, agent, asked, now)
    if status is Status.QUEUED and (turn := _not_begun(connection, asked.agent_id)) is not None:
        turns.add_to_prompt(connection, turn[0], asked.text)
        if asked.inputs is not None:
            set_inputs(connection, asked.agent_id, turn[1], asked.inputs)
        return Commanded(turn_id=turn[0], happened="added to the task of its queued turn")
    if status is Status.WORKING:
        return _while_working(connection, asked, now)
    if status is Status.QUEUED and asked.mode is Mode.INTERRUPT:
        return _instead(connection, asked, now)
    return _queue(connection, asked, now, _queued(status, asked.mode))


def _while_working(connection: Connection, asked: Command, now: float) -> Commanded:
    if asked.mode is Mode.INTERRUPT:
        running = {asked.agent_id: cancellation.ask(connection, asked.agent_id)}
        running |= stop_below(connection, asked.agent_id, now)
        queued = _queue(connection, asked, now, "the running turn is interrupted; this one is next")
        return replace(queued, running=running)
    if asked.mode is Mode.STEER and asked.inputs is None and asked.verify.get("checks") is None:
        return _queue(connection, asked, now, STEERED, steer=True)
    return _queue(connection, asked, now, _queued(Status.WORKING, asked.mode))


def _queued(status: Status, mode: Mode) -> str:
    happened = "queued behind the running turn" if status is Status.WORKING else "queued"
    return happened + (STEER_QUEUED[status is Status.WORKING] if mode is Mode.STEER else "")


def _to_waiting(connection: Connection, agent: RowMapping, asked: Command, now: float) -> Commanded:
    """Carry out a command to an agent that waits: for its account, an answer, budget, time, its children."""
    if agent["wait_kind"] == WaitKind.ACCOUNT:
        lifecycle.rebind(connection, asked.agent_id, *asked.account)
        lifecycle.account_arrived(connection, asked.account[0], now)
        if asked.mode is not Mode.INTERRUPT:
            return _queue(connection, asked, now, "its account is at hand again; queued behind its open turn")
    if asked.mode is Mode.INTERRUPT:
        return _instead(connection, asked, now)
    if agent["wait_kind"] == WaitKind.AGENTS and orchestrator_waits.resume_with(
        connection, agent, MESSAGE.format(text=asked.text), now
    ):
        turn = turns.next_turn(connection, asked.agent_id)
        return Commanded(turn_id=turn["id"] if turn else None, happened="woken: its wait_for_agents returns with it")
    wait = wait_in(agent)
    if wait is not None and wait.kind in SUSPENDED:
        _check_budget(connection, agent, wait, now)
        return _queue(connection, asked, now, f"queued behind its open turn ({wait_words(wait)})")
    turn = turns.answer(connection, asked.agent_id, asked.text, now, by=asked.by, question_id=asked.question_id)
    return Commanded(turn_id=turn["id"], happened="answered: the very tool call that asked goes on")


def _instead(connection: Connection, asked: Command, now: float) -> Commanded:
    """End the turn that has begun and is not under way, and queue this one before all others.

    The new one is there first: without any turn the agent would have ended, and whoever waits for it would go on.
    """
    queued = _queue(connection, replace(asked, inputs=None), now, "its open turn was dropped; the new task is next")
    turns.drop_question(connection, asked.agent_id, now)
    running = stop_below(connection, asked.agent_id, now)
    set_inputs(connection, asked.agent_id, agent_row(connection, asked.agent_id)["turns"], asked.inputs or ())
    return replace(queued, running=running)


def _check(agent: RowMapping, status: Status, asked: Command) -> None:
    if status is Status.DELETED:
        raise ConflictError(f"{agent['name']} is deleted", hint="create a new agent")
    if asked.only_answer and (status is not Status.WAITING or agent["wait_kind"] not in ANSWERS):
        raise ConflictError(
            f"{agent['name']} is not waiting for an answer: it is {status}",
            hint="give it its next task with command_agent (fleet command)",
        )


def _not_begun(connection: Connection, agent_id: str) -> tuple[str, int] | None:
    turn = turns.next_turn(connection, agent_id)
    return (turn["id"], turn["ordinal"]) if turn is not None and turn["status"] == "queued" else None


def _queue(connection: Connection, asked: Command, now: float, happened: str, *, steer: bool = False) -> Commanded:
    ordinal = turns.queue_turn(
        connection,
        asked.agent_id,
        turn_id=asked.turn_id,
        prompt=asked.text,
        now=now,
        urgent=_urgency(asked.mode, steer=steer),
    )
    set_inputs(connection, asked.agent_id, ordinal, asked.inputs or ())
    return Commanded(turn_id=asked.turn_id, happened=f"turn {ordinal}: {happened}", steer=steer)


def _urgency(mode: Mode, *, steer: bool) -> Urgency:
    if mode is Mode.INTERRUPT:
        return Urgency.REPLACES
    return Urgency.STEERED if steer else Urgency.NONE


def stop_family(connection: Connection, agent_id: str, now: float) -> dict[str, str]:
    """Stop the agent and all its descendants at once; the running turns that must be interrupted, by agent.

    Raises:
        ConflictError: none of them has an open turn.
    """
    below = [one for one in children.subtree(connection, agent_id)[1:] if _is_open(connection, one)]
    if below and not _is_open(connection, agent_id):
        return stop_below(connection, agent_id, now)
    running = stop(connection, agent_id, now)
    return ({agent_id: running} if running else {}) | stop_below(connection, agent_id, now)


def stop_below(connection: Connection, agent_id: str, now: float) -> dict[str, str]:
    """The same for the descendants alone; none may have an open turn."""
    below = [one for one in children.subtree(connection, agent_id)[1:] if _is_open(connection, one)]
    running = {one: stop(connection, one, now, whole=True) for one in below if _is_open(connection, one)}
    return {one: turn for one, turn in running.items() if turn}


def _is_open(connection: Connection, agent_id: str) -> bool:
    return Status(agent_row(connection, agent_id)["status"]) in OPEN


def stop(connection: Connection, agent_id: str, now: float, *, whole: bool = False) -> str:
    """The running turn that must be interrupted; '' if there is none: the next one is then ended here.

    Queued turns behind it stay; of an agent that has not begun its next one they end, too, if it is stopped `whole`.

    Raises:
        ConflictError: the agent has no open turn.
    """
    agent = agent_row(connection, agent_id)
    status = Status(agent["status"])
    if status is Status.WORKING:
        return cancellation.ask(connection, agent_id)
    if status in {Status.QUEUED, Status.WAITING} and ready_queue.has_begun(turns.next_turn(connection, agent_id)):
        turns.drop_question(connection, agent_id, now)
        return ""
    if status in {Status.QUEUED, Status.WAITING}:
        lifecycle.end_open_turns(connection, agent, now, reason="interrupted", whole=whole)
        leases.release(connection, agent_id, now, leases.CHECKOUT)
        turns.withdraw(connection, agent)
        turns.rest(connection, agent, Status.INTERRUPTED, "before it began", now)
        return ""
    raise ConflictError(f"{agent['name']} has no running turn: it is {status}", hint="give it its next task")


def _check_budget(connection: Connection, agent: RowMapping, wait: Wait, now: float) -> None:
    """Return if a task for this waiting agent does not wait for more budget.

    Raises:
        ConflictError: it does; with the call that raises the cap.
    """
    if wait.kind is not WaitKind.BUDGET:
        return
    raised = remedy_for(wait, agent["name"], budgets.rooms(connection, agent["id"], now))
    raise ConflictError(f"{agent['name']} waits: {wait_words(wait)}; nothing was queued", hint=raised)


def top_up(connection: Connection, agent: RowMapping, caps: Mapping[Unit, float], now: float) -> str:
    """Set the agent's caps; returns what came of it.

    Raises:
        RefusedError: its parent has not that much left.
    """
    scope = Persona(**agent["persona_body"]).cap_scope
    gone = budgets.raise_caps(connection, agent["id"], scope, caps, now)
    told = "its budget is now " + ", ".join(shown_amount(unit, cap) for unit, cap in caps.items())
    if agent["id"] in gone:
        return f"{told}; its turn goes on where it paused"
    if agent["wait_kind"] == WaitKind.BUDGET:
        room = shortage(budgets.rooms(connection, agent["id"], now), starts_turn=False)
        return told if room is None else f"{told}; it still waits: {room.shown(agent['id'])}"
    return told
