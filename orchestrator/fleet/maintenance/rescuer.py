"""Requeues turns that no worker owns.

We know of no way in which a turn can lose its worker; this loop is a safeguard against bugs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator import log
from orchestrator.domain.event import Ended, SessionOutcome
from orchestrator.errors import ConflictError
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.fleet.execution.recovery import resumed
from orchestrator.store.turns.cancellation import fail
from orchestrator.store.turns.recovery import held_by
from orchestrator.store.turns.turns import Claim

LOG = log.logger("fleet.rescuer")
LOOK_SECONDS = 1.5
LOST = Ended(outcome=SessionOutcome.FAILED, reason="process", detail="no task of the daemon carried this turn out")


@dataclass(frozen=True)
class Rescuer:
    """Compares the turns that this daemon has claimed with those that its workers own."""

    work: UnitOfWork
    owns: Callable[[str], bool]
    """whether a worker of this daemon owns the agent"""
    max_resumes: int
    name: str = "rescuer"

    async def run(self) -> None:
        """Rescue each turn that had no worker in two passes in a row; one pass may see a claim on its way."""
        suspects: set[tuple[str, int]] = set()
        while True:
            held = await self.work.store.read(lambda connection: held_by(connection, self.work.owner))
            alone = {(claim.agent_id, claim.epoch): claim for claim in held if not self.owns(claim.agent_id)}
            for key in suspects & alone.keys():
                await self._rescue(alone[key])
            suspects = set(alone) - suspects
            await asyncio.sleep(LOOK_SECONDS)

    async def _rescue(self, claim: Claim) -> None:
        """Queue the turn again, or fail it if that happened too often."""
        LOG.error("turn_without_worker", agent=claim.agent_id, turn=claim.turn)
        try:
            final = await resumed(self.work, claim, LOST, self.max_resumes)
            if final is not None:
                await self.work.commit(fail, claim, final.reason, final.detail, final.run_usage, self.work.clock())
        except ConflictError:  # it ended in the meantime
            return
