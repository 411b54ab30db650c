"""Who owns a state directory: the lock that one daemon holds for life, and the sockets it binds under it.

Standard library only, so that a daemon listens before its heavy imports. The lock is not `filelock`'s: its file says
who holds it and whether that daemon is stopping, and its inode shows that it was replaced (ADR 19).
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator import paths

_SOCKETS = ("mcp.sock", "http.sock")
_BACKLOG = 128
_LOCK_BYTES = 200
_PREDECESSOR_SECONDS = 10.0


class RunningError(Exception):
    """Another daemon holds this state directory."""


@dataclass(frozen=True)
class Ownership:
    """The lock and the bound sockets that make this process the daemon of a state directory."""

    state: Path
    lock: int
    build: str
    listeners: Mapping[str, socket.socket]
    inodes: Mapping[str, int]

    def path(self, name: str) -> Path:
        """The path of this socket."""
        return paths.socket_path(self.state, name)

    def lost(self) -> str:
        """What is not ours any more, in words; '' if all is well."""
        if _inode(paths.lock_path(self.state)) != os.fstat(self.lock).st_ino:
            return f"the lock file {paths.lock_path(self.state)} was replaced or removed"
        for name, inode in self.inodes.items():
            if _inode(self.path(name)) != inode:
                return f"the socket {self.path(name)} was replaced or removed"
        return ""

    def mark(self, *, stopping: bool) -> None:
        """Write into the lock file who holds it, and whether a successor should wait for it to exit."""
        line = json.dumps({"pid": os.getpid(), "build": self.build, "stopping": stopping}).encode()
        os.pwrite(self.lock, line.ljust(_LOCK_BYTES) + b"\n", 0)  # one write of one length: no reader sees half of it

    def step_aside(self, *, back: bool = False) -> None:
        """Rename the sockets so that nobody can connect, or rename them back; open connections stay."""
        self.mark(stopping=not back)
        for name, inode in self.inodes.items():
            source, target = self.path(name), self._aside(name)
            if back:
                source, target = target, source
            if _inode(source) == inode:
                source.rename(target)

    def release(self) -> None:
        """Remove what is still ours, the lock last; leave a successor's files alone."""
        if _inode(paths.lock_path(self.state)) == os.fstat(self.lock).st_ino:
            self.step_aside()
        for name, listener in self.listeners.items():
            self._aside(name).unlink(missing_ok=True)
            listener.close()
        os.close(self.lock)

    def _aside(self, name: str) -> Path:
        return self.path(name).with_name(f".{name}.{os.getpid()}")


def take(state: Path) -> Ownership:
    """Return the ownership of this state directory, its sockets bound (mode 0600) and listening.

    Waits up to 10 s for a daemon that is stopping.

    Raises:
        RunningError: another daemon holds it; the text names its pid.
        OSError: the lock or a socket cannot be made.
    """
    lock = _lock(state)
    try:
        listeners = {name: _bind(paths.socket_path(state, name)) for name in _SOCKETS}
    except BaseException:
        os.close(lock)
        raise
    inodes = {name: _inode(paths.socket_path(state, name)) for name in _SOCKETS}
    own = Ownership(state, lock, paths.build(), listeners, inodes)
    own.mark(stopping=False)
    return own


def _lock(state: Path) -> int:
    path = paths.lock_path(state)
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _flock(lock, state)
        except BaseException:
            os.close(lock)
            raise
        if _inode(path) == os.fstat(lock).st_ino:  # else the file was replaced in between
            return lock
        os.close(lock)


def _flock(lock: int, state: Path) -> None:
    with suppress(BlockingIOError):
        return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    holder = _holder(lock)
    if holder.get("stopping"):
        with suppress(TimeoutError), _alarm(_PREDECESSOR_SECONDS):
            return fcntl.flock(lock, fcntl.LOCK_EX)
    pid = holder.get("pid", "unknown")
    raise RunningError(f"fleet daemon: pid {pid} already serves {state}; end it with: fleet down")


def _holder(lock: int) -> dict[str, object]:
    try:
        found: object = json.loads(os.pread(lock, 1000, 0))
    except ValueError:
        return {}
    return dict(found) if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownArgumentType] - JSON keys are text


@contextmanager
def _alarm(seconds: float) -> Generator[None]:
    """Raise TimeoutError in the block after so long: `flock` itself waits without a limit."""

    def ring(_signal: int, _frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _bind(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)  # we hold the lock, so the daemon that left it is dead
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return -1
