"""Waits for processes left by a previous daemon's session, so that a conversation never has two programs at once."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

PROC = Path("/proc")
CHECK_SECONDS = 0.05


def find_processes(argument: str) -> list[int]:
    """Process ids of the living processes with a command-line argument that ends in this text; none without /proc.

    The text is a random id of ours, so no other process matches by accident; a zombie has no arguments.
    """
    suffix = argument.encode()
    found: list[int] = []
    if not PROC.is_dir():
        return found
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(each.endswith(suffix) for each in arguments):
            found.append(int(entry.name))
    return found


async def wait_gone(argument: str, seconds: float) -> list[int]:
    """Wait until no process has the argument, or until the time-out; return the ids of the remaining ones."""
    deadline = time.monotonic() + seconds
    while True:
        pids = await asyncio.to_thread(find_processes, argument)
        if not pids or time.monotonic() >= deadline:
            return pids
        await asyncio.sleep(CHECK_SECONDS)
