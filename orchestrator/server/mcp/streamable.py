"""MCP over Streamable HTTP: the same tools and the same hello as on the doors' socket."""

from __future__ import annotations

import asyncio
from typing import Any

from mcp.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.domain.tool import Caller
from orchestrator.errors import InvalidError
from orchestrator.server.handshake import CALLER, HELLO
from orchestrator.server.mcp.server import LEFT
from orchestrator.tool_table import Context

PATH = "/mcp"
MAX_BODY_BYTES = 16 << 20


def sessions(server: Server[Any]) -> StreamableHTTPSessionManager:
    """Return what serves MCP over HTTP while its `run()` is entered; access is checked before it."""
    return StreamableHTTPSessionManager(app=server, max_request_body_size=MAX_BODY_BYTES)


def route(served: ASGIApp) -> Route:
    """Return the route of MCP."""

    class Endpoint:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            left = asyncio.Event()

            async def heard() -> Message:
                message = await receive()
                if message["type"] == "http.disconnect":
                    left.set()
                return message

            await served({**scope, LEFT: left}, heard, send)

    return Route(PATH, Endpoint())


def caller_anywhere(ctx: Context) -> Caller:
    """Return the caller: on sockets the one attached to the message, over HTTP the one of the request's hello.

    Raises:
        InvalidError: the request carried no hello, or neither it nor an MCP session says whose agents it commands.
    """
    if isinstance(ctx.request, Caller):
        return ctx.request
    caller: object = getattr(ctx.request, "scope", {}).get(CALLER)
    if not isinstance(caller, Caller):
        raise InvalidError(
            f"the header {HELLO} is missing",
            hint='name the caller: {"project": "/path/of/the/project", "orchestrator": "an id of your own"}',
        )
    if not caller.orchestrator:
        raise InvalidError(
            "these agents would be everybody's: this protocol version has no sessions, and the hello names none",
            hint=f'add "orchestrator": "an id of your own" to the header {HELLO}, the same in every request',
        )
    return caller
