"""The bell inside one process: it says that something was committed, never what.

Listen before you read, read once more after a time-out: then no ring is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(eq=False)
class Listener:
    """One sleeper's ear."""

    _rung: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self) -> None:
        """Wake the sleeper, now or at its next wait."""
        self._rung.set()

    async def wait(self, seconds: float | None) -> bool:
        """Return True at once if the bell rang since the last wait, else at the next ring; False after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            return False
        self._rung.clear()
        return True


@dataclass(eq=False)
class Bell:
    """Rings for everyone who listens."""

    _listeners: set[Listener] = field(default_factory=set[Listener])

    @contextmanager
    def listen(self) -> Generator[Listener]:
        """An ear that hears every ring from now to the end of the context."""
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    def ring(self) -> None:
        """Wake every listener."""
        for listener in self._listeners:
            listener.hear()
