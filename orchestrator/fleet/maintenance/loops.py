"""The loops that run beside the agents' turns, under one guard: a loop that fails is logged and begins again."""

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
    """One job that never ends."""

    @property
    def name(self) -> str:
        """What the log calls it."""
        ...

    async def run(self) -> None:
        """Do the job until cancelled; after an error it is called again, so it keeps no state that must survive."""
        ...


@dataclass
class Loops:
    """Runs each loop in a task of its own, from `start` to `aclose`."""

    loops: Sequence[Loop]
    _tasks: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    def start(self) -> None:
        """Begin to run them."""
        running = asyncio.get_running_loop()
        self._tasks += [running.create_task(_guarded(loop), name=loop.name) for loop in self.loops]

    async def aclose(self) -> None:
        """Cancel them and return when all have ended; a commit that is under way is completed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _guarded(loop: Loop) -> None:
    """Run the loop for ever: one row that cannot be acted on must not end it."""
    while True:
        try:
            await loop.run()
            LOG.error("loop_ended", loop=loop.name)
        except StoreError as error:
            LOG.warning("loop_without_database", loop=loop.name, error=error.message)
        except Exception:
            LOG.exception("loop_failed", loop=loop.name)
        await asyncio.sleep(AGAIN_SECONDS)
