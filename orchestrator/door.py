"""`fleet mcp`: a stdio MCP server that is only a pipe to the daemon, so that no agent ever depends on it.

One JSON hello line goes to the daemon, its answer proves that it lives, then JSON-RPC lines go both ways. A door
outlives its daemon: it connects again, repeats hello and an accepted `initialize`, and sends unanswered calls again,
because Claude Code's TUI loses the tools of a server that exits (CLI 2.1.329, measured). The caller's tool-use id makes
that safe, and where a host sends none the call's id beside the name that the door says in its hellos.

Standard library only. It knows four methods of MCP and nothing about agents. `socket` and `threading` cost it 3.6 ms of
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
from orchestrator import launch, paths
from orchestrator.daemon_link import NoDaemonError, greet

USAGE = """Usage: fleet mcp

Serve the fleet's tools as an MCP server on standard input and output, for Claude Code and other MCP clients.
It starts the daemon if none runs. To use it elsewhere, register the command `fleet mcp` as a stdio server.
"""

LINE_BYTES = 16 << 20  # the longest that the daemon reads

_CHUNK_BYTES = 1 << 16
_RESENDS = 2
_INNOCENT_SECONDS = 60.0
ANSWER_SECONDS = 60.0  # for a call of a tool that does not wait for agents
_FAREWELL_SECONDS = 5.0
_GIVEN_UP = (
    "Fleet's daemon does not answer. It may still do what was asked: before you repeat it, look with get_agent_status. "
    "If that is not answered either, tell the user to run in a terminal: fleet doctor"
)
_STANDING = "subscriptions/listen"  # open as long as the client lives: it wakes no daemon and is never given up


class Call:
    """A request of the client that has no answer yet."""

    def __init__(self, message: dict[str, object], line: bytes) -> None:
        self.message = message
        self.line = line
        self.sent = 0
        self.sent_at = 0.0

    def is_standing(self) -> bool:
        """Tell whether nobody waits for its answer."""
        return self.message["method"] == _STANDING

    def may_be_sent(self) -> bool:
        """Tell whether it can go to a new daemon: not if it was there each time when three died soon after."""
        if time.monotonic() - self.sent_at > _INNOCENT_SECONDS:
            self.sent = 0
        return self.is_standing() or self.sent <= _RESENDS

    def left(self, waits: Collection[object]) -> float:
        """Return the seconds that its answer has left: a tool of `waits`, and other requests, may take any."""
        params = self.message.get("params")
        name = params.get("name") if fallback.is_object(params) else None
        if self.message["method"] != "tools/call" or name in waits:
            return ANSWER_SECONDS
        return self.sent_at + ANSWER_SECONDS - time.monotonic()

    def count(self) -> None:
        """Note that it was sent now."""
        self.sent += 1
        self.sent_at = time.monotonic()


class Door:
    """One client's pipe: what it asked and has no answer to yet, and the connection of the moment.

    Two threads: the first talks to the daemon, the second reads the client.
    """

    def __init__(self, state: Path, env: Mapping[str, str], cwd: str) -> None:
        self._state, self._env, self._cwd = state, env, cwd
        self._name = os.urandom(8).hex()
        self._lock = Lock()  # guards all of the following
        self._calls: dict[object, Call] = {}
        self._opening: list[bytes] = []  # the accepted `initialize` and `notifications/initialized`
        self._late: set[object] = set()  # ids of calls that were given up: should their answers come, nobody waits
        self._swallowed: object = None  # the id of a repeated `initialize`, whose answer the client has already
        self._link: socket | None = None
        self._was_open = False
        self._is_closing = False
        self._output = Lock()  # one line at a time
        self._need = _latch()  # released when a call waits for a connection
        self._farewell = _latch()  # released when the client has gone and has all its answers

    def carry(self) -> None:
        """Carry lines until the client goes away, which ends this process."""
        Thread(target=self._read_client, daemon=True).start()
        while True:
            try:
                link, waits = greet(self._state, self._env, self._cwd, self._name)
            except NoDaemonError as error:
                self._refuse(error)
                while not self._was_open:  # the client was told of one tool: so it stays
                    self._wait_until_needed()
                    self._refuse(error)
            else:
                self._adopt(link)
                self._relay(link, waits)
                launch.reap_daemons()
            self._wait_until_needed()  # a daemon that rests or was put down is not started for nobody

    def _read_client(self) -> None:
        try:
            for line in fallback.lines(_read_input):
                if line.strip():
                    self._take(line)
            self._wait_for_last_answers()
        except BaseException as error:  # noqa: BLE001 - a thread's error ends nothing; half a door would hang its client
            sys.excepthook(type(error), error, error.__traceback__)
            os._exit(1)
        os._exit(0)

    def _wait_for_last_answers(self) -> None:
        with self._lock:
            self._is_closing = waits = self._is_needed()
        if waits:
            self._farewell.acquire(timeout=_FAREWELL_SECONDS)

    def _take(self, line: bytes) -> None:
        try:
            message = fallback.read_message(line)
        except fallback.MalformedError as error:
            self._say(error.reply)
            return
        if len(line) > LINE_BYTES:
            text = f"the message has {len(line)} bytes, at most {LINE_BYTES} are taken; put large input into a file"
            self._say(fallback.failure(fallback.id_of(message), fallback.INVALID_REQUEST, text))
            return
        line += b"\n"
        with self._lock:
            self._note(message, line)
            link = self._link
            if link is None and self._need.locked():
                self._need.release()
        if link is not None:
            _send(link, line)  # should it fail, the first thread sees the end too, and sends the calls again

    def _note(self, message: dict[str, object], line: bytes) -> None:
        method, params = message.get("method"), message.get("params")
        request_id = fallback.id_of(message)
        if method is not None and request_id is not None:
            call = self._calls[request_id] = Call(message, line)
            if self._link is not None:
                call.count()
        elif method == "notifications/initialized" and self._opening:
            self._opening[1:] = [line]
        elif method == "notifications/cancelled" and fallback.is_object(params):
            self._calls.pop(fallback.id_of(params, "requestId"), None)

    def _is_needed(self) -> bool:
        return any(not call.is_standing() for call in self._calls.values())

    def _wait_until_needed(self) -> None:
        while True:
            with self._lock:
                if self._is_needed():
                    return
            self._need.acquire()

    def _adopt(self, link: socket) -> None:
        with self._lock:
            given_up = {key: call for key, call in self._calls.items() if not call.may_be_sent()}
            for key in given_up:
                del self._calls[key]
            for call in self._calls.values():
                call.count()
            if self._opening:
                self._swallowed = json.loads(self._opening[0])["id"]
            _send(link, b"".join([*self._opening, *(call.line for call in self._calls.values())]))
            self._link, self._was_open = link, True
            self._late.clear()
        for call in given_up.values():
            text = "Fleet's daemon ended three times during this call. Agents are safe: ask get_agent_status."
            self._say(fallback.failure(fallback.id_of(call.message), fallback.INTERNAL_ERROR, text))

    def _relay(self, link: socket, waits: Collection[object]) -> None:
        def receive() -> bytes:
            seconds = 0.0  # what came already is not a late answer, however long this process itself was stopped
            while not select.select([link], [], [], seconds)[0]:
                seconds = self._give_up(waits)
            return _receive(link)

        for line in fallback.lines(receive, with_rest=False):
            self._pass_on(line)
        with self._lock:
            self._link = None
            link.close()

    def _give_up(self, waits: Collection[object]) -> float:
        """Answer, and never send again, the calls whose time is over; return the seconds until the next look."""
        with self._lock:
            left = {key: call.left(waits) for key, call in self._calls.items()}
            over = [self._calls[key].message for key, seconds in left.items() if seconds <= 0]
            self._late.update(map(fallback.id_of, over))
        for message in over:
            self._say(fallback.answer(message, "", _GIVEN_UP) or b"")
            with self._lock:
                self._forget(fallback.id_of(message))
        return min([ANSWER_SECONDS, *(seconds for seconds in left.values() if seconds > 0)])

    def _pass_on(self, line: bytes) -> None:
        message: dict[str, object] = json.loads(line)
        is_answer = "id" in message and "method" not in message
        key = message.get("id")
        if is_answer:
            with self._lock:
                if key in self._late:
                    return
                if key is not None and key == self._swallowed:
                    self._swallowed = None
                    return
                call = self._calls.get(key)
                if call is not None and call.message["method"] == "initialize" and "result" in message:
                    self._opening = [call.line]  # a refused one, repeated, would lock the client into the old era
        self._say(line + b"\n")
        if is_answer:
            with self._lock:
                self._forget(key)

    def _forget(self, key: object) -> None:
        self._calls.pop(key, None)
        if self._is_closing and not self._is_needed() and self._farewell.locked():
            self._farewell.release()

    def _refuse(self, error: NoDaemonError) -> None:
        with self._lock:
            calls = {k: c for k, c in self._calls.items() if not (self._was_open and c.is_standing())}
        for key, call in calls.items():
            if self._was_open and call.message["method"] != "tools/call":
                reply = fallback.failure(fallback.id_of(call.message), fallback.INTERNAL_ERROR, error.text)
            else:
                reply = fallback.answer(call.message, error.tool, error.text)
            self._say(reply or b"")
            with self._lock:
                self._forget(key)

    def _say(self, data: bytes) -> None:
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


def _send(link: socket, data: bytes) -> bool:
    try:
        link.sendall(data)
    except OSError:
        return False
    return True


def _receive(link: socket) -> bytes:
    try:
        return link.recv(_CHUNK_BYTES)
    except OSError:
        return b""


def main(arguments: list[str]) -> int:
    """Serve until the client goes away; return an exit code only if there is nothing to serve."""
    if arguments:
        is_help = arguments[0] in {"-h", "--help"}
        (sys.stdout if is_help else sys.stderr).write(USAGE if is_help else f"fleet mcp takes no arguments.\n{USAGE}")
        return 0 if is_help else 2
    env = dict(os.environ)
    try:
        state = paths.state_dir(env)
        cwd = env.get("CLAUDE_PROJECT_DIR") or str(Path.cwd())
    except (paths.StateError, OSError) as error:
        fallback.serve("fleet_not_running", f"Fleet cannot start here. {error}")
        return 1
    if os.isatty(0):
        sys.stderr.write("fleet mcp speaks MCP with programs, not with people; Ctrl-D ends it. See fleet --help.\n")
    try:
        Door(state, env, cwd).carry()
    except KeyboardInterrupt:
        os._exit(130)
    return 0
