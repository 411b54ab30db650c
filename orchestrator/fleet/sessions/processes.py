"""The processes of agents: recorded before they start, and gone when their session has ended."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator import log
from orchestrator.errors import StoreError
from orchestrator.providers.base import Provider, Session, SessionSpec
from orchestrator.store.engine.database import Store
from orchestrator.store.sessions import processes
from orchestrator.store.turns.turns import Claim
from orchestrator.supervision import cgroups, reaper
from orchestrator.supervision.command import CommandSpec, Launch, RunningCommand, start
from orchestrator.supervision.reaper import Trace

LOG = log.logger("fleet.processes")


@dataclass(frozen=True)
class OpenedSession:
    """A session and the trace that identifies its processes."""

    session: Session
    trace: Trace


async def open_session(store: Store, provider: Provider, spec: SessionSpec, claim: Claim, tier: str) -> OpenedSession:
    """Open a session: its intent and epoch are durable before its process exists, its process id right after.

    Call it on the event loop's own thread: a process's death signal belongs to the thread that started it. An empty
    `tier` means that sessions have no processes.

    Raises:
        ProviderError: it did not start; no process of it is left.
        StaleOwnerError: the claim is over; nothing was started.
    """
    if not tier:
        return OpenedSession(await provider.open(spec), Trace())
    trace = await _intended(store, claim, tier)
    told: list[int] = []
    try:
        session = await provider.open(replace(spec, marker=trace.marker, on_process=told.append))
    except BaseException:
        await asyncio.shield(over(store, trace, tier=tier, failed=True))
        raise
    return OpenedSession(session, await _born(store, trace, told[0], tier) if told else trace)


async def open_command(store: Store, launch: Launch, order: CommandSpec, claim: Claim) -> tuple[RunningCommand, Trace]:
    """The same for a command that Fleet runs for the agent, in its session's tier.

    Raises:
        OSError: it did not start; no process of it is left.
        StaleOwnerError: the claim is over; nothing was started.
    """
    tier = launch.tier.letter
    trace = await _intended(store, claim, tier)
    try:
        running = await start(launch, order, trace.marker)
        return running, await _born(store, trace, running.pid, tier)
    except BaseException:
        await asyncio.shield(over(store, trace, tier=tier, failed=True))
        raise


async def _intended(store: Store, claim: Claim, tier: str) -> Trace:
    """The trace of a process about to start, once its intent is durable."""
    trace = Trace(marker=secrets.token_hex(16))
    await store.write(
        processes.intend,
        claim.agent_id,
        epoch=claim.epoch,
        marker=trace.marker,
        tier=tier,
        boot=reaper.boot(),
        now=time.time(),
    )
    return trace


async def _born(store: Store, trace: Trace, pid: int, tier: str) -> Trace:
    """The trace with its first process, which is recorded too."""
    trace = replace(trace, pid=pid, started=reaper.started(pid, parent=os.getpid()))
    if tier == "B":
        trace = replace(trace, cgroup=await cgroups.wait_joined(pid, trace.marker))
    try:
        await store.write(
            processes.born, trace.marker, pid=pid, started=trace.started, cgroup=trace.cgroup, now=time.time()
        )
    except StoreError as error:  # the marker is enough to find it
        LOG.warning("process_not_written", error=error.message)
    return trace


async def over(store: Store, trace: Trace, *, tier: str, failed: bool = False) -> None:
    """End what a closed session left behind and record that nothing is left; never raises.

    In tier A the kernel has done it: its namespace ended with its first process.
    """
    if not trace.marker:
        return
    if failed or (tier != "A" and trace.pid is not None):
        killed = await asyncio.to_thread(reaper.sweep, [trace])
        if killed:
            LOG.warning("left_processes_killed", processes=killed)
    try:
        await store.write(processes.ended, [trace.marker], time.time())
    except StoreError as error:  # the next daemon looks again
        LOG.warning("end_of_process_not_written", error=error.message)


async def clear(store: Store) -> int:
    """Kill what former daemons left, by process id and start time, tree and marker; return how many that were.

    No process from before the last boot is alive, whatever its id is used for now.
    """
    rows = await store.write(processes.not_ended)
    boot = reaper.boot()
    traces = [
        Trace(pid=row["pid"], started=row["started"], marker=row["marker"], cgroup=row["cgroup"])
        for row in rows
        if boot and row["boot"] == boot
    ]
    killed = await asyncio.to_thread(reaper.sweep, traces) if traces else 0
    if rows:
        await store.write(processes.ended, [row["marker"] for row in rows], time.time())
    if killed:
        LOG.warning("orphans_killed", processes=killed)
    return killed


def memory_bytes() -> int | None:
    """Resident memory of this process in bytes; None where /proc does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
