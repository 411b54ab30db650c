"""Waits for processes that a former daemon's session left running, so that no conversation has two programs."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

PROC = Path("/proc")
LOOK_SECONDS = 0.05


def alive(word: str) -> list[int]:
    """Ids of the living processes with an argument that ends with this word; none without /proc.

    The word is a random id of ours, so no other process has it by accident; an unreaped process has no arguments.
    """
    wanted = word.encode()
    found: list[int] = []
    if not PROC.is_dir():
        return found
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(one.endswith(wanted) for one in words):
            found.append(int(entry.name))
    return found


async def wait_gone(word: str, seconds: float) -> list[int]:
    """Wait until no process carries the word, or until the time-out; return the ids of those left."""
    deadline = time.monotonic() + seconds
    while True:
        left = await asyncio.to_thread(alive, word)
        if not left or time.monotonic() >= deadline:
            return left
        await asyncio.sleep(LOOK_SECONDS)
