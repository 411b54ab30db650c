"""Runs the background loops under one guard: a loop that fails is logged and started again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from orchestrator import log
from orchestrator.errors import StoreError

LOG = log.logger("fleet.maintenance")
AGAIN_SECONDS = 1.0


class Loop(Protocol):
    """One background job that never ends."""

    @property
    def name(self) -> str:
        """The name in the log."""
        ...

    async def run(self) -> None:
        """Work until cancelled; called again after an error, so it keeps no state that must survive one."""
        ...


@dataclass
class Loops:
    """Runs each loop in its own task, from `start` to `aclose`."""

    loops: Sequence[Loop]
    _tasks: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    def start(self) -> None:
        """Start the loops."""
        running = asyncio.get_running_loop()
        self._tasks += [running.create_task(_guarded(loop), name=loop.name) for loop in self.loops]

    async def aclose(self) -> None:
        """Cancel the loops and return when all have ended; a commit in progress is completed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _guarded(loop: Loop) -> None:
    """Run the loop forever; one row that cannot be processed must not end it."""
    while True:
        try:
            await loop.run()
            LOG.error("loop_ended", loop=loop.name)
        except StoreError as error:
            LOG.warning("loop_without_database", loop=loop.name, error=error.message)
        except Exception:
            LOG.exception("loop_failed", loop=loop.name)
        await asyncio.sleep(AGAIN_SECONDS)
