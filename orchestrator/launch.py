"""Starts the daemon of a state directory if none listens; the door and the command line share this one rule.

Standard library only, and `subprocess` is imported only when there is something to start. It imports none of the
daemon's code, which runs in another process.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket

from orchestrator import paths, peer_proof

TYPE_CHECKING = False  # type checkers take it as true; importing `typing` costs every door 3 ms
if TYPE_CHECKING:
    from subprocess import Popen

MCP_SOCKET = "mcp.sock"
HTTP_SOCKET = "http.sock"

_START_SECONDS = 20.0
_EXIT_SECONDS = 2.0
_LOG_TAIL_LINES = 2
_LOG_TAIL_CHARACTERS = 500

_started: list[tuple[Popen[bytes], int]] = []  # each daemon with the log's size before it started


class StartError(Exception):
    """The daemon did not start; if it exited, the text holds the last lines of its log and the log's path."""


def connect(state: Path, name: str = MCP_SOCKET) -> socket | None:
    """Return a socket that is connected to the daemon that holds the lock of `state`, or None if none listens.

    The listener of a dying daemon still accepts for a moment, so only an answer proves that a daemon is there.

    Raises:
        StateError: Something listens that is not proven to be the daemon.
    """
    connection = socket(AF_UNIX, SOCK_STREAM)
    try:
        connection.connect(os.fspath(paths.socket_path(state, name)))
        if peer_proof.is_daemon(connection, state):
            return connection
    except OSError:
        pass
    except BaseException:
        connection.close()
        raise
    connection.close()
    return None


def is_listening(state: Path) -> bool:
    """Return whether both sockets of the daemon accept connections."""
    for name in (HTTP_SOCKET, MCP_SOCKET):
        connection = connect(state, name)
        if connection is None:
            return False
        connection.close()
    return True


def start_daemon(state: Path, env: Mapping[str, str]) -> None:
    """Return once a daemon listens on both sockets of `state`; start one, detached, if none runs.

    Only one daemon starts, however many processes call this at once. It gets the settings of `env` and none of its
    keys.

    Raises:
        StartError: The daemon exited immediately, or does not listen within 20 s.
        StateError: Something else listens in its place.
        OSError: The state directory is not writable.
    """
    lock = os.open(paths.start_lock_path(state), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_listening(state):  # another process may have been first
            _start(state, env)
    finally:
        os.close(lock)


def _start(state: Path, env: Mapping[str, str]) -> None:
    from subprocess import DEVNULL, Popen, TimeoutExpired  # costs 8 ms, which a door with a running daemon never pays

    reap_daemons()
    log = os.open(paths.log_path(state), os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        log_start = os.fstat(log).st_size
        child = Popen(
            [sys.executable, "-P", "-m", "orchestrator", "daemon"],
            stdin=DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env=daemon_environment(state, env),
        )
    finally:
        os.close(log)
    _started.append((child, log_start))
    deadline = time.monotonic() + _START_SECONDS
    while not is_listening(state):
        try:
            code = child.wait(timeout=0.01)
        except TimeoutExpired:
            if time.monotonic() < deadline:
                continue
            raise StartError(f"The daemon (pid {child.pid}) does not listen after {_START_SECONDS:.0f} s.") from None
        if not is_listening(state):
            raise StartError(f"The daemon ended with exit code {code}. {_log_tail(state, log_start)}")


def _log_tail(state: Path, log_start: int) -> str:
    log = paths.log_path(state)
    with log.open("rb") as file:
        file.seek(log_start)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    tail = " ".join(lines[-_LOG_TAIL_LINES:])[-_LOG_TAIL_CHARACTERS:]
    return f"It wrote last: {tail} (log: {log})" if tail else f"It wrote nothing (log: {log})."


def daemon_environment(state: Path, env: Mapping[str, str]) -> dict[str, str]:
    """Return the part of `env` that the daemon gets: settings and paths, but no account: that belongs to each agent."""
    kept = {name: value for name, value in env.items() if paths.is_for_daemon(name)}
    kept["FLEET_STATE"] = str(state)
    return paths.with_package_path(kept)


def reap_daemons() -> None:
    """Reap the daemons that this process started and that have exited, so that they do not become zombies."""
    _started[:] = [(child, log_start) for child, log_start in _started if child.poll() is None or child.returncode > 0]


def start_failure(state: Path) -> str:
    """Return, once, how the daemon that this process started failed, with the end of its log; '' if it did not fail.

    For a caller whose connection was dropped: a daemon binds its sockets before it knows whether it can serve, so it
    may fail after `start_daemon` returned, and takes a moment to exit. A killed daemon did not fail.
    """
    if not _started:
        return ""
    from subprocess import TimeoutExpired

    child, log_start = _started[-1]
    try:
        code = child.wait(timeout=_EXIT_SECONDS)
    except TimeoutExpired:
        return ""
    _started.clear()
    return f"The daemon ended with exit code {code}. {_log_tail(state, log_start)}" if code > 0 else ""
