"""The endpoint for waiting: blocks until agents are done or need the caller."""

from __future__ import annotations

from orchestrator.fleet.digest_views import Digest
from orchestrator.server.http.endpoint import ApiRequest, Endpoint, Endpoints
from orchestrator.server.http.schemas import NoQuery, WaitBody


async def wait_for_agents(asked: ApiRequest[WaitBody, NoQuery]) -> Digest:
    """Return when all (or any) of the agents are done, when one needs the caller, or at the time-out."""
    body = asked.body
    return await asked.fleet.wait(
        asked.call, agents=body.agents, until=body.until, timeout_seconds=body.timeout_seconds, since=body.since
    )


ENDPOINTS: Endpoints = (Endpoint("POST", "/v1/wait", wait_for_agents, WaitBody, NoQuery, Digest, waits=True),)
