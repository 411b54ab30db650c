"""Reports the daemon's health: its build, its files and its load."""

from __future__ import annotations

import os
import time

from orchestrator import paths
from orchestrator.domain.agent import Status
from orchestrator.fleet.context import FleetContext
from orchestrator.fleet.sessions import processes
from orchestrator.fleet.views import Health
from orchestrator.store.agents import lifecycle


async def health(context: FleetContext) -> Health:
    """Return the daemon's health."""
    counts = await context.work.store.read(lifecycle.count_by_status)
    return Health(
        build=context.build,
        pid=os.getpid(),
        state=str(context.state),
        database=str(paths.database_path(context.state)),
        log=str(paths.log_path(context.state)),
        uptime_seconds=time.time() - context.started_at,
        working=counts[Status.WORKING],
        queued=counts[Status.QUEUED],
        waiting=counts[Status.WAITING],
        sessions=context.slots.session_count(),
        slots=context.settings.slots,
        rehearsal=bool(context.settings.rehearsal),
        supervision=context.supervision,
        http=context.http,
        memory_bytes=processes.memory_bytes(),
        lost_events=context.work.store.lost_events,
    )
