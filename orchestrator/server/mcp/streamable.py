"""MCP over Streamable HTTP, beside the REST API: the same tools, the same caller's hello, as a header."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from mcp.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.domain.tool import Caller
from orchestrator.errors import FleetError, InvalidError
from orchestrator.server.handshake import HELLO, caller_of, parse_hello
from orchestrator.server.http.problems import error_reply
from orchestrator.server.mcp.server import LEFT
from orchestrator.server.mcp.tasks import over_http
from orchestrator.tool_table import Context

PATH = "/mcp"
MAX_BODY_BYTES = 16 << 20


def sessions(server: Server[Any]) -> StreamableHTTPSessionManager:
    """What serves MCP over HTTP while its `run()` is entered; who may come so far is decided before."""
    return StreamableHTTPSessionManager(app=server, max_request_body_size=MAX_BODY_BYTES)


def route(served: ASGIApp, greet: Callable[[Caller], Awaitable[None]]) -> Route:
    """The address of MCP; a caller that says who it is has brought its account."""

    class Endpoint:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            try:
                if raw := Request(scope).headers.get(HELLO):
                    await greet(caller_of(parse_hello(raw), door="mcp"))
            except FleetError as error:
                await error_reply(error)(scope, receive, send)
                return
            left = asyncio.Event()

            async def heard() -> Message:
                message = await receive()
                if message["type"] == "http.disconnect":
                    left.set()
                return message

            await served({**scope, LEFT: left}, heard, send)

    return Route(PATH, Endpoint())


def caller_anywhere(ctx: Context) -> Caller:
    """Who calls: on sockets the one that stands beside every message, over HTTP the one in the request's header.

    Raises:
        InvalidError: the request has no such header.
    """
    if isinstance(ctx.request, Caller):
        return ctx.request
    headers = over_http(ctx)
    raw = headers.get(HELLO) if headers is not None else None
    if raw is None:
        raise InvalidError(
            f"the header {HELLO} is missing", hint='say who calls: {"project": "/path/of/the/project"} is enough'
        )
    return caller_of(parse_hello(raw), door="mcp")
