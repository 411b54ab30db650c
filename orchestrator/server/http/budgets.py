"""Endpoints for budgets: caps of the fleet, of an agent, or of an agent and everything below it."""

from __future__ import annotations

from orchestrator.fleet.state_views import BudgetsView
from orchestrator.server.http.endpoint import ApiRequest, Endpoint, Endpoints
from orchestrator.server.http.schemas import AgentBudgetBody, BudgetBody, NoBody, NoQuery


async def get_budget(asked: ApiRequest[NoBody, NoQuery]) -> BudgetsView:
    """Return the fleet's caps and how much of each is spent."""
    return await asked.fleet.budget(asked.call)


async def set_budget(asked: ApiRequest[BudgetBody, NoQuery]) -> BudgetsView:
    """Set the fleet's caps."""
    return await asked.fleet.set_budget(asked.call, asked.body.caps)


async def get_agent_budget(asked: ApiRequest[NoBody, NoQuery]) -> BudgetsView:
    """Return the caps that apply to one agent and how much of each is spent."""
    return await asked.fleet.budget(asked.call, asked.agent)


async def set_agent_budget(asked: ApiRequest[AgentBudgetBody, NoQuery]) -> BudgetsView:
    """Set the caps of one agent, or of it and all agents below it."""
    return await asked.fleet.set_budget(asked.call, asked.body.caps, agent=asked.agent, subtree=asked.body.subtree)


ENDPOINTS: Endpoints = (
    Endpoint("GET", "/v1/budget", get_budget, NoBody, NoQuery, BudgetsView),
    Endpoint("PUT", "/v1/budget", set_budget, BudgetBody, NoQuery, BudgetsView),
    Endpoint("GET", "/v1/agents/{ref}/budget", get_agent_budget, NoBody, NoQuery, BudgetsView),
    Endpoint("PUT", "/v1/agents/{ref}/budget", set_agent_budget, AgentBudgetBody, NoQuery, BudgetsView),
)
