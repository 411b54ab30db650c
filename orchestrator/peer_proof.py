"""Proves that the process behind a socket is the daemon, before a client tells it anything.

Nothing inside a state directory proves anything: an agent of the same user may have moved the directory away and put
its own in that place, with sockets and a lock that it holds. What an agent cannot change is its ancestry: everything
that it starts descends from the shim of its session, and the daemon does not, unless the client itself does too. Linux
only: other systems do not say who the peer is, and nothing is refused there.

Standard library only and cheap to import, because every `fleet mcp` imports it.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from orchestrator import paths

_CREDENTIALS = struct.Struct("3i")
_PEERPIDFD = 77
"""SO_PEERPIDFD of Linux 6.5; Python 3.11 has no name for it"""
_LOCK_BYTES = 1000
_WALKS = 5
_SHIM = (b"-IS", b"/orchestrator/supervision/shim.py")
"""an argument of the interpreter that runs a shim, and the end of the next one"""


class UnprovenError(paths.StateError):
    """Something listens where the daemon should, but is not proven to be it; the text says why and what to do."""


class _EndedError(Exception):
    """One of the ancestors has ended."""


def is_daemon(connection: socket.socket, state: Path) -> bool:
    """Return whether the peer is the daemon that the lock file of `state` names; False if it is not, or has exited.

    Raises:
        UnprovenError: the peer is another user's, an agent's, or cannot be seen from here.
    """
    if sys.platform != "linux":
        return True
    pid, uid, _ = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size),
    )
    if uid != os.geteuid():
        raise UnprovenError(_text(state, f"belongs to user {uid}"))
    if pid == os.getpid():
        return True
    if pid == 0:
        raise UnprovenError(_text(state, "is in a pid namespace that this process cannot see into"))
    try:
        own_pid = _own_pid(pid)
        shims = _shims(pid)
        is_agents = bool(shims and shims - _shims(os.getpid()))
    except _EndedError:
        return False
    if is_agents:
        raise UnprovenError(_text(state, f"(pid {pid}) was started by an agent"))
    return not _has_ended(connection) and _holder(state) == own_pid  # ended: asked last, so the pid was not reused


def _text(state: Path, found: str) -> str:
    return (
        f"What listens in {state} {found}, so it is not proven to be Fleet's daemon, and nothing was sent to it. "
        f"Look whether {state} is still your state directory and was not moved away; "
        "put it back in its place, end that process, then try again."
    )


def _holder(state: Path) -> int | None:
    """The pid, as its own process sees it, that the lock file names."""
    try:
        lock = os.open(paths.lock_path(state), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        found = json.loads(os.read(lock, _LOCK_BYTES))
        return int(found["pid"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    finally:
        os.close(lock)


def _has_ended(connection: socket.socket) -> bool:
    """Whether the process that listens has exited; False on kernels before Linux 6.5."""
    with suppress(OSError):
        handle = connection.getsockopt(socket.SOL_SOCKET, _PEERPIDFD)
        try:
            ended = select.poll()
            ended.register(handle, select.POLLIN)
            return bool(ended.poll(0))
        finally:
            os.close(handle)
    return False


def _own_pid(pid: int) -> int:
    """The process's id in its own pid namespace."""
    for line in _read(pid, "status").splitlines():
        if line.startswith(b"NSpid:"):
            return int(line.split()[-1])
    return pid


def _shims(pid: int) -> frozenset[int]:
    """The shims among the process and its ancestors.

    Raises:
        _EndedError: an ancestor ended during each of several walks.
    """
    for attempt in range(_WALKS):
        try:
            return frozenset(one for one in _line(pid) if _is_shim(one))
        except _EndedError:
            if attempt == _WALKS - 1:
                raise
    raise AssertionError


def _line(pid: int) -> list[int]:
    """The process and its ancestors, as far as they are in this pid namespace."""
    found: list[int] = []
    while pid > 0:
        found.append(pid)
        pid = int(_read(pid, "stat").rpartition(b")")[2].split()[1])
    return found


def _is_shim(pid: int) -> bool:
    arguments = _read(pid, "cmdline").split(b"\0")
    return any(file.endswith(_SHIM[1]) for flag, file in pairwise(arguments) if flag == _SHIM[0])


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:  # noqa: PTH123 - as cheap as it can be
            return file.read()
    except OSError as error:
        raise _EndedError from error
