"""Suspends an agent with a wait, and resumes it: the two moves between `waiting` and `queued`."""

from __future__ import annotations

from orchestrator.domain.agent import Status
from orchestrator.domain.event import EventKind
from orchestrator.domain.wait import SLOT, Wait
from orchestrator.store.engine.connection import Connection
from orchestrator.store.schema.rows import AgentRow
from orchestrator.store.schema.states import wait_body, wait_of
from orchestrator.store.schema.transitions import CLOCK, emit, move, touch
from orchestrator.store.waits.ready_queue import next_turn


def suspend(connection: Connection, agent: AgentRow, turn: int, wait: Wait, now: float, **told: object) -> None:
    """Suspend the agent, without slot and process; `told` is added to the event of its turn (an ordinal)."""
    move(connection, agent, Status.WAITING, now, wait=wait, owner=None)
    emit(connection, agent.id, EventKind.WAITING, now, turn, **wait_body(wait), **told)
    if wait.until is not None:
        touch(connection, CLOCK)


def resume(connection: Connection, agent: AgentRow, now: float) -> None:
    """Queue the agent for a slot again, because its wait is over; its event says what it waited for."""
    turn, wait = next_turn(connection, agent.id), wait_of(agent)
    move(connection, agent, Status.QUEUED, now, wait=SLOT)
    told = {} if wait is None else {name: value for name, value in wait_body(wait).items() if name != "until"}
    emit(connection, agent.id, EventKind.RESUMED, now, turn.ordinal if turn else agent.turns, **told)
