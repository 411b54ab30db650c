"""Lets parked agents go on when their time has come, whoever restarted in between: the times are rows."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from orchestrator import log
from orchestrator.errors import StoreError
from orchestrator.fleet.commits import Commits
from orchestrator.store import parking

LOG = log.logger("fleet.alarm")
LOOK_SECONDS = 2.0
"""the clock may have jumped, and the bell is only a hint"""


@dataclass
class Alarm:
    """One task that sleeps until the next parked agent is due."""

    commits: Commits
    _task: asyncio.Task[None] | None = field(default=None)

    def start(self) -> None:
        """Begin to watch."""
        self._task = asyncio.get_running_loop().create_task(self._watch(), name="alarm")

    async def aclose(self) -> None:
        """End the watch."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _watch(self) -> None:
        with self.commits.bell.listen() as ear:
            while True:
                try:
                    due = await self._due()
                except StoreError as error:
                    LOG.warning("parked_agents_not_read", error=error.message)
                    due = None
                await ear.wait(LOOK_SECONDS if due is None else max(0.01, min(LOOK_SECONDS, due)))

    async def _due(self) -> float | None:
        """Wake whose time has come; seconds until the next one."""
        at = await self.commits.store.look(parking.next_wake)
        if at is None:
            return None
        if at <= self.commits.clock():
            await self.commits.do(parking.wake, self.commits.clock())
            return 0.0
        return at - self.commits.clock()
