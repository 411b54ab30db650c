"""uvicorn's server without its signal handlers, and with a way to cut its open connections."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import uvicorn
from starlette.types import ASGIApp

from orchestrator.server.http.peers import PeerProtocol, refuse_agents

_BACKLOG = 128
"""connections that wait to be accepted, and are accepted at once"""


class Server(uvicorn.Server):
    """uvicorn's server; run it with `serve(sockets=[…])` and stop it with `should_exit`."""

    def drop(self) -> None:
        """Cut the open connections (streams and waits); their clients retry with the next daemon."""
        for link in list(self.server_state.connections):
            link.transport.abort()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Install no signal handlers: the daemon has its own, and uvicorn's would end the process too early."""
        yield


def server(application: ASGIApp) -> Server:
    """Build the server for this application: without logs, and refusing the fleet's own agents."""
    return Server(
        uvicorn.Config(
            refuse_agents(application),
            http=PeerProtocol,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
            backlog=_BACKLOG,
        )
    )
