"""The composition root: the only module that knows all parts and puts one fleet together."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from orchestrator import log, paths
from orchestrator.fleet.context import FleetContext
from orchestrator.fleet.engine.credentials import Accounts
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.fleet.execution.worker import Workers
from orchestrator.fleet.fleet import Fleet
from orchestrator.fleet.sessions.transcripts import Transcripts
from orchestrator.providers.base import Provider
from orchestrator.providers.claude.provider import ClaudeProvider
from orchestrator.providers.watchdog import Limits
from orchestrator.server.mcp import tools
from orchestrator.settings import Settings, read_settings
from orchestrator.store.engine.database import Store, open_store
from orchestrator.supervision import programs, tiers
from orchestrator.supervision.command import Launch

RUN = "run"
"""folder of the state directory for generated launchers"""
LOG = log.logger("fleet.app")


@asynccontextmanager
async def open_fleet(state: Path, env: Mapping[str, str]) -> AsyncGenerator[Fleet]:
    """The fleet of this state directory, reconciled and at work; everything is closed at the end of the context.

    Raises:
        InvalidError: a setting cannot be used.
        StoreError, SchemaError: the database cannot be used.
    """
    settings = read_settings(env)
    tier = tiers.choose(settings.supervision, env.get("PATH"))
    git = programs.find("git", env.get("PATH"))  # for good: no agent has run yet
    LOG.info("supervision", tier=tier.letter, lack=tier.lack, git=git)
    async with open_store(paths.database_path(state)) as store:
        _tell_of_lost(store)
        owner = f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"
        work = UnitOfWork(store=store, accounts=Accounts(), owner=owner, slots=settings.slots)
        claude = ClaudeProvider(
            shim_dir=state / RUN,
            cli=settings.claude,
            max_retries=settings.max_retries,
            transcripts=Transcripts(store),
            limits=_limits(settings),
            tier=tier,
            hidden=paths.hidden(state),
        )
        providers: dict[str, Provider] = {claude.name: claude}
        workers = Workers(work=work, settings=settings, providers=providers, state=state, tier=tier.letter)
        workers.launch = Launch(folder=state / RUN, tier=tier, hidden=paths.hidden(state))
        work.take = workers.take
        fleet = Fleet(
            FleetContext(
                work=work,
                workers=workers,
                providers=providers,
                settings=settings,
                state=state,
                build=paths.build(),
                supervision=str(tier),
            )
        )
        fleet.take_tools(tools.table(fleet))
        if taken := await fleet.start():
            LOG.warning("turns_taken_over_from_former_daemon", agents=taken)
        try:
            yield fleet
        finally:
            await fleet.aclose()


def _limits(settings: Settings) -> Limits:
    return Limits(
        stall_seconds=settings.stall_seconds,
        silence_seconds=settings.silence_seconds,
        tool_seconds=settings.tool_seconds,
    )


def _tell_of_lost(store: Store) -> None:
    """Log that the history was longer once, if it was."""
    if store.lost_events:
        LOG.error("history_lost", events=store.lost_events, why="the write-ahead log or the database was altered")
