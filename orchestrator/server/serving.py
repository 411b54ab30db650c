"""What a daemon serves: the same table of tools on every door, and HTTP on its listeners."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp.server import Server as McpServer
from starlette.types import ASGIApp

from orchestrator.server import http, loopback, mcp, streamable, tools
from orchestrator.server.calls import Calls
from orchestrator.server.http import Server

if TYPE_CHECKING:
    from orchestrator.fleet.fleet import Fleet

FAREWELL_SECONDS = 0.3
SETTLE_SECONDS = 2.0


def table(fleet: Fleet, calls: Calls, log_file: str) -> McpServer[Any]:
    """The tools of this fleet, as every door serves them."""
    return mcp.render(
        tools.table(fleet),
        caller=streamable.caller_anywhere,
        calls=calls,
        instructions=tools.INSTRUCTIONS,
        log_file=log_file,
        sleeps=fleet,
    )


def webs(
    listener: socket.socket, state: Path, fleet: Fleet, application: ASGIApp
) -> list[tuple[Server, socket.socket]]:
    """The HTTP servers, each with its listener: on the socket, and on a port if the settings ask for one."""
    found = [(http.server(application), listener)]
    if (port := fleet.http_port) is not None:
        bound = loopback.listen(port, state)
        guarded = loopback.guard(application, bound.port, loopback.token_of(state))
        found.append((http.server(guarded), bound.listener))
        fleet.serves_at(bound.address)
    return found


async def farewell(webs: Sequence[tuple[Server, socket.socket]], serving: Sequence[asyncio.Task[None]]) -> None:
    """Let the last answers out, then cut what is left."""
    await asyncio.wait(serving, timeout=FAREWELL_SECONDS)
    for web, _ in webs:
        web.drop()
    await asyncio.wait(serving, timeout=SETTLE_SECONDS)
