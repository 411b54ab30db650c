"""Refuses HTTP requests of the fleet's own agents, and bounds how many connections clients hold, and for how long."""

from __future__ import annotations

import asyncio
import socket
from typing import ClassVar, cast

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from orchestrator.errors import BusyError, FleetError, RefusedError
from orchestrator.server.http.problems import problem
from orchestrator.server.room import MAX_REFUSED, room
from orchestrator.supervision import peers

HEAD_SECONDS = 10.0
"""time in which a connection must send the head of its first request, and of a later one once it has begun"""
BODY_SECONDS = 60.0
"""time in which the body must follow"""
UNREAD_SECONDS = 60.0
"""how long a client may leave its answer unread before it is cut"""
MAX_CONNECTIONS = 256
"""connections to a socket or port at the same time"""
_REFUSAL = "fleet.refusal"
_CLOSE = {"Connection": "close"}


class PeerProtocol(H11Protocol):
    """uvicorn's protocol with limits, which checks the peer of each connection once and refuses it if it is an agent.

    A request must arrive in time, and its answer must be read. At most 256 connections are open; a further one takes
    the place of the one that has said nothing for longest, or is refused if all wait for their answers. Of those that
    are only refused, at most 32 are open.
    """

    since = 0.0
    """when the connection last did something"""
    _phase = ""
    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _refused: ClassVar[set[asyncio.Transport]] = set()

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as uvicorn itself narrows it
        """Check the peer and the number of connections; start the deadline for the first request."""
        link = cast("socket.socket", transport.get_extra_info("socket"))
        super().connection_made(transport)
        self.since = self.loop.time()
        self._enter("head")
        message, hint = peers.refusal(link)
        refusal = RefusedError(message, hint=hint) if message else self._make_room()
        self.app_state = {**self.app_state, _REFUSAL: refusal}
        if refusal is not None:
            self._refused.add(transport)
            if len(self._refused) > MAX_REFUSED:
                transport.abort()

    def handle_events(self) -> None:
        """Start or lift the deadline for the rest of the request that has begun."""
        super().handle_events()
        state = self.conn.their_state
        if state is h11.SEND_BODY:
            self._enter("body")
        elif state is h11.IDLE and self.conn.trailing_data[0]:
            self._enter("head")
        elif cast("object", self.cycle) is not None or state is not h11.IDLE:
            self._enter("")

    def pause_writing(self) -> None:
        """Start the deadline by which the client must read."""
        super().pause_writing()
        self._unread = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Lift it."""
        if self._unread is not None:
            self._unread.cancel()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadlines."""
        self._enter("")
        if self._unread is not None:
            self._unread.cancel()
        self._refused.discard(self.transport)
        super().connection_lost(exc)

    def _enter(self, phase: str) -> None:
        """Start the deadline of this phase of a request, unless it runs already; '' has none."""
        if phase == self._phase:
            return
        self._phase = phase
        if self._deadline is not None:
            self._deadline.cancel()
        if phase:
            seconds = HEAD_SECONDS if phase == "head" else BODY_SECONDS
            self._deadline = self.loop.call_later(seconds, self.transport.abort)
        self.since = self.loop.time()

    def _make_room(self) -> FleetError | None:
        """Cut the connection that has waited longest for its client if there are too many; the refusal if none has."""
        most = room(MAX_CONNECTIONS)
        if len(self.connections) <= most:
            return None
        others = cast("set[PeerProtocol]", self.connections - {self})
        silent = min((one for one in others if not one.is_awaited), key=lambda one: one.since, default=None)
        if silent is None:
            return BusyError(
                f"{most} connections are open here and all wait for their answers", hint="end some, or try again later"
            )
        self.connections.discard(silent)  # it is lost a moment later, and must not be chosen again
        silent.transport.abort()
        return None

    @property
    def is_awaited(self) -> bool:
        """Whether a request of this connection has come whole and its answer has not ended."""
        cycle = self.cycle
        return cast("object", cycle) is not None and not cycle.more_body and not cycle.response_complete


def refuse_agents(application: ASGIApp) -> ASGIApp:
    """Wrap the application so that every request on a refused connection is answered with the reason, and no more."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        refusal = scope.get("state", {}).get(_REFUSAL)
        if refusal is not None:
            await problem(refusal, headers=_CLOSE)(scope, receive, send)
        else:
            await application(scope, receive, send)

    return answered
