"""The server for the official conformance suite: Fleet itself, or Fleet's wire with the suite's fixtures.

`python -m tests.conformance.server fleet|fixtures PORT` serves on loopback until its standard input ends. Everything
between the port and the tools is the product's: guard, Streamable HTTP, rendering, tasks. The suite knows no token and
no hello, so a layer before the guard adds them; what Fleet has nothing alike for (images, resources, prompts, questions
in the middle of a call) is the SDK's, served beside.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from mcp.server import Server
from mcp.server.streamable_http import EventCallback, EventId, EventMessage, EventStore, StreamId
from mcp_types import JSONRPCMessage
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator import log
from orchestrator.app import open_fleet
from orchestrator.server.calls import Calls
from orchestrator.server.http import api, guard, loopback
from orchestrator.server.http.server import server as http_server
from orchestrator.server.mcp import server as mcp
from orchestrator.server.mcp import streamable, tools
from orchestrator.settings import read_settings
from tests.conformance import asking, contents
from tests.conformance.jobs import Fixtures
from tests.conformance.kit import put_beside

RETRY_MILLISECONDS = 100


class Replayed(EventStore):
    """What was sent on each stream, for a client that lost one."""

    def __init__(self) -> None:
        self.sent: list[tuple[StreamId, JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: StreamId, message: JSONRPCMessage | None) -> EventId:
        """Keep the message and return its number."""
        self.sent.append((stream_id, message))
        return str(len(self.sent))

    async def replay_events_after(self, last_event_id: EventId, send_callback: EventCallback) -> StreamId | None:
        """Send what came after it on its stream."""
        last = int(last_event_id)
        stream_id = self.sent[last - 1][0]
        for number, (stream, message) in enumerate(self.sent[last:], last + 1):
            if stream == stream_id and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream_id


def introduced(application: ASGIApp, token: str, project: str) -> ASGIApp:
    """The application for a client that can say neither token nor hello."""
    added = [
        (b"authorization", f"Bearer {token}".encode()),
        (b"x-fleet-hello", json.dumps({"project": project, "orchestrator": "conformance"}).encode()),
    ]

    async def passed(scope: Scope, receive: Receive, send: Send) -> None:
        await application({**scope, "headers": [*scope["headers"], *added]}, receive, send)

    return passed


@asynccontextmanager
async def served(kind: str, state: Path, calls: Calls) -> AsyncGenerator[Server[Any]]:
    """The MCP server to be tested."""
    if kind == "fixtures":
        fixtures = Fixtures()
        server = mcp.render(fixtures.table(), caller=streamable.caller_anywhere, calls=calls, durable_waits=fixtures)
        put_beside(server, contents.kit() | asking.kit(server))
        yield server
        return
    async with open_fleet(state, read_settings({}), search_path=os.environ.get("PATH")) as fleet:
        yield mcp.render(
            tools.table(fleet),
            caller=streamable.caller_anywhere,
            calls=calls,
            instructions=tools.INSTRUCTIONS,
            durable_waits=fleet,
        )


async def serve(kind: str, port: int) -> None:
    """Serve until standard input ends."""

    async def greet(caller: object) -> None:
        del caller

    with tempfile.TemporaryDirectory(prefix="fleet-") as place:
        state = Path(place)
        log.open_log(state / "log")
        async with served(kind, state, Calls()) as server:
            sessions = streamable.sessions(server)
            if kind == "fixtures":  # streams that a client comes back to: the older protocol lets a server have them
                sessions.event_store, sessions.retry_interval = Replayed(), RETRY_MILLISECONDS
            bound = loopback.listen(port, state)
            route = streamable.route(sessions.handle_request)
            application = api.application([route], calls=Calls(), greet=greet, attend=lambda _: nullcontext())
            guarded = guard.guard(application, bound.port, bound.token)
            web = http_server(introduced(guarded, bound.token, str(state)))
            async with sessions.run():
                serving = asyncio.create_task(web.serve(sockets=[bound.listener]))
                print(json.dumps({"url": f"{bound.address}{streamable.PATH}"}), flush=True)
                await asyncio.to_thread(sys.stdin.read)
                web.should_exit = True
                web.drop()
                await serving


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0))
