"""Tells whether a session's program is the only thing of it that still runs, from the process table."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from orchestrator.supervision import reaper, shim

SETTLE_SECONDS = 0.5
"""how long what a turn started may take to end after the turn: a shell's last children exit a moment after it"""
_PAUSE_SECONDS = 0.02


async def wait_settled(pid: int) -> bool:
    """Whether nothing of the session but its program runs, or will within half a second; `pid` is its first process.

    True where the process table cannot be read (macOS): nothing is known there.
    """
    deadline = time.monotonic() + SETTLE_SECONDS
    while await asyncio.to_thread(left_running, pid):
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(_PAUSE_SECONDS)  # the end of processes that are not our children has no event
    return True


def left_running(pid: int) -> set[int]:
    """The living processes of the session beside its launcher, its shim and its program; `pid` is its first process.

    What detaches itself becomes a child of the shim, whose first child is the program. A first process that lives and
    is hidden (`/proc` mounted with hidepid) counts itself: what else runs cannot be known.
    """
    if _is_hidden(pid):
        return {pid}
    while not _is_shim(pid):
        below = shim.children(pid)
        if len(below) != 1:
            return set()
        [pid] = below
    return {each for each in shim.descendants(pid) if reaper.is_alive(each)} - set(shim.children(pid)[:1])


def _is_hidden(pid: int) -> bool:
    """Whether the process lives although this machine's process table does not show it."""
    if not os.path.exists("/proc/self/stat") or os.path.exists(f"/proc/{pid}/stat"):  # noqa: PTH110 - pathlib raises where it may not look
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        return False
    return True


def _is_shim(pid: int) -> bool:
    """Whether the process is a shim, whose path is also among the arguments of its launcher."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return os.fsencode(Path(shim.__file__).resolve()) in arguments[1:3]
