"""Exclusive ownership of a state directory: the lock that one daemon holds for its lifetime, and the sockets it binds.

Standard library only, so that a daemon listens before its heavy imports. The lock is not `filelock`'s: the file
records who holds it and whether that daemon is stopping, and its inode reveals a replacement (ADR 19).
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
    """Another daemon owns this state directory."""


@dataclass(frozen=True)
class Ownership:
    """The lock and the bound sockets that make this process the only daemon of a state directory."""

    state: Path
    lock: int
    build: str
    folders: Mapping[Path, int]
    """the state directory and that of the sockets, each with the descriptor by which this process holds it"""
    reals: Mapping[Path, str]
    """the real path that each of them had: no session starts once it has another"""
    listeners: Mapping[str, socket.socket]
    inodes: Mapping[str, int]

    def path(self, name: str) -> Path:
        """The path of this socket."""
        return paths.socket_path(self.state, name)

    def lost(self) -> str:
        """Which directory of ours was moved, or which file replaced or removed, in words; '' if none was."""
        if place := self.displaced():
            found = f"was moved to {place}" if place.exists() else "was removed"
            return f"the state directory {self.state} {found}; its turns resume when it is back and a daemon starts"
        if _inode(paths.lock_path(self.state)) != os.fstat(self.lock).st_ino:
            return f"the lock file {paths.lock_path(self.state)} was replaced or removed"
        for name, inode in self.inodes.items():
            if _inode(self.path(name)) != inode:
                return f"the socket {self.path(name)} was replaced or removed"
        return ""

    def displaced(self) -> Path | None:
        """Where the directory is that was ours at its path, if another one or none is there now; else None."""
        for path, folder in self.folders.items():
            held = os.fstat(folder)
            try:
                found = path.stat()
            except OSError:
                return _path_of(folder, path)
            if (found.st_dev, found.st_ino) != (held.st_dev, held.st_ino) or self.reals[path] != os.path.realpath(path):
                return _path_of(folder, path)
        return None

    def leave_note(self) -> None:
        """If the state directory was moved and another is in its place, say there where the agents are."""
        place = self.displaced()
        with suppress(OSError, paths.StateError):
            if place is not None and self.state.is_dir():
                paths.leave_moved_note(self.state, place, os.getpid())

    def mark(self, *, stopping: bool) -> None:
        """Record in the lock file who holds it and whether a successor should wait for the exit."""
        _mark(self.lock, self.build, stopping=stopping)

    def step_aside(self, *, back: bool = False) -> None:
        """Rename the sockets so that nobody can connect, or rename them back; open connections stay open."""
        self.mark(stopping=not back)
        for name, inode in self.inodes.items():
            source, target = self.path(name), self._hidden_path(name)
            if back:
                source, target = target, source
            if _inode(source) == inode:
                source.rename(target)

    def release(self) -> None:
        """Remove the sockets and release the lock, the lock last; a successor's files stay untouched."""
        if _inode(paths.lock_path(self.state)) == os.fstat(self.lock).st_ino:
            self.step_aside()
        for name, listener in self.listeners.items():
            self._hidden_path(name).unlink(missing_ok=True)
            listener.close()
        for folder in self.folders.values():
            os.close(folder)
        os.close(self.lock)

    def _hidden_path(self, name: str) -> Path:
        return self.path(name).with_name(f".{name}.{os.getpid()}")


def acquire(state: Path) -> Ownership:
    """Take exclusive ownership of this state directory; its sockets are bound (mode 0600) and listening.

    Waits up to 10 s for a daemon that is stopping.

    Raises:
        RunningError: another daemon owns the directory; the text names its pid.
        OSError: the lock or a socket cannot be created.
    """
    lock = _lock(state)
    build = paths.build()
    _mark(lock, build, stopping=False)  # before a client can connect, because it compares its peer with this
    try:
        listeners = {name: _bind(paths.socket_path(state, name)) for name in _SOCKETS}
    except BaseException:
        os.close(lock)
        raise
    inodes = {name: _inode(paths.socket_path(state, name)) for name in _SOCKETS}
    folders = {place: os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for place in paths.hidden(state)}
    reals = {place: os.path.realpath(place) for place in folders}
    return Ownership(state, lock, build, folders, reals, listeners, inodes)


def _mark(lock: int, build: str, *, stopping: bool) -> None:
    """Record who holds the lock in one write of a fixed length, so that no reader sees half a line."""
    line = json.dumps({"pid": os.getpid(), "build": build, "stopping": stopping}).encode()
    os.pwrite(lock, line.ljust(_LOCK_BYTES) + b"\n", 0)


def _lock(state: Path) -> int:
    path = paths.lock_path(state)
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _wait_for_lock(lock, state)
        except BaseException:
            os.close(lock)
            raise
        if _inode(path) == os.fstat(lock).st_ino:  # otherwise the file was replaced in the meantime
            return lock
        os.close(lock)


def _wait_for_lock(lock: int, state: Path) -> None:
    with suppress(BlockingIOError):
        return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    holder = _holder(lock)
    if holder.get("stopping"):
        with suppress(TimeoutError), _time_limit(_PREDECESSOR_SECONDS):
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
def _time_limit(seconds: float) -> Generator[None]:
    """Raise TimeoutError in the block after this long, because `flock` itself has no time-out."""

    def time_out(_signal: int, _frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, time_out)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _bind(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)  # we hold the lock, so the daemon that left this socket is dead
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


def _path_of(folder: int, path: Path) -> Path:
    """Where the open directory is now; the path that it had where the system does not tell."""
    try:
        return Path(f"/proc/self/fd/{folder}").readlink()
    except OSError:
        return path


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return -1
