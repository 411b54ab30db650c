"""Builds the budget fields of views: the caps that apply, what is left of them, and the call that raises one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TypedDict

from orchestrator.domain.budget import Headroom, remedy_for
from orchestrator.domain.command import release_call
from orchestrator.domain.wait import WaitKind
from orchestrator.fleet.state_views import BudgetView
from orchestrator.store.engine.connection import Connection
from orchestrator.store.families import budgets
from orchestrator.store.schema.rows import AgentRow
from orchestrator.store.schema.states import wait_of

UNPAID = "its account is out of credit or keeps being refused: a person must fix that, and it then resumes on its own"


class Columns(TypedDict):
    """The fields of a view that are about budgets."""

    budgets: tuple[BudgetView, ...]
    remedy: str
    remedy_command: str


def rooms_of(connection: Connection, agents: Iterable[AgentRow]) -> dict[str, list[Headroom]]:
    """Return the caps that apply to these agents."""
    return budgets.rooms_of(connection, {agent.id: agent.root for agent in agents}, time.time())


def budget_views(rooms: Iterable[Headroom]) -> tuple[BudgetView, ...]:
    """Return the caps as readers see them."""
    return tuple(
        BudgetView(
            of=room.name, scope=room.scope, unit=room.unit, cap=room.cap, used=room.used, left=max(0.0, room.left)
        )
        for room in rooms
    )


def columns_of(agent: AgentRow, rooms: Sequence[Headroom]) -> Columns:
    """Return the budget fields of an agent's view."""
    return {
        "budgets": budget_views(rooms),
        "remedy": remedy_of(agent, rooms),
        "remedy_command": remedy_of(agent, rooms, person=True),
    }


def remedy_of(agent: AgentRow, rooms: Sequence[Headroom], *, person: bool = False) -> str:
    """Return the call that lets the agent continue, if it waits at a cap or its queue is held."""
    wait = wait_of(agent)
    if wait is None:
        return ""
    if wait.kind is WaitKind.QUOTA and wait.blocked:
        return UNPAID
    if wait.kind is WaitKind.HELD:
        return release_call(agent.name, person=person)
    return remedy_for(wait, agent.name, rooms, person=person) if wait.kind is WaitKind.BUDGET else ""
