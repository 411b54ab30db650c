"""What a daemon serves: the same table of tools on every door, and HTTP on its listeners."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp.server import Server as McpServer
from starlette.types import ASGIApp

from orchestrator.server.calls import Calls
from orchestrator.server.http import loopback
from orchestrator.server.http.loopback import Loopback
from orchestrator.server.http.server import Server
from orchestrator.server.http.server import server as http_server
from orchestrator.server.mcp import server, streamable, tools
from orchestrator.settings import read_settings

if TYPE_CHECKING:
    from orchestrator.fleet.fleet import Fleet

FAREWELL_SECONDS = 0.3
SETTLE_SECONDS = 2.0


def waits(fleet: Fleet) -> tuple[str, ...]:
    """The names of the tools whose calls may last as long as agents work."""
    return tuple(tool.name for tool in tools.table(fleet) if tool.waits)


def table(fleet: Fleet, calls: Calls, log_file: str) -> McpServer[Any]:
    """The tools of this fleet, as every door serves them."""
    return server.render(
        tools.table(fleet),
        caller=streamable.caller_anywhere,
        calls=calls,
        instructions=tools.INSTRUCTIONS,
        log_file=log_file,
        durable_waits=fleet,
    )


@contextmanager
def port(state: Path, env: Mapping[str, str]) -> Generator[Loopback | None]:
    """The port that the settings ask for, bound for the time of the block; None if they ask for none.

    It is entered before the fleet opens: a port that is taken must cost no turn.

    Raises:
        InvalidError: a setting cannot be used.
        StoreError: the port is taken, or the token cannot be read or written.
    """
    number = read_settings(env).http_port
    if number is None:
        yield None
        return
    bound = loopback.listen(number, state)
    try:
        yield bound
    finally:
        bound.listener.close()


def webs(listener: socket.socket, bound: Loopback | None, application: ASGIApp) -> list[tuple[Server, socket.socket]]:
    """The HTTP servers, each with its listener: on the socket, and on the port if there is one."""
    found = [(http_server(application), listener)]
    if bound is not None:
        found.append((http_server(loopback.guard(application, bound.port, bound.token)), bound.listener))
    return found


async def farewell(webs: Sequence[tuple[Server, socket.socket]], serving: Sequence[asyncio.Task[None]]) -> None:
    """Let the last answers out, then cut what is left."""
    await asyncio.wait(serving, timeout=FAREWELL_SECONDS)
    for web, _ in webs:
        web.drop()
    await asyncio.wait(serving, timeout=SETTLE_SECONDS)
