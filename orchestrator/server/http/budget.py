"""Budgets over HTTP: caps of the fleet, of an agent, of its subtree."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from starlette.responses import Response

from orchestrator.domain.tool import Call
from orchestrator.server.http.schemas import AgentBudgetBody, Body, BudgetBody, NoBody

if TYPE_CHECKING:
    from orchestrator.fleet.fleet import Fleet
    from orchestrator.fleet.state_views import View


async def _show(fleet: Fleet, call: Call, agent: str | None, body: Body) -> Response:
    del body
    return _shown(await fleet.budget(call, agent))


async def _set(fleet: Fleet, call: Call, agent: str | None, body: Body) -> Response:
    caps = cast("BudgetBody", body).caps
    subtree = isinstance(body, AgentBudgetBody) and body.subtree
    return _shown(await fleet.set_budget(call, caps, agent=agent, subtree=subtree))


def _shown(view: View) -> Response:
    return Response(json.dumps(view.model_dump()), media_type="application/json")


ROUTES = (
    ("GET", "/v1/budget", _show, NoBody),
    ("PUT", "/v1/budget", _set, BudgetBody),
    ("GET", "/v1/agents/{ref}/budget", _show, NoBody),
    ("PUT", "/v1/agents/{ref}/budget", _set, AgentBudgetBody),
)
"""method, path, verb, body: rows of the API's table"""
