"""The calls under way, from every door."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Calls:
    """Knows when the last call or connection ended, and finishes begun work even if its caller leaves."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[object]] = set()
        self._open = 0
        self._quiet_since = time.monotonic()

    async def run_to_completion(self, work: Coroutine[object, object, T]) -> T:
        """Run `work` as a task of the daemon and return its result; cancelling the caller does not cancel it.

        A host that is interrupted ends its door, and the end of a connection cancels every handler on it within
        milliseconds (measured with Claude Code 2.1): a verb must not be cut between two of its steps.
        """
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def settle(self, seconds: float) -> None:
        """Wait until what runs is done, at most so long."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)

    @contextmanager
    def presence(self) -> Generator[None]:
        """Count a connection or request as a sign of life while the block runs."""
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            self._quiet_since = time.monotonic()

    def quiet_seconds(self) -> float:
        """Seconds since the last connection, request or task ended; 0 while there is one."""
        if self._open or self._running:
            self._quiet_since = time.monotonic()
        return time.monotonic() - self._quiet_since


async def while_connected(work: Coroutine[object, object, T], left: Coroutine[object, object, object]) -> T | None:
    """Return the result of `work`, or None as soon as `left` returns: the work is then cancelled.

    A call that went on for a caller that has left would count as heard what nobody heard.
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
