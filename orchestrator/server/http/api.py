"""The HTTP API as an ASGI application: the fleet's verbs as JSON, for the command line and other clients.

Bodies and queries are validated strictly, and every error is a problem document. `/v1/openapi.json` describes the API.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from orchestrator.domain.tool import Caller
from orchestrator.server.calls import Calls
from orchestrator.server.http import agents, backup, budgets, daemon, events, openapi, trust, waits
from orchestrator.server.http.endpoint import Api, ApiRequest, Endpoint, Endpoints, routes
from orchestrator.server.http.middleware import Handshake, Presence, Problems, Streams
from orchestrator.server.http.problems import status_problem
from orchestrator.server.http.schemas import Document, NoBody, NoQuery


async def get_openapi(asked: ApiRequest[NoBody, NoQuery]) -> Response:
    """Return this document."""
    del asked
    return JSONResponse(openapi.document(ENDPOINTS))


ENDPOINTS: Endpoints = (
    *daemon.ENDPOINTS,
    *agents.ENDPOINTS,
    *budgets.ENDPOINTS,
    *waits.ENDPOINTS,
    *events.ENDPOINTS,
    *backup.ENDPOINTS,
    *trust.ENDPOINTS,
    Endpoint("GET", "/v1/openapi.json", get_openapi, NoBody, NoQuery, Document, anonymous=True),
)


def app(api: Api, *more: Route) -> ASGIApp:
    """Build the ASGI application for one fleet; `more` adds routes to those of the API."""
    fleet, served = api.fleet, [*routes(api, ENDPOINTS), *more]
    streams = (events.STREAM, *(route.path for route in more))
    return application(
        served, calls=api.calls, greet=fleet.greet, attend=fleet.heard, log_file=api.log_file, streams=streams
    )


def application(
    served: Sequence[Route],
    *,
    calls: Calls,
    greet: Callable[[Caller], Awaitable[None]],
    attend: Callable[[Caller], AbstractContextManager[None]],
    log_file: str = "the daemon's log",
    streams: Collection[str] = (),
) -> ASGIApp:
    """Build an ASGI application from routes and the shared middleware; everything else is answered with a problem.

    `streams` are the paths where GET opens a stream that may stay open for long.
    """
    refused = {HTTPException: _refused}
    return Starlette(
        routes=list(served),
        middleware=[
            Middleware(Presence, calls=calls),
            Middleware(Problems, log_file=log_file),
            Middleware(Handshake, greet=greet, attend=attend),
            Middleware(Streams, paths=frozenset(streams)),
        ],
        exception_handlers=cast("Mapping[object, object]", refused),  # pyright: ignore[reportArgumentType] - starlette types its handlers by their widest exception
    )


async def _refused(request: Request, error: HTTPException) -> Response:
    """Turn Starlette's own errors into problems: unknown path or method, body too large or not JSON."""
    allowed = (error.headers or {}).get("Allow", "")
    return status_problem(error.status_code, request.url.path, request.method, str(error.detail), allowed)
