"""Connects a door to its daemon: starts the daemon if none runs, sends the hello, and checks that the builds match.

Standard library only, because every `fleet mcp` loads it.
"""

from __future__ import annotations

import json
import select
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from socket import socket

from orchestrator import launch, paths

_GREETING_SECONDS = 30.0
_FAILED_STARTS = 2


class NoDaemonError(Exception):
    """No usable daemon: `text` explains why, and `tool` names the one tool that shows it to the client."""

    def __init__(self, tool: str, text: str) -> None:
        super().__init__(text)
        self.tool = tool
        self.text = text


def greet(state: Path, env: Mapping[str, str], cwd: str, door: Mapping[str, str]) -> tuple[socket, Collection[object]]:
    """Return a connection to a daemon of this build that answered the hello, and the names of its waiting tools.

    Starts a daemon if none runs. `door` is what the hello says about the door itself: `door` and `orchestrator`.

    Raises:
        NoDaemonError: The daemon does not start, does not answer within 30 s, or runs another build.
    """
    deadline = time.monotonic() + _GREETING_SECONDS
    hello = {**paths.hello(env, cwd), **door}
    failed = 0
    while True:
        error_text = ""
        try:
            connection = launch.connect(state)
            if connection is None:
                launch.start_daemon(state, env)
                connection = launch.connect(state)
        except (launch.StartError, paths.StateError, OSError) as error:
            connection, error_text = None, str(error)
        answer = connection and _exchange_hello(connection, hello, deadline)
        if connection is not None and answer is not None:
            return connection, _check_build(answer, state, str(hello["build"]))
        error_text = error_text or launch.start_failure(state)
        failed += bool(error_text)
        if failed == _FAILED_STARTS:
            raise NoDaemonError("fleet_not_running", f"Fleet's daemon does not start. {error_text}")
        if time.monotonic() > deadline:
            log = paths.log_path(state)
            raise NoDaemonError("fleet_not_running", f"Fleet's daemon takes calls but does not answer. Its log: {log}")
        select.select([], [], [], 0.05)  # a dying daemon still accepts for a moment


def _exchange_hello(connection: socket, hello: dict[str, object], deadline: float) -> bytes | None:
    connection.settimeout(max(0.1, deadline - time.monotonic()))
    answer = b""
    try:
        connection.sendall(json.dumps(hello).encode() + b"\n")
        while not answer.endswith(b"\n"):
            byte = connection.recv(1)
            if not byte:
                break
            answer += byte
    except OSError:
        answer = b""
    if not answer.endswith(b"\n"):
        connection.close()
        return None
    connection.settimeout(None)
    return answer


def _check_build(answer: bytes, state: Path, ours: str) -> Collection[object]:
    try:
        daemon = json.loads(answer)
        theirs, pid, error = str(daemon.get("build")), str(daemon.get("pid")), daemon.get("error")
        waits = tuple(daemon.get("waits", ()))
    except (ValueError, AttributeError, TypeError):
        theirs, pid, error, waits = "unknown", "unknown", None, ()
    if error:
        raise NoDaemonError("fleet_not_running", f"Fleet's daemon refused this session: {error}")
    if theirs != ours and theirs != paths.build():  # the package may have been edited while the daemon started
        raise NoDaemonError(
            "fleet_other_build",
            f"Fleet's daemon (pid {pid}) runs build {theirs}, this session has build {ours}, and they must not mix. "
            "Tell the user to run in a terminal: fleet down --interrupt && fleet up "
            f"(state directory: {state}; agents keep their work), then to reconnect with /mcp.",
        )
    return waits
