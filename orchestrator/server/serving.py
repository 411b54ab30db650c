"""Assembles what a daemon serves: MCP on the doors' socket, and HTTP on a socket and an optional port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mcp.server import Server as McpServer
from starlette.types import ASGIApp

from orchestrator.domain.tool import Caller
from orchestrator.server.calls import Calls
from orchestrator.server.http.guard import guard
from orchestrator.server.http.loopback import Loopback
from orchestrator.server.http.server import Server
from orchestrator.server.http.server import server as http_server
from orchestrator.server.mcp import server, streamable, tools
from orchestrator.server.mcp.connection import serve_connection
from orchestrator.server.mcp.doors import DoorBackend

if TYPE_CHECKING:
    from orchestrator.fleet.fleet import Fleet

FAREWELL_SECONDS = 0.3
DROP_SECONDS = 2.0


def table(fleet: Fleet, calls: Calls, log_file: str) -> McpServer[Any]:
    """Build the MCP server that every door uses."""
    return server.render(
        tools.table(fleet),
        caller=streamable.caller_anywhere,
        calls=calls,
        instructions=tools.INSTRUCTIONS,
        log_file=log_file,
        durable_waits=fleet,
    )


def door_backend(table: McpServer[Any], fleet: Fleet) -> DoorBackend:
    """Return what doors are served with: this MCP server."""
    waits = tuple(tool.name for tool in tools.table(fleet) if tool.waits)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, caller: Caller) -> None:
        with fleet.connected(caller):
            await serve_connection(table, reader, writer, caller)

    return DoorBackend(serve, waits)


def webs(listener: socket.socket, bound: Loopback | None, application: ASGIApp) -> list[tuple[Server, socket.socket]]:
    """Return the HTTP servers, each with its listener: the socket, and the port if there is one."""
    found = [(http_server(application), listener)]
    if bound is not None:
        found.append((http_server(guard(application, bound.port, bound.token)), bound.listener))
    return found


async def farewell(webs: Sequence[tuple[Server, socket.socket]], serving: Sequence[asyncio.Task[None]]) -> None:
    """Give the last answers time to leave, then cut the remaining connections."""
    await asyncio.wait(serving, timeout=FAREWELL_SECONDS)
    for web, _ in webs:
        web.drop()
    await asyncio.wait(serving, timeout=DROP_SECONDS)
