"""Tracks calls and connections of all doors, so that the daemon can finish them and tell when it is idle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Calls:
    """Runs verbs to completion even if their caller disconnects, and measures how long the daemon has been idle."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[object]] = set()
        self._open = 0
        self._quiet_since = time.monotonic()

    async def run_to_completion(self, work: Coroutine[object, object, T]) -> T:
        """Run `work` as a task of the daemon and return its result; cancelling the caller does not cancel it.

        A host that is interrupted kills its door, and the closed connection cancels every handler on it within
        milliseconds (measured with Claude Code 2.1). A verb must not be cut off between two of its steps.
        """
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def settle(self, seconds: float) -> None:
        """Wait until all running work is done, or until `seconds` have passed."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)

    @contextmanager
    def presence(self) -> Generator[None]:
        """Count as activity for as long as the block runs: a connection or a request."""
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            self._quiet_since = time.monotonic()

    def quiet_seconds(self) -> float:
        """Seconds since the last connection, request or task ended; 0 while any is open."""
        if self._open or self._running:
            self._quiet_since = time.monotonic()
        return time.monotonic() - self._quiet_since


async def while_connected(work: Coroutine[object, object, T], left: Coroutine[object, object, object]) -> T | None:
    """Return the result of `work`; if `left` returns first, cancel `work` and return None.

    Otherwise a wait would mark outcomes as delivered to a caller that never received them.
    """
    loop = asyncio.get_running_loop()
    working, leaving = loop.create_task(work), loop.create_task(left)
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
