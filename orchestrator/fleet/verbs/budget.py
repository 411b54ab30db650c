"""Sets and shows caps."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.domain.budget import FLEET, Headroom, Scope, Unit
from orchestrator.errors import InvalidError
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.fleet.projections.budget_views import budget_views
from orchestrator.fleet.state_views import BudgetsView
from orchestrator.store.engine.connection import Connection
from orchestrator.store.families import budgets
from orchestrator.store.schema.rows import AgentRow


async def set_caps(work: UnitOfWork, agent: AgentRow | None, caps: Mapping[Unit, float], *, subtree: bool) -> None:
    """Set caps of an agent, its subtree or the fleet.

    Raises:
        InvalidError: no cap is given.
    """
    if not caps:
        raise InvalidError("no cap is given", hint="give max_cost_usd, max_tokens, max_total_turns or max_seconds")
    if agent is None:
        await work.commit(budgets.raise_caps, FLEET, Scope.FLEET, caps, work.clock())
        return
    scope = Scope.SUBTREE if subtree else Scope.AGENT
    await work.commit(budgets.raise_caps, agent.id, scope, caps, work.clock())


async def show(work: UnitOfWork, agent: AgentRow | None) -> BudgetsView:
    """Return the caps of an agent or of the fleet."""

    def rooms(connection: Connection) -> list[Headroom]:
        if agent is None:
            return budgets.fleet_rooms(connection, work.clock())
        return budgets.rooms(connection, agent.id, work.clock())

    return BudgetsView(budgets=budget_views(await work.store.read(rooms)))
