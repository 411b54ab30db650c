"""Deletes expired rows once a day."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.store import retention

BATCH_SECONDS = 1.0
"""pause between two batches, so that agents can write"""
CHECK_SECONDS = 60.0
"""shorter than a day, because a sleep does not count time in which the machine is suspended"""
DAY_SECONDS = 86_400.0


@dataclass(frozen=True)
class Cleaner:
    """Prunes expired rows in batches, then rests for a day."""

    work: UnitOfWork
    name: str = "cleaner"

    async def run(self) -> None:
        """Prune now, and then once a day."""
        next_at = 0.0
        while True:
            now, pause = self.work.clock(), CHECK_SECONDS
            if now >= next_at:
                if await self.work.store.write(retention.prune, now):
                    pause = BATCH_SECONDS
                else:
                    next_at = now + DAY_SECONDS
            await asyncio.sleep(pause)
