"""Refuses HTTP requests of the fleet's own agents, and limits the connections that unknown clients can hold open."""

from __future__ import annotations

import asyncio
import socket
from typing import ClassVar, cast

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from orchestrator.errors import RefusedError
from orchestrator.server.http.problems import problem
from orchestrator.supervision import peers

HEAD_SECONDS = 10.0
"""time in which a connection to a port must send the head of its first request"""
MAX_CONNECTIONS = 256
"""connections to a port at the same time"""
MAX_REFUSED = 32
"""connections of agents that may be open at the same time, until they have got their refusal"""
_REFUSAL = "fleet.refusal"


class PeerProtocol(H11Protocol):
    """uvicorn's protocol, which checks the peer of each connection once and marks its requests if the peer is an agent.

    Everyone on the machine can reach a port: a connection to it must send a request within 10 s, and at most 256 are
    open. Of agents, which are only refused, at most 32 are.
    """

    _hurry: asyncio.TimerHandle | None = None
    _refused: ClassVar[set[asyncio.Transport]] = set()

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as uvicorn itself narrows it
        """Check the peer; on a port, start the deadline for the first request."""
        link = cast("socket.socket", transport.get_extra_info("socket"))
        refusal = peers.refusal(link)
        self.app_state = {**self.app_state, _REFUSAL: refusal}
        super().connection_made(transport)
        if refusal[0]:
            self._refused.add(transport)
            if len(self._refused) > MAX_REFUSED:
                transport.abort()
        if link.family == socket.AF_UNIX:
            return
        self._hurry = self.loop.call_later(HEAD_SECONDS, transport.abort)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Lift the deadline once the first request is known; without the token, the answer closes the connection."""
        super().data_received(data)
        if self._hurry is not None and cast("object", self.cycle) is not None:
            self._hurry.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadline."""
        if self._hurry is not None:
            self._hurry.cancel()
        self._refused.discard(self.transport)
        super().connection_lost(exc)


def refuse_agents(application: ASGIApp) -> ASGIApp:
    """Wrap the application so that every request of one of the fleet's own agents is answered with a `RefusedError`."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        message, hint = scope.get("state", {}).get(_REFUSAL, ("", ""))
        if message:
            await problem(RefusedError(message, hint=hint))(scope, receive, send)
        else:
            await application(scope, receive, send)

    return answered
