"""Ends every durable wait as soon as it is over, even if its client does not ask."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from orchestrator import log
from orchestrator.errors import StoreError
from orchestrator.fleet.context import FleetContext
from orchestrator.fleet.verbs import durable_wait
from orchestrator.fleet.verbs.durable_wait import DURABLE_WAITS
from orchestrator.fleet.verbs.wait import REREAD_SECONDS
from orchestrator.store.schema.rows import DurableWaitRow
from orchestrator.store.waits import durable_waits

LOG = log.logger("fleet.durable_waits")
PAUSE_SECONDS = 0.05
"""pause between two passes: commits come in bursts"""


@dataclass(frozen=True)
class DurableWaitWatch:
    """Examines a wait when it is new, when its time is up, and when one of its agents changed."""

    context: FleetContext
    name: str = "durable waits"

    async def run(self) -> None:
        """Settle the waits that a change concerns; without changes, all of them periodically."""
        work = self.context.work
        topics: dict[str, set[str]] = {}
        changed: set[str] | None = None
        with work.notifier.subscribe() as subscription:
            while True:
                subscription.narrow(None)
                rows = await work.store.read(durable_waits.under_way)
                topics = {row.id: topics[row.id] for row in rows if row.id in topics}
                for row in rows:
                    if _concerns(row, changed, topics.get(row.id), work.clock()):
                        topics[row.id] = await self._settled(row)
                left = [row.deadline - work.clock() for row in rows if row.deadline is not None]
                nap = min([REREAD_SECONDS, *(max(0.0, seconds) for seconds in left)])
                subscription.narrow({DURABLE_WAITS, *(name for each in topics.values() for name in each)})
                await asyncio.sleep(PAUSE_SECONDS)
                changed = subscription.take_topics() if await subscription.wait(nap) else None

    async def _settled(self, row: DurableWaitRow) -> set[str]:
        """Settle the wait; returns the topics whose changes should trigger its next examination."""
        try:
            return durable_wait.topics(row, await durable_wait.settle(self.context, row))
        except StoreError:
            raise
        except Exception:  # one broken wait must not hold up the others
            LOG.exception("durable_wait_not_settled", wait=row.id)
            return {row.id}


def _concerns(row: DurableWaitRow, changed: set[str] | None, topics: set[str] | None, now: float) -> bool:
    """Whether to examine the wait: it is new, its time is up, or one of its topics was published."""
    if changed is None or topics is None or not topics.isdisjoint(changed):
        return True
    return row.deadline is not None and now >= row.deadline
