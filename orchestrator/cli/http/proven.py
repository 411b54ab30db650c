"""The command line's transport: a connection proves that it leads to the daemon before a byte is sent on it.

The proof is part of connecting, so a request cannot go out without it: if the libraries below change, nothing works.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import httpcore
import httpx

from orchestrator import launch, paths, peer_proof
from orchestrator.errors import StoreError


class ProvenTransport(httpx.HTTPTransport):
    """Reaches the HTTP API of a state directory's daemon, and nothing else."""

    def __init__(self, state: Path) -> None:
        path = str(paths.socket_path(state, launch.HTTP_SOCKET))
        self._pool = httpcore.ConnectionPool(uds=path, network_backend=_ProvingBackend(state))


class _ProvingBackend(httpcore.NetworkBackend):
    """Connects to the daemon and checks the peer."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect.

        Raises:
            StoreError: something else listens there.
            ConnectError: nothing does, or it has exited.
        """
        stream = httpcore.SyncBackend().connect_unix_socket(path, timeout, socket_options)
        try:
            is_proven = peer_proof.is_daemon(stream.get_extra_info("socket"), self._state)
        except peer_proof.UnprovenError as error:
            stream.close()
            raise StoreError(str(error), hint="fleet doctor shows what is wrong") from error
        except BaseException:
            stream.close()
            raise
        if not is_proven:
            stream.close()
            raise httpcore.ConnectError("the daemon that listened there has exited")
        return stream
