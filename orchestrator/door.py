"""`fleet mcp`: a stdio MCP server that only relays to the daemon, so that no agent depends on it.

It sends one JSON line (the hello) to the daemon, whose answer proves that it is alive; then JSON-RPC lines go both
ways. A door outlives its daemon: it reconnects, repeats the hello and an accepted `initialize`, and resends unanswered
calls, because Claude Code's TUI loses the tools of a server that exits (CLI 2.1.329, measured). The caller's tool-use
id makes resending safe; without one, the call's id together with the door's name from the hello does.

Standard library only. It knows four methods of MCP and nothing about agents. `socket` and `threading` cost 3.6 ms of
CPU more than `_socket` and `_thread` (31.6 against 28.0 ms, medians of 40 runs), too little to use private modules.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from socket import socket
from threading import Lock, Thread

from orchestrator import fallback_server as fallback
from orchestrator import launch, paths, presence
from orchestrator.daemon_link import NoDaemonError, greet

USAGE = """Usage: fleet mcp

Serve the fleet's tools as an MCP server on standard input and output, for Claude Code and other MCP clients.
It starts the daemon if none runs. To use it elsewhere, register the command `fleet mcp` as a stdio server.
"""

LINE_BYTES = 16 << 20  # the longest line that the daemon reads

_CHUNK_BYTES = 1 << 16
_RESENDS = 2
_STABLE_SECONDS = 60.0
ANSWER_SECONDS = 60.0  # for tools that do not wait for agents
_DRAIN_SECONDS = 5.0
_NO_ANSWER = (
    "Fleet's daemon does not answer. It may still do what was asked: before you repeat it, look with get_agent_status. "
    "If that is not answered either, tell the user to run in a terminal: fleet doctor"
)
_SUBSCRIBE = "subscriptions/listen"  # open for the client's lifetime: it starts no daemon and never times out


class PendingCall:
    """A request of the client that has not been answered yet."""

    def __init__(self, message: dict[str, object], line: bytes) -> None:
        self.message = message
        self.line = line
        self.times_sent = 0
        self.sent_at = 0.0

    def is_subscription(self) -> bool:
        """Return whether this is a subscription, whose answer the client does not wait for."""
        return self.message["method"] == _SUBSCRIBE

    def may_be_sent(self) -> bool:
        """Return whether it may be sent to a new daemon; no, if three daemons in a row died soon after getting it."""
        if time.monotonic() - self.sent_at > _STABLE_SECONDS:
            self.times_sent = 0
        return self.is_subscription() or self.times_sent <= _RESENDS

    def seconds_left(self, waiting_tools: Collection[object]) -> float:
        """Return the seconds left for its answer; for `waiting_tools` and other requests they never run out."""
        params = self.message.get("params")
        name = params.get("name") if fallback.is_object(params) else None
        if self.message["method"] != "tools/call" or name in waiting_tools:
            return ANSWER_SECONDS
        return self.sent_at + ANSWER_SECONDS - time.monotonic()

    def mark_sent(self) -> None:
        """Record that it was sent now."""
        self.times_sent += 1
        self.sent_at = time.monotonic()


class Door:
    """Relays one client's lines to the daemon and back, across any number of daemons, until the client exits.

    Two threads: the first talks to the daemon, the second reads from the client.
    """

    def __init__(self, state: Path, env: Mapping[str, str], cwd: str) -> None:
        self._state, self._env, self._cwd = state, env, cwd
        name = os.urandom(8).hex()
        self._about = {"door": name, "orchestrator": paths.orchestrator_of(env) or f"mcp-{name[:8]}"}
        self._lock = Lock()  # guards all of the following
        self._calls: dict[object, PendingCall] = {}
        self._handshake: list[bytes] = []  # the accepted `initialize` and `notifications/initialized`
        self._abandoned: set[object] = set()  # ids of calls that timed out: late answers to them are dropped
        self._ignored_id: object = None  # the id of a repeated `initialize`, whose answer the client already has
        self._connection: socket | None = None
        self._was_connected = False
        self._is_closing = False
        self._output = Lock()  # one line at a time
        self._needed = _latch()  # released when a call waits for a connection
        self._drained = _latch()  # released when the client has closed its input and has all its answers

    def run(self) -> None:
        """Relay lines until the client exits, which ends this process."""
        presence.hold(self._state, self._about["orchestrator"])
        Thread(target=self._read_client, daemon=True).start()
        while True:
            try:
                connection, waiting_tools = greet(self._state, self._env, self._cwd, self._about)
            except NoDaemonError as error:
                self._refuse(error)
                while not self._was_connected:  # the client saw only the fallback tool, and that must not change
                    self._wait_until_needed()
                    self._refuse(error)
            else:
                self._attach(connection)
                self._relay(connection, waiting_tools)
                launch.reap_daemons()
            self._wait_until_needed()  # nobody needs a daemon that exited on purpose

    def _read_client(self) -> None:
        try:
            for line in fallback.lines(_read_input):
                if line.strip():
                    self._accept(line)
            self._wait_for_last_answers()
        except BaseException as error:  # noqa: BLE001 - otherwise only this thread would end, and the door would hang
            sys.excepthook(type(error), error, error.__traceback__)
            os._exit(1)
        os._exit(0)

    def _wait_for_last_answers(self) -> None:
        with self._lock:
            self._is_closing = is_needed = self._is_needed()
        if is_needed:
            self._drained.acquire(timeout=_DRAIN_SECONDS)

    def _accept(self, line: bytes) -> None:
        try:
            message = fallback.read_message(line)
        except fallback.MalformedError as error:
            self._write(error.reply)
            return
        if len(line) > LINE_BYTES:
            text = f"the message has {len(line)} bytes, at most {LINE_BYTES} are accepted; put large input into a file"
            self._write(fallback.failure(fallback.id_of(message), fallback.INVALID_REQUEST, text))
            return
        line += b"\n"
        with self._lock:
            self._record(message, line)
            connection = self._connection
            if connection is None and self._needed.locked():
                self._needed.release()
        if connection is not None:
            _send(connection, line)  # if it fails, the first thread notices too and resends the calls

    def _record(self, message: dict[str, object], line: bytes) -> None:
        method, params = message.get("method"), message.get("params")
        request_id = fallback.id_of(message)
        if method is not None and request_id is not None:
            call = self._calls[request_id] = PendingCall(message, line)
            if self._connection is not None:
                call.mark_sent()
        elif method == "notifications/initialized" and self._handshake:
            self._handshake[1:] = [line]
        elif method == "notifications/cancelled" and fallback.is_object(params):
            self._calls.pop(fallback.id_of(params, "requestId"), None)

    def _is_needed(self) -> bool:
        return any(not call.is_subscription() for call in self._calls.values())

    def _wait_until_needed(self) -> None:
        while True:
            with self._lock:
                if self._is_needed():
                    return
            self._needed.acquire()

    def _attach(self, connection: socket) -> None:
        with self._lock:
            dropped = {key: call for key, call in self._calls.items() if not call.may_be_sent()}
            for key in dropped:
                del self._calls[key]
            for call in self._calls.values():
                call.mark_sent()
            if self._handshake:
                self._ignored_id = json.loads(self._handshake[0])["id"]
            _send(connection, b"".join([*self._handshake, *(call.line for call in self._calls.values())]))
            self._connection, self._was_connected = connection, True
            self._abandoned.clear()
        for call in dropped.values():
            text = "Fleet's daemon ended three times during this call. Agents are safe: ask get_agent_status."
            self._write(fallback.failure(fallback.id_of(call.message), fallback.INTERNAL_ERROR, text))

    def _relay(self, connection: socket, waiting_tools: Collection[object]) -> None:
        def receive() -> bytes:
            seconds = 0.0  # what has arrived is not late, even if this process itself was stopped
            while not select.select([connection], [], [], seconds)[0]:
                seconds = self._expire_calls(waiting_tools)
            return _receive(connection)

        for line in fallback.lines(receive, with_rest=False):
            self._forward(line)
        with self._lock:
            self._connection = None
            connection.close()

    def _expire_calls(self, waiting_tools: Collection[object]) -> float:
        """Answer the calls that timed out and never resend them; return the seconds until the next check."""
        with self._lock:
            seconds_left = {key: call.seconds_left(waiting_tools) for key, call in self._calls.items()}
            expired = [self._calls[key].message for key, seconds in seconds_left.items() if seconds <= 0]
            self._abandoned.update(map(fallback.id_of, expired))
        for message in expired:
            self._write(fallback.answer(message, "", _NO_ANSWER) or b"")
            with self._lock:
                self._forget(fallback.id_of(message))
        return min([ANSWER_SECONDS, *(seconds for seconds in seconds_left.values() if seconds > 0)])

    def _forward(self, line: bytes) -> None:
        message: dict[str, object] = json.loads(line)
        is_answer = "id" in message and "method" not in message
        key = message.get("id")
        if is_answer:
            with self._lock:
                if key in self._abandoned:
                    return
                if key is not None and key == self._ignored_id:
                    self._ignored_id = None
                    return
                call = self._calls.get(key)
                if call is not None and call.message["method"] == "initialize" and "result" in message:
                    self._handshake = [call.line]  # repeating a refused one would lock the client into the old protocol
        self._write(line + b"\n")
        if is_answer:
            with self._lock:
                self._forget(key)

    def _forget(self, key: object) -> None:
        self._calls.pop(key, None)
        if self._is_closing and not self._is_needed() and self._drained.locked():
            self._drained.release()

    def _refuse(self, error: NoDaemonError) -> None:
        with self._lock:
            calls = {k: c for k, c in self._calls.items() if not (self._was_connected and c.is_subscription())}
        for key, call in calls.items():
            if self._was_connected and call.message["method"] != "tools/call":
                reply = fallback.failure(fallback.id_of(call.message), fallback.INTERNAL_ERROR, error.text)
            else:
                reply = fallback.answer(call.message, error.tool, error.text)
            self._write(reply or b"")
            with self._lock:
                self._forget(key)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        with self._output:
            while view:
                try:
                    view = view[os.write(1, view) :]
                except BlockingIOError:
                    select.select([], [1], [])
                except OSError:
                    os._exit(0)  # the client has gone


def _latch() -> Lock:
    lock = Lock()
    lock.acquire()
    return lock


def _read_input() -> bytes:
    while True:
        try:
            return os.read(0, _CHUNK_BYTES)
        except BlockingIOError:
            select.select([0], [], [])
        except OSError:
            return b""


def _send(connection: socket, data: bytes) -> bool:
    try:
        connection.sendall(data)
    except OSError:
        return False
    return True


def _receive(connection: socket) -> bytes:
    try:
        return connection.recv(_CHUNK_BYTES)
    except OSError:
        return b""


def main(arguments: list[str]) -> int:
    """Serve until the client exits, which ends the process; return an exit code only if serving is impossible."""
    if arguments:
        is_help = arguments[0] in {"-h", "--help"}
        (sys.stdout if is_help else sys.stderr).write(USAGE if is_help else f"fleet mcp takes no arguments.\n{USAGE}")
        return 0 if is_help else 2
    env = dict(os.environ)
    try:
        state = paths.state_dir(env)
        cwd = paths.session_dir(env)
    except (paths.StateError, paths.PlaceError, OSError) as error:
        fallback.serve("fleet_not_running", f"Fleet cannot start here. {error}")
        return 1
    if os.isatty(0):
        sys.stderr.write("fleet mcp speaks MCP to programs, not to people; Ctrl-D ends it. See fleet --help.\n")
    try:
        Door(state, env, cwd).run()
    except KeyboardInterrupt:
        os._exit(130)
    return 0
