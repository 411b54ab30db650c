"""HTTP that refuses the fleet's own agents with an answer that says so, and lets no stranger use up its descriptors."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from orchestrator.errors import RefusedError
from orchestrator.server.http.problems import problem
from orchestrator.supervision import peers

HEAD_SECONDS = 10.0
"""a connection to a port has sent the head of its first request by then"""
MAX_CONNECTIONS = 256
"""to a port, at once"""
_REFUSAL = "fleet.refusal"


class PeerProtocol(H11Protocol):
    """uvicorn's protocol, which looks once per connection who is there and lets every request of it know.

    Anybody on the machine reaches a port: there a connection must say within 10 s what it wants, and 256 are served.
    """

    _hurry: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as uvicorn itself narrows it
        """Note who is at the other end."""
        link = cast("socket.socket", transport.get_extra_info("socket"))
        self.app_state = {**self.app_state, _REFUSAL: peers.refusal(link)}
        super().connection_made(transport)
        if link.family == socket.AF_UNIX:
            return
        self._hurry = self.loop.call_later(HEAD_SECONDS, transport.abort)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Give it all its time once its first request is known; who has no token is cut off after the answer."""
        super().data_received(data)
        if self._hurry is not None and cast("object", self.cycle) is not None:
            self._hurry.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        if self._hurry is not None:
            self._hurry.cancel()
        super().connection_lost(exc)


def refuse_agents(application: ASGIApp) -> ASGIApp:
    """The application for everybody but the fleet's own agents, who get a `RefusedError` for every request."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        message, hint = scope.get("state", {}).get(_REFUSAL, ("", ""))
        if message:
            await problem(RefusedError(message, hint=hint))(scope, receive, send)
        else:
            await application(scope, receive, send)

    return answered
