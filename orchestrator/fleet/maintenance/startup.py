"""What a daemon does before it serves: ends leftover processes and takes over its predecessor's turns."""

from __future__ import annotations

import asyncio
from pathlib import Path

from orchestrator.domain.budget import Unit
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.fleet.sessions import processes
from orchestrator.provisioning.read_only_git import remove_views
from orchestrator.settings import Settings
from orchestrator.store.families import budgets
from orchestrator.store.turns import recovery


async def take_over(work: UnitOfWork, settings: Settings, state: Path) -> list[str]:
    """Take over what an earlier daemon left unfinished and admit queued turns; returns the agents taken over."""
    await asyncio.to_thread(remove_views, state)
    await processes.clear(work.store)
    await work.store.write(budgets.take_settings, _caps(settings))
    lost = await work.commit(recovery.take_over, work.owner, work.clock(), settings.max_resumes)
    await work.commit(budgets.resume, work.clock())  # the settings may have changed
    return lost


def _caps(settings: Settings) -> dict[Unit, float | None]:
    """Return the fleet's caps from the settings."""
    return {
        Unit.USD: settings.max_cost_usd,
        Unit.TOKENS: settings.max_tokens,
        Unit.TURNS: settings.max_total_turns,
        Unit.SECONDS: settings.max_seconds,
    }
