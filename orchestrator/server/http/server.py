"""The HTTP server: uvicorn without its signals, with a way to cut the connections that are left."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import uvicorn
from starlette.types import ASGIApp

from orchestrator.server.http.peers import PeerProtocol, refuse_agents


class Server(uvicorn.Server):
    """uvicorn's server; run it with `serve(sockets=[…])` and end it with `should_exit`."""

    def drop(self) -> None:
        """Cut the connections that are left, streams and waits: their clients ask the next daemon again."""
        for link in list(self.server_state.connections):
            link.transport.abort()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the signals to the daemon: uvicorn would end the process before the fleet is at rest."""
        yield


def server(application: ASGIApp) -> Server:
    """A server of this application: silent, and not for the fleet's own agents."""
    return Server(
        uvicorn.Config(
            refuse_agents(application),
            http=PeerProtocol,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
        )
    )
