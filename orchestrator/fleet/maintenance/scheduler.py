"""Does at its time what no event brings: deadlines of questions, agents that are parked. The rows are the timer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from orchestrator import log
from orchestrator.errors import StoreError
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.store.engine.database import Connection
from orchestrator.store.schema.transitions import CLOCK
from orchestrator.store.turns.turns import expire
from orchestrator.store.waits import pauses, questions

LOG = log.logger("fleet.alarm")
T = TypeVar("T")
LOOK_SECONDS = 2.0
"""the clock may have jumped, and the bell is only a hint"""


@dataclass
class Scheduler:
    """One task that sleeps until the next row is due, whoever restarted in between."""

    work: UnitOfWork
    besides: Callable[[], Awaitable[None]]
    """what else is looked at each time"""
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
        with self.work.notifier.subscribe() as subscription:
            subscription.narrow({CLOCK})
            while True:
                due = await self._tried(self._due)
                await self._tried(self.besides)
                await subscription.wait(LOOK_SECONDS if due is None else max(0.01, min(LOOK_SECONDS, due)))

    async def _tried(self, look: Callable[[], Awaitable[T]]) -> T | None:
        """What it gives; None if it failed: one row that cannot be acted on must not end the watch."""
        try:
            return await look()
        except StoreError as error:
            LOG.warning("alarm_not_read", error=error.message)
        except Exception:
            LOG.exception("alarm_failed")
        return None

    async def _due(self) -> float | None:
        """Do what is due; seconds until the next, None: nothing has a time."""
        at = await self.work.store.read(_next)
        if at is None:
            return None
        if at <= (now := self.work.clock()):
            await self.work.commit(_act, now)
            return 0.0
        return at - now


def _next(connection: Connection) -> float | None:
    times = (pauses.next_wake(connection), questions.next_deadline(connection))
    return min((at for at in times if at is not None), default=None)


def _act(connection: Connection, now: float) -> None:
    woken, answered = pauses.wake(connection, now), expire(connection, now)
    LOG.info("time_came", woken=len(woken), answered=answered)
