"""Caps as the verbs set and show them."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.domain.agent import Status
from orchestrator.domain.budget import FLEET, Room, Scope, Unit, shortage, shown_amount
from orchestrator.domain.persona import Persona
from orchestrator.errors import ConflictError, InvalidError
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.fleet.projections.budget_views import budget_views, remedy_for
from orchestrator.fleet.views import BudgetsView
from orchestrator.settings import Settings
from orchestrator.store.engine.database import Connection, RowMapping
from orchestrator.store.families import budgets
from orchestrator.store.families.budgets import PAUSED
from orchestrator.store.schema.tables import Agent
from orchestrator.store.waits.pauses import BY_ITSELF, REFUSED


def settings_caps(settings: Settings) -> dict[Unit, float | None]:
    """The fleet's caps as the settings state them."""
    return {
        Unit.USD: settings.max_cost_usd,
        Unit.TOKENS: settings.max_tokens,
        Unit.TURNS: settings.max_total_turns,
        Unit.SECONDS: settings.max_seconds,
    }


def is_put_aside(agent: RowMapping) -> bool:
    """Whether the agent waits for something else than an answer."""
    return str(agent["reason"]).startswith((PAUSED, REFUSED, *BY_ITSELF))


def check_room(connection: Connection, agent: RowMapping, now: float) -> None:
    """Return if a task for this waiting agent does not wait for more budget.

    Raises:
        ConflictError: it does; with the call that raises the cap.
    """
    if not str(agent["reason"]).startswith(PAUSED):
        return
    raised = remedy_for(agent["reason"], agent["name"], budgets.rooms(connection, agent["id"], now))
    raise ConflictError(f"{agent['name']} waits: {agent['reason']}; nothing was queued", hint=raised)


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
    if Status(agent["status"]) is Status.WAITING and str(agent["reason"]).startswith(PAUSED):
        room = shortage(budgets.rooms(connection, agent["id"], now), starts_turn=False)
        return told if room is None else f"{told}; it still waits: {room.shown(agent['id'])}"
    return told


async def set_caps(work: UnitOfWork, agent: Agent | None, caps: Mapping[Unit, float], *, subtree: bool) -> None:
    """Set caps of an agent, its subtree or the fleet.

    Raises:
        InvalidError: none is given.
    """
    if not caps:
        raise InvalidError("no cap is given", hint="give max_cost_usd, max_tokens, max_total_turns or max_seconds")
    if agent is None:
        await work.commit(budgets.raise_caps, FLEET, Scope.FLEET, caps, work.clock())
        return
    scope = Scope.SUBTREE if subtree else Scope.AGENT
    await work.commit(budgets.raise_caps, agent.id, scope, caps, work.clock())


async def show(work: UnitOfWork, agent: Agent | None) -> BudgetsView:
    """The caps of an agent or of the fleet."""

    def rooms(connection: Connection) -> list[Room]:
        if agent is None:
            return budgets.fleet_rooms(connection, work.clock())
        return budgets.rooms(connection, agent.id, work.clock())

    return BudgetsView(budgets=budget_views(await work.store.read(rooms)))
