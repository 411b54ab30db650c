"""HTTP over a unix socket that refuses the fleet's own agents, with an answer that says so."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import cast

import uvicorn
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from orchestrator.errors import RefusedError
from orchestrator.supervision import peers

_REFUSAL = "fleet.refusal"


class PeerProtocol(H11Protocol):
    """uvicorn's protocol, which looks once per connection who is there and lets every request of it know."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as uvicorn itself narrows it
        """Note who is at the other end."""
        link = cast("socket.socket", transport.get_extra_info("socket"))
        self.app_state = {**self.app_state, _REFUSAL: peers.refusal(link)}
        super().connection_made(transport)


def config(application: ASGIApp) -> uvicorn.Config:
    """How an application is served on a unix socket: silently, and not to the fleet's own agents."""
    return uvicorn.Config(
        _guarded(application),
        http=PeerProtocol,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
    )


def _guarded(application: ASGIApp) -> ASGIApp:
    """The application for everybody but the fleet's own agents, who get a `RefusedError` whatever they ask for."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        message, hint = scope.get("state", {}).get(_REFUSAL, ("", ""))
        if not message:
            await application(scope, receive, send)
            return
        body = {"error": {"kind": RefusedError.__name__, "message": message, "hint": hint}}
        refusal = Response(json.dumps(body), status_code=RefusedError.status, media_type="application/json")
        await refusal(scope, receive, send)

    return answered
