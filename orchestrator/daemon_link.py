"""A door's connection to its daemon: the daemon is started if need be, greeted, and checked for its build.

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
    """There is no daemon to talk to: the name of the one tool that says so, and what it says."""

    def __init__(self, tool: str, text: str) -> None:
        super().__init__(text)
        self.tool = tool
        self.text = text


def greet(state: Path, env: Mapping[str, str], cwd: str, name: str = "") -> tuple[socket, Collection[object]]:
    """Return a connection whose daemon answered the hello and runs this build, and its tools that wait for agents.

    A daemon is started if there is none. `name` is the door's own, the same on each of its connections.

    Raises:
        NoDaemonError: It does not start, does not answer within 30 s, or is of another build.
    """
    end = time.monotonic() + _GREETING_SECONDS
    hello = paths.hello(env, cwd) | {"door": name}
    failed = 0
    while True:
        words = ""
        try:
            link = launch.connect(state)
            if link is None:
                launch.start_daemon(state, env)
                link = launch.connect(state)
        except (launch.StartError, paths.StateError, OSError) as error:
            link, words = None, str(error)
        answer = link and _exchange_hello(link, hello, end)
        if link is not None and answer is not None:
            return link, _check_build(answer, state, str(hello["build"]))
        words = words or launch.failure(state)
        failed += bool(words)
        if failed == _FAILED_STARTS:
            raise NoDaemonError("fleet_not_running", f"Fleet's daemon does not start. {words}")
        if time.monotonic() > end:
            log = paths.log_path(state)
            raise NoDaemonError("fleet_not_running", f"Fleet's daemon takes calls but does not answer. Its log: {log}")
        select.select([], [], [], 0.05)  # a dying daemon still accepts for a moment


def _exchange_hello(link: socket, hello: dict[str, object], end: float) -> bytes | None:
    link.settimeout(max(0.1, end - time.monotonic()))
    answer = b""
    try:
        link.sendall(json.dumps(hello).encode() + b"\n")
        while not answer.endswith(b"\n"):
            byte = link.recv(1)
            if not byte:
                break
            answer += byte
    except OSError:
        answer = b""
    if not answer.endswith(b"\n"):
        link.close()
        return None
    link.settimeout(None)
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
