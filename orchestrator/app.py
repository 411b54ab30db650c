"""The composition root: the only module that knows every part and assembles one fleet from them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator import log, paths
from orchestrator.fleet.connections import Connections
from orchestrator.fleet.context import FleetContext
from orchestrator.fleet.delegation.delegates import Delegates
from orchestrator.fleet.delegation.orchestrators import ManagedOrchestrators, granted_names
from orchestrator.fleet.engine.credentials import Accounts
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.fleet.execution.runtime import Runtime
from orchestrator.fleet.execution.slots import AgentSlots
from orchestrator.fleet.execution.worker import Workers
from orchestrator.fleet.fleet import Fleet
from orchestrator.fleet.maintenance.cleaner import Cleaner
from orchestrator.fleet.maintenance.durable_wait_watch import DurableWaitWatch
from orchestrator.fleet.maintenance.loops import Loops
from orchestrator.fleet.maintenance.rescuer import Rescuer
from orchestrator.fleet.maintenance.scheduler import Scheduler
from orchestrator.fleet.maintenance.startup import take_over
from orchestrator.fleet.sessions.transcripts import Transcripts
from orchestrator.providers.base import Provider
from orchestrator.providers.claude.catalog import SOCKET_FOLDERS
from orchestrator.providers.claude.provider import ClaudeProvider
from orchestrator.providers.watchdog import SilenceLimits
from orchestrator.server.mcp import tools
from orchestrator.settings import Settings
from orchestrator.store.engine.database import Store, open_store
from orchestrator.supervision import programs, tiers
from orchestrator.supervision.command import LaunchConfig
from orchestrator.supervision.hidden import hidden_place

RUN = "run"
"""folder of the state directory for generated launchers"""
LOG = log.logger("fleet.app")


@dataclass(frozen=True, kw_only=True)
class Host:
    """What the machine and the daemon provide to one fleet."""

    state: Path
    settings: Settings
    launch: LaunchConfig
    """how checks are started"""
    tier: str
    """letter of the supervision tier of sessions; '' if sessions have no processes"""
    supervision: str
    """the supervision tier, described for a reader"""
    http: str = ""
    """address of the HTTP port on loopback; '' without one"""
    clock: Callable[[], float] = time.time


@dataclass(frozen=True, kw_only=True)
class Parts:
    """One assembled fleet that has not started."""

    fleet: Fleet
    context: FleetContext
    workers: Workers
    loops: Loops


@asynccontextmanager
async def open_fleet(
    state: Path, settings: Settings, *, search_path: str | None, http: str = ""
) -> AsyncGenerator[Fleet]:
    """The running fleet of this state directory; leaving the context closes everything.

    `search_path` is the PATH on which Fleet finds its own programs.

    Raises:
        InvalidError: the tier of supervision that the settings ask for does not work on this machine.
        StoreError, SchemaError: the database cannot be opened.
    """
    tier = tiers.choose_tier(settings.supervision, search_path)
    git = programs.find("git", search_path)  # cached from now on: no agent has run yet
    LOG.info("supervision", tier=tier.letter, limitation=tier.limitation, git=git)
    hidden = tuple(map(hidden_place, paths.hidden(state)))
    launch = LaunchConfig(folder=state / RUN, tier=tier, hidden=hidden, private=SOCKET_FOLDERS)
    host = Host(state=state, settings=settings, launch=launch, tier=tier.letter, supervision=str(tier), http=http)
    async with open_store(paths.database_path(state)) as store:
        _log_lost_history(store)
        claude = ClaudeProvider(
            shim_dir=state / RUN,
            cli=settings.claude,
            max_retries=settings.max_retries,
            transcripts=Transcripts(store),
            limits=_limits(settings),
            tier=tier,
            hidden=hidden,
            private=SOCKET_FOLDERS,
        )
        async with started(assemble(store, host, {claude.name: claude})) as fleet:
            yield fleet


def assemble(store: Store, host: Host, providers: Mapping[str, Provider]) -> Parts:
    """Assemble one fleet, layer by layer.

    Agents act on the fleet that runs them, which makes a cycle. It is broken at the slots: they accept claims and
    stops before any worker exists.
    """
    settings, slots = host.settings, AgentSlots()
    owner = f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"
    work = UnitOfWork(
        store=store, accounts=Accounts(), claims=slots, owner=owner, slots=settings.slots, clock=host.clock
    )
    context = FleetContext(
        work=work,
        slots=slots,
        providers=providers,
        fleet_tools=granted_names(tools.names()),
        settings=settings,
        state=host.state,
        build=paths.build(),
        supervision=host.supervision,
        http=host.http,
        connections=Connections(host.state),
    )
    fleet = Fleet(context)
    runtime = Runtime(
        work=work,
        settings=settings,
        state=host.state,
        providers=providers,
        delegation=Delegates(context, ManagedOrchestrators(context, tools.table(fleet))),
        launch=host.launch,
        tier=host.tier,
    )
    rescuer = Rescuer(work, slots.owns, settings.max_resumes)
    loops = Loops((Scheduler(work), rescuer, Cleaner(work), DurableWaitWatch(context)))
    return Parts(fleet=fleet, context=context, workers=Workers(runtime, slots), loops=loops)


@asynccontextmanager
async def started(parts: Parts) -> AsyncGenerator[Fleet]:
    """The running fleet, which first takes over the turns of a previous daemon.

    Leaving the context closes every session. Running turns are left to the next daemon.
    """
    if resumed := await take_over(parts.context.work, parts.context.settings, parts.context.state):
        LOG.warning("turns_taken_over_from_former_daemon", agents=resumed)
    async with parts.workers.running():
        parts.loops.start()
        try:
            yield parts.fleet
        finally:
            await parts.loops.aclose()


def _limits(settings: Settings) -> SilenceLimits:
    return SilenceLimits(
        stall_seconds=settings.stall_seconds,
        silence_seconds=settings.silence_seconds,
        tool_seconds=settings.tool_seconds,
    )


def _log_lost_history(store: Store) -> None:
    """Log an error if the event history has lost rows."""
    if store.lost_events:
        LOG.error("history_lost", events=store.lost_events, why="the write-ahead log or the database was altered")
