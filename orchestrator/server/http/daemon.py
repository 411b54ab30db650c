"""Endpoints for the daemon itself: health and shutdown."""

from __future__ import annotations

import json
import os

from starlette.background import BackgroundTask
from starlette.responses import Response

from orchestrator.domain.tool import CallContext, Caller
from orchestrator.errors import ConflictError
from orchestrator.fleet.views import Health
from orchestrator.server.http.endpoint import ApiRequest, Endpoint, Endpoints
from orchestrator.server.http.schemas import NoBody, NoQuery, ShutdownBody, Stopping

MAX_NAMES = 20


async def get_health(asked: ApiRequest[NoBody, NoQuery]) -> Health:
    """Return the daemon's health: its build, paths, load and HTTP address."""
    return await asked.fleet.health()


async def shut_down(asked: ApiRequest[ShutdownBody, NoQuery]) -> Response:
    """Shut the daemon down; refused while agents work unless the body says to interrupt them."""
    interrupt = asked.body.interrupt
    working = (await asked.fleet.busy()).get("working", 0)
    if working and not interrupt:
        raise await _busy(asked, working)

    async def end() -> None:  # runs after the answer was sent; a plain function would run in a thread
        if interrupt:
            asked.fleet.interrupt_at_end()
        asked.api.end()

    told = Stopping(pid=os.getpid(), interrupted=working)
    return Response(
        json.dumps(told.model_dump()), status_code=202, media_type="application/json", background=BackgroundTask(end)
    )


async def _busy(asked: ApiRequest[ShutdownBody, NoQuery], working: int) -> ConflictError:
    call = CallContext(caller=asked.caller or Caller(project="/", orchestrator="cli", cwd="/"))
    view = await asked.fleet.status(call, everyone=True)
    names = [agent.name for agent in view.agents if agent.status == "working"]
    return ConflictError(
        f"{working} agent{'s' if working > 1 else ''} at work: {', '.join(names[:MAX_NAMES])}",
        hint="wait for them, or interrupt them: conversations stay, queued turns start with the next daemon",
    )


ENDPOINTS: Endpoints = (
    Endpoint("GET", "/v1/health", get_health, NoBody, NoQuery, Health, anonymous=True),
    Endpoint("POST", "/v1/shutdown", shut_down, ShutdownBody, NoQuery, Stopping, status=202, anonymous=True),
)
