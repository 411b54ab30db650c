"""The socket of the stdio doors: accepts connections, checks their hello, and serves MCP on each."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass

from orchestrator import log
from orchestrator.domain.tool import Caller
from orchestrator.errors import BusyError, FleetError, InvalidError, RefusedError
from orchestrator.server.calls import Calls
from orchestrator.server.handshake import LINE_BYTES, Hello, caller_of, parse_hello
from orchestrator.server.room import MAX_REFUSED, room

HELLO_SECONDS = 10.0
MAX_DOORS = 1024
_BREATH_SECONDS = 0.1

_log = log.logger(__name__)


@dataclass(frozen=True)
class DoorBackend:
    """What doors are served with: MCP on one connection, and the names of the tools whose calls may block for long."""

    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter, Caller], Awaitable[None]]
    waits: Collection[str] = ()


class Doors:
    """Accepts and serves the connections of all doors; accepting can be paused and resumed.

    Hellos are read and callers are greeted at once; their answers wait for `backend`, which may come later. Each door
    is told which tools may block for long; it applies a time-out to calls of all others.
    """

    def __init__(
        self,
        listener: socket.socket,
        backend: asyncio.Future[DoorBackend],
        *,
        build: str,
        calls: Calls,
        greet: Callable[[Caller], Awaitable[None]],
        refuse: Callable[[socket.socket], tuple[str, str]] = lambda _: ("", ""),
    ) -> None:
        self._refuse = refuse
        self._refused = 0
        self._listener = listener
        self._backend = backend
        self._build = build
        self._calls = calls
        self._greet = greet
        self._greeted = asyncio.Event()
        self._rest: asyncio.TimerHandle | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter | None] = {}
        self._silent: dict[asyncio.Task[None], None] = {}

    def accept(self) -> None:
        """Start or resume accepting connections.

        Uses a callback: a cancelled `sock_accept` can lose a connection that has just arrived (seen in Python 3.11).
        """
        self._listener.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def pause(self) -> None:
        """Stop accepting connections; new ones wait in the kernel's backlog."""
        asyncio.get_running_loop().remove_reader(self._listener)
        if self._rest is not None:
            self._rest.cancel()

    async def wait_greeted(self, seconds: float) -> None:
        """Return once a caller was greeted, at the latest after `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._greeted.wait()

    async def aclose(self) -> None:
        """Abort all connections silently; the doors reconnect to the next daemon, unnoticed by their hosts."""
        self.pause()
        tasks = list(self._connections)
        for task, writer in list(self._connections.items()):
            if writer is not None:
                writer.transport.abort()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self) -> None:
        try:
            link, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # the client has left already
        except OSError as error:  # out of file descriptors: new connections stay in the backlog
            _log.error("cannot accept a door", error=str(error))
            self.pause()
            self._rest = asyncio.get_running_loop().call_later(_BREATH_SECONDS, self.accept)
            return
        task = asyncio.get_running_loop().create_task(self._take(link))
        self._connections[task] = None
        task.add_done_callback(lambda done: self._connections.pop(done, None))

    async def _take(self, link: socket.socket) -> None:
        if (task := asyncio.current_task()) is None:
            raise AssertionError
        with link, self._calls.presence():
            try:
                refusal = self._refusal(link)
            except Exception:  # noqa: BLE001 - the boundary: one connection must not keep the others out
                _log.exception("a connection broke")
                return
            if refusal is not None and self._refused >= MAX_REFUSED:
                return
            self._silent[task] = None
            self._refused += refusal is not None  # before anything is awaited: others are taken meanwhile
            try:
                reader, writer = await asyncio.open_unix_connection(sock=link, limit=LINE_BYTES)
                self._connections[task] = writer
                await self._serve(task, reader, writer, refusal)
            except Exception:  # noqa: BLE001 - the boundary: one connection must not end the daemon
                _log.exception("a connection broke")
            finally:
                self._silent.pop(task, None)
                self._refused -= refusal is not None

    def _refusal(self, link: socket.socket) -> FleetError | None:
        """Return why the connection is refused; if there are too many, the longest silent one has to go instead."""
        message, hint = self._refuse(link)
        most = room(MAX_DOORS)
        if message:
            return RefusedError(message, hint=hint)
        if len(self._connections) <= most:
            return None
        if not self._silent:
            return BusyError(f"{most} doors are connected already", hint="end sessions that are not needed")
        silent = next(iter(self._silent))
        del self._silent[silent]
        self._connections.pop(silent, None)
        silent.cancel()
        return None

    async def _serve(
        self,
        task: asyncio.Task[None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        refusal: FleetError | None,
    ) -> None:
        try:
            hello = await _hello(reader)
            self._silent.pop(task, None)
            if hello is not None:
                await self._talk(hello, refusal, reader, writer)
        except (BusyError, InvalidError, RefusedError) as error:
            _log.warning("a door was refused", error=str(error))
            writer.write(json.dumps({"error": str(error)}).encode() + b"\n")
        finally:
            with suppress(OSError):
                writer.close()
                await writer.wait_closed()

    async def _talk(
        self, hello: Hello, refusal: FleetError | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if refusal is not None:
            raise refusal
        caller = caller_of(hello, door="mcp")
        with log.bound(orchestrator=caller.orchestrator, project=caller.project), suppress(ConnectionError):
            if hello.build != self._build:
                _log.warning("a door of another build", door=hello.build, daemon=self._build)
            else:
                await self._greet(caller)
                self._greeted.set()
            backend = await asyncio.shield(self._backend)
            about = {"build": self._build, "pid": os.getpid(), "waits": sorted(backend.waits)}
            writer.write(json.dumps(about).encode() + b"\n")
            await writer.drain()
            _log.info("door opened")
            await backend.serve(reader, writer, caller)
            _log.info("door closed")


async def _hello(reader: asyncio.StreamReader) -> Hello | None:
    """Read the client's hello; None if it left or sent nothing, as a client does that only probes the socket."""
    try:
        async with asyncio.timeout(HELLO_SECONDS):
            line = await reader.readline()
    except (TimeoutError, OSError):
        return None
    except ValueError as error:
        raise InvalidError(f"the hello is longer than {LINE_BYTES} bytes") from error
    return parse_hello(line) if line.endswith(b"\n") else None
