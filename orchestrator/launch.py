"""Start the daemon of a state directory if none listens: the one rule for the door and the command line.

Standard library only, and `subprocess` only when there is something to start. It does not know the daemon's code: that
is another process.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket

from orchestrator import paths

TYPE_CHECKING = False  # as a checker reads it; the module `typing` costs every door 3 ms
if TYPE_CHECKING:
    from subprocess import Popen

MCP_SOCKET = "mcp.sock"
HTTP_SOCKET = "http.sock"

_START_SECONDS = 20.0
_END_SECONDS = 2.0
_LAST_WORDS_LINES = 2
_LAST_WORDS_CHARACTERS = 500
_KEPT = frozenset({"CLAUDE_CODE_PATH", "HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER"})
_KEPT_PREFIXES = ("AGENT_", "FLEET_", "LC_", "XDG_")

_started: list[tuple[Popen[bytes], int]] = []  # with where in the log its words begin


class StartError(Exception):
    """No daemon came up; the text says what it wrote last and where its log is."""


def connect(state: Path, name: str = MCP_SOCKET) -> socket | None:
    """Return a connected socket, None if nobody listens.

    A dying daemon's listener still accepts for a moment: only an answer proves that someone is there.
    """
    link = socket(AF_UNIX, SOCK_STREAM)
    try:
        link.connect(os.fspath(paths.socket_path(state, name)))
    except OSError:
        link.close()
        return None
    return link


def is_listening(state: Path) -> bool:
    """Tell whether both sockets of the daemon of `state` accept."""
    for name in (HTTP_SOCKET, MCP_SOCKET):
        link = connect(state, name)
        if link is None:
            return False
        link.close()
    return True


def start_daemon(state: Path, env: Mapping[str, str]) -> None:
    """Return when a daemon listens on both sockets of `state`; start one, detached, if there is none.

    However many processes call this at once, one daemon is started. It gets the settings of `env` and none of its keys.

    Raises:
        StartError: The daemon ended at once, or does not listen within 20 s.
        OSError: The state directory cannot be written.
    """
    lock = os.open(paths.start_lock_path(state), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_listening(state):  # else another process was first
            _start(state, env)
    finally:
        os.close(lock)


def _start(state: Path, env: Mapping[str, str]) -> None:
    from subprocess import DEVNULL, Popen, TimeoutExpired  # here: 8 ms that a warm door never pays

    reap()
    log = os.open(paths.log_path(state), os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        start_of_words = os.fstat(log).st_size
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
    _started.append((child, start_of_words))
    end = time.monotonic() + _START_SECONDS
    while not is_listening(state):
        try:
            code = child.wait(timeout=0.01)
        except TimeoutExpired:
            if time.monotonic() < end:
                continue
            raise StartError(f"The daemon (pid {child.pid}) does not listen after {_START_SECONDS:.0f} s.") from None
        if not is_listening(state):
            raise StartError(f"The daemon ended with exit code {code}. {_last_words(state, start_of_words)}")


def _last_words(state: Path, start: int) -> str:
    log = paths.log_path(state)
    with log.open("rb") as file:
        file.seek(start)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    words = " ".join(lines[-_LAST_WORDS_LINES:])[-_LAST_WORDS_CHARACTERS:]
    return f"It wrote last: {words} (log: {log})" if words else f"It wrote nothing (log: {log})."


def daemon_environment(state: Path, env: Mapping[str, str]) -> dict[str, str]:
    """Return what the daemon gets of `env`: settings and places; whose account pays is each agent's, never its own."""
    kept = {name: value for name, value in env.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
    kept["FLEET_STATE"] = str(state)
    return paths.importable(kept)


def reap() -> None:
    """Collect daemons that this process started and that have ended, so that they do not become zombies."""
    _started[:] = [(child, start) for child, start in _started if child.poll() is None or child.returncode > 0]


def failure(state: Path) -> str:
    """Return, once, how the daemon that this process started has failed, with its last words; '' if it has not.

    For a caller whose connection was dropped: a daemon binds its sockets before it can know whether it can serve, so it
    may fail after `start_daemon`, and takes a moment to end. One that somebody killed has not failed.
    """
    if not _started:
        return ""
    from subprocess import TimeoutExpired

    child, start = _started[-1]
    try:
        code = child.wait(timeout=_END_SECONDS)
    except TimeoutExpired:
        return ""
    _started.clear()
    return f"The daemon ended with exit code {code}. {_last_words(state, start)}" if code > 0 else ""
