"""The middleware of the HTTP API: idle tracking, errors as problems, the hello, and limits on streams and body size."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractContextManager

from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator import log
from orchestrator.domain.tool import COMMAND_LINE, Caller
from orchestrator.errors import BusyError, FleetError
from orchestrator.server.calls import Calls
from orchestrator.server.handshake import CALLER, HELLO, caller_of, parse_hello
from orchestrator.server.http.problems import problem
from orchestrator.server.room import room

MCP_VERSION = "mcp-protocol-version"
MCP_SESSION = "mcp-session-id"
"""the header that carries the id of an MCP session, in the protocol era that has sessions"""
SESSION_CHARACTERS = 8
"""of that id, which has 32 random digits"""
MAX_STREAMS = 64
"""streams of events that may be open at the same time, over all sockets and ports"""

_log = log.logger(__name__)


class Presence:
    """Keeps the daemon from exiting as idle while a request is running."""

    def __init__(self, app: ASGIApp, calls: Calls) -> None:
        self._app = app
        self._calls = calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request and count it as activity."""
        with self._calls.presence():
            await self._app(scope, receive, send)


class Problems:
    """Answers every exception with a problem document; unexpected ones are logged with their traceback."""

    def __init__(self, app: ASGIApp, log_file: str) -> None:
        self._app = app
        self._log_file = log_file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request and answer its error, unless the response has begun."""
        has_begun = False

        async def noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except ClientDisconnect:
            return  # the client disconnected before it had sent its body
        except Exception as error:
            if has_begun:
                raise
            await self._response(error, scope)(scope, receive, send)

    def _response(self, error: Exception, scope: Scope) -> ASGIApp:
        if isinstance(error, FleetError):
            return problem(error)
        _log.error("a request broke", route=f"{scope['method']} {scope['path']}", exc_info=error)
        hint = f"the traceback is in {self._log_file}"
        return problem(FleetError(f"Fleet itself failed ({type(error).__name__})", hint=hint))


class Streams:
    """Bounds how many streams of events are open: a reader may keep one for as long as it likes."""

    def __init__(self, app: ASGIApp, paths: Collection[str]) -> None:
        self._app = app
        self._paths = paths
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, and count it if it opens a stream.

        Raises:
            BusyError: too many streams are open.
        """
        if scope["method"] != "GET" or scope["path"] not in self._paths:
            await self._app(scope, receive, send)
            return
        most = room(MAX_STREAMS)
        if self._open >= most:
            raise BusyError(f"{most} event streams are open already", hint="end some, or try again later")
        self._open += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open -= 1


class Handshake:
    """Reads the hello of a request: the endpoint finds its `Caller` in the scope, and the fleet knows the account.

    A caller without a name is the command line below `/v1`; elsewhere its MCP session, or nobody if it has none.
    """

    def __init__(
        self,
        app: ASGIApp,
        greet: Callable[[Caller], Awaitable[None]],
        attend: Callable[[Caller], AbstractContextManager[None]],
    ) -> None:
        self._app = app
        self._greet = greet
        self._attend = attend
        self._greeted: set[int] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request with its caller.

        Raises:
            InvalidError: the hello is not valid.
        """
        headers = Headers(scope=scope)
        if not (raw := headers.get(HELLO)):
            await self._app(scope, receive, send)
            return
        session = headers.get(MCP_SESSION, "")[:SESSION_CHARACTERS] if _has_sessions(headers) else ""
        unnamed = COMMAND_LINE if scope["path"].startswith("/v1/") else session and f"http-{session}"
        caller = caller_of(parse_hello(raw), door=unnamed)
        await self._meet(caller)
        with self._attend(caller):
            await self._app({**scope, CALLER: caller}, receive, send)

    async def _meet(self, caller: Caller) -> None:
        """Register an account with the fleet, once."""
        seen = hash(tuple(sorted({**caller.environment, **caller.account, **caller.passed}.items())))
        if seen not in self._greeted:
            await self._greet(caller)
            self._greeted.add(seen)


def _has_sessions(headers: Headers) -> bool:
    """Whether the protocol version of this request has sessions: their id is checked there, and only there."""
    version = headers.get(MCP_VERSION)
    return version is None or version in HANDSHAKE_PROTOCOL_VERSIONS


class BodyLimit:
    """Refuses a body above the limit before it is held in memory."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request and count the bytes of its body.

        Raises:
            HTTPException: the body is too large.
        """
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise HTTPException(413, f"the body is larger than {self._max_bytes} bytes")
            return message

        await self._app(scope, counted, send)
