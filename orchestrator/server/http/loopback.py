"""The loopback TCP port of the HTTP API, for clients that cannot reach a unix socket, and the token that they send."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator import log, paths
from orchestrator.errors import StoreError

HOST = "127.0.0.1"
TOKEN_FILE = paths.token_path(Path()).name
_TOKEN_BYTES = 32
_BACKLOG = 128


@dataclass(frozen=True)
class Loopback:
    """A bound port: its listening socket, its address, and the token that clients must send."""

    listener: socket.socket
    address: str
    token: str = field(repr=False)

    @property
    def port(self) -> int:
        """The port number."""
        return int(self.listener.getsockname()[1])


def listen(port: int, state: Path) -> Loopback:
    """Bind a port on loopback (0: any free one) and read or create the token.

    Raises:
        StoreError: the port is taken, or the token cannot be read or written.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(
        socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
    )  # inherited; without it answers take 40 ms (measured)
    try:
        listener.bind((HOST, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise StoreError(
            f"cannot listen on {HOST}:{port}: {error.strerror}",
            hint="set FLEET_HTTP_PORT to another port, or 0",
        ) from error
    try:
        token = token_of(state)
    except BaseException:
        listener.close()
        raise
    return Loopback(listener, f"http://{HOST}:{listener.getsockname()[1]}", token)


@contextmanager
def bound(state: Path, number: int | None) -> Generator[Loopback | None]:
    """Bind this HTTP port (0: any free one) while the block runs; yields None if the number is None.

    Entered before the fleet opens, so that a port in use costs no turn.

    Raises:
        StoreError: the port is in use, or the token cannot be read or written.
    """
    if number is None:
        yield None
        return
    opened = listen(number, state)
    try:
        yield opened
    finally:
        opened.listener.close()


def token_of(state: Path) -> str:
    """Return the token of this state directory, creating it on first use. It is kept, because hosts configure it.

    Only the daemon that owns the directory may call this. The file is written atomically; an empty file counts as none.

    Raises:
        StoreError: it cannot be read or written, or is too short to be one.
    """
    file = paths.token_path(state)
    try:
        token = _written(file) or _made(file)
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(
            f"{file} cannot be used: {error}", hint="repair or remove it; Fleet then creates a new one"
        ) from error
    if len(token) < _TOKEN_BYTES:
        raise StoreError(f"{file} does not hold a token of Fleet", hint="remove it; Fleet then creates a new one")
    log.hide([token])
    return token


def _written(file: Path) -> str:
    """What the file holds, made private; '' if it does not exist."""
    try:
        file.chmod(0o600)
        return file.read_text().strip()
    except FileNotFoundError:
        return ""


def _made(file: Path) -> str:
    token, fresh = secrets.token_urlsafe(_TOKEN_BYTES), file.with_name(f"{file.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as new:
        new.write(token + "\n")
        new.flush()
        os.fsync(new.fileno())
    fresh.replace(file)
    return token
