"""Acts on times in rows when they are due: deadlines of questions and ends of waits."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator import log
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.store.engine.connection import Connection
from orchestrator.store.schema.transitions import CLOCK
from orchestrator.store.turns.turns import expire
from orchestrator.store.waits import pauses, questions

LOG = log.logger("fleet.scheduler")
LOOK_SECONDS = 2.0
"""upper limit of a pause: the clock may jump, and notifications may be lost"""


@dataclass(frozen=True)
class Scheduler:
    """Rests until the next row is due; a restart of the daemon loses nothing."""

    work: UnitOfWork
    name: str = "scheduler"

    async def run(self) -> None:
        """Act on each row when it is due."""
        with self.work.notifier.subscribe() as subscription:
            subscription.narrow({CLOCK})
            while True:
                due = await self._due()
                await subscription.wait(LOOK_SECONDS if due is None else max(0.01, min(LOOK_SECONDS, due)))

    async def _due(self) -> float | None:
        """Act on due rows; returns the seconds until the next one, or None if no row has a time."""
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
