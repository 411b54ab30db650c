"""The HTTP API on a loopback TCP port, for clients that cannot reach a unix socket.

Every user of the machine and every web page in a browser here can reach the port. So each request must carry the
token, which only this user can read, and a Host that names this port (a page that rebinds its name sends its own),
and may carry no Origin but ours.
"""

from __future__ import annotations

import hmac
import os
import secrets
import socket
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator import log, paths
from orchestrator.errors import RefusedError, StoreError
from orchestrator.server.http.problems import problem

HOST = "127.0.0.1"
TOKEN_FILE = paths.token_path(Path()).name
_TOKEN_BYTES = 32
_BACKLOG = 128
_SCHEME = "Bearer "
_CLOSE = {"Connection": "close"}
"""closes the connection of a client that was refused"""


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
    """What the file holds, made private; '' if there is none."""
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


def guard(application: ASGIApp, port: int, token: str) -> ASGIApp:
    """The application behind its access checks: 421 for a foreign Host, 403 for an Origin, 401 without the token."""
    hosts = {f"{name}:{port}" for name in (HOST, "localhost", "[::1]")}
    origins = {f"http://{host}" for host in hosts}

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        origins_sent, hosts_sent = headers.getlist("origin"), headers.getlist("host")
        if len(hosts_sent) != 1 or hosts_sent[0].lower() not in hosts:
            error = RefusedError("this Host is not served here", hint=f"use {HOST}:{port}")
            reply = problem(error, status=421, headers=_CLOSE)
        elif any(origin.lower() not in origins for origin in origins_sent):
            error = RefusedError("web pages of other origins are not served", hint="send no Origin")
            reply = problem(error, status=403, headers=_CLOSE)
        elif not _is_token(headers.getlist("authorization"), token):
            hint = f"send Authorization: Bearer and the content of {TOKEN_FILE} in the state directory"
            error = RefusedError("the token is missing or wrong", hint=hint)
            reply = problem(error, status=401, headers={**_CLOSE, "WWW-Authenticate": "Bearer"})
        else:
            await application(scope, receive, send)
            return
        await reply(scope, receive, send)

    return guarded


def _is_token(sent: list[str], token: str) -> bool:
    given = sent[0][len(_SCHEME) :].strip() if len(sent) == 1 and sent[0].startswith(_SCHEME) else ""
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())
