"""What is looked after besides: turns at work by their rows and by nobody's hands, and rows that nobody needs.

No path is known that leads to such a turn; what nobody has thought of is why this looks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator import log
from orchestrator.domain.event import Ended, Outcome
from orchestrator.errors import ConflictError
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.fleet.execution.recovery import resumed
from orchestrator.fleet.sessions.usage import usage_of
from orchestrator.store import retention
from orchestrator.store.turns.cancellation import fail
from orchestrator.store.turns.recovery import held_by
from orchestrator.store.turns.turns import Claim

LOG = log.logger("fleet.reconciling")
LOOK_SECONDS = 1.5
PRUNE_SECONDS = 86_400.0
LOST = Ended(outcome=Outcome.FAILED, reason="process", detail="no task of the daemon carried this turn out")


@dataclass
class Rescuer:
    """Looks twice, so that a claim on its way to its worker is none."""

    work: UnitOfWork
    carries: Callable[[str], bool]
    """whether a worker of this daemon has the agent"""
    max_resumes: int
    _suspects: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    _not_before: float = 0.0
    _prune_at: float = 0.0

    async def look(self) -> None:
        """Queue again, or fail if that happened too often, what was already without a worker at the last look."""
        if (now := time.monotonic()) < self._not_before:
            return
        self._not_before = now + LOOK_SECONDS
        held = await self.work.store.read(lambda connection: held_by(connection, self.work.owner))
        alone = {(claim.agent_id, claim.epoch): claim for claim in held if not self.carries(claim.agent_id)}
        for key in self._suspects & alone.keys():
            await self._mend(alone[key])
        self._suspects = set(alone) - self._suspects
        await self._prune(self.work.clock())

    async def _prune(self, now: float) -> None:
        """Once a day, and a batch with each look until nothing is left."""
        if now >= self._prune_at and not await self.work.store.write(retention.prune, now):
            self._prune_at = now + PRUNE_SECONDS

    async def _mend(self, claim: Claim) -> None:
        LOG.error("turn_without_worker", agent=claim.agent_id, turn=claim.turn)
        try:
            final = await resumed(self.work, claim, LOST, self.max_resumes)
            if final is not None:
                await self.work.commit(fail, claim, final.reason, final.detail, usage_of(final), self.work.clock())
        except ConflictError:  # it ended meanwhile
            return
