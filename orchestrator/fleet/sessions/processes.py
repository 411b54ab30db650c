"""The processes of agents: recorded before they start, and gone when their session has ended."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator import log
from orchestrator.errors import StoreError
from orchestrator.providers.base import Provider, Session, SessionSpec
from orchestrator.store.engine.database import Store
from orchestrator.store.sessions import processes
from orchestrator.store.turns.turns import Claim
from orchestrator.supervision import cgroups, reaper
from orchestrator.supervision.command import CommandSpec, LaunchConfig, RunningCommand, start
from orchestrator.supervision.reaper import ProcessIdentity
from orchestrator.supervision.settled import wait_settled

LOG = log.logger("fleet.processes")


@dataclass(frozen=True)
class OpenedSession:
    """A session, the identity of its processes, and the briefs in its system prompt."""

    session: Session
    identity: ProcessIdentity
    briefs: Sequence[str] = ()


async def open_session(store: Store, provider: Provider, spec: SessionSpec, claim: Claim, tier: str) -> OpenedSession:
    """Open a session: its intent and epoch are durable before its process exists, its process id right after.

    Call it on the event loop's own thread: a process's death signal belongs to the thread that started it. An empty
    `tier` means that sessions have no processes.

    Raises:
        ProviderError: it did not start; no process of it is left.
        StaleOwnerError: the claim is over; nothing was started.
    """
    if not tier:
        return OpenedSession(await provider.open(spec), ProcessIdentity(), spec.briefs)
    identity = _new_identity()
    session: Session | None = None
    told: list[int] = []
    try:
        await _intend(store, identity, claim, tier)
        session = await provider.open(replace(spec, marker=identity.marker, on_process=told.append))
        born = await _born(store, identity, told[0], tier) if told else identity
        return OpenedSession(session, born, spec.briefs)
    except BaseException:
        if session is not None:
            await asyncio.shield(session.close())
        await asyncio.shield(over(store, identity, tier=tier, failed=True))
        raise


async def open_command(
    store: Store, launch: LaunchConfig, order: CommandSpec, claim: Claim
) -> tuple[RunningCommand, ProcessIdentity]:
    """The same for a command that Fleet runs for the agent, in its session's tier.

    Raises:
        OSError: it did not start; no process of it is left.
        StaleOwnerError: the claim is over; nothing was started.
    """
    tier, identity = launch.tier.letter, _new_identity()
    try:
        await _intend(store, identity, claim, tier)
        running = await start(launch, order, identity.marker)
        return running, await _born(store, identity, running.pid, tier)
    except BaseException:
        await asyncio.shield(over(store, identity, tier=tier, failed=True))
        raise


def _new_identity() -> ProcessIdentity:
    return ProcessIdentity(marker=secrets.token_hex(16))


async def _intend(store: Store, identity: ProcessIdentity, claim: Claim, tier: str) -> None:
    """Return once it is durable that a process with this identity is about to start."""
    await store.write(
        processes.intend,
        claim.agent_id,
        epoch=claim.epoch,
        marker=identity.marker,
        tier=tier,
        boot=reaper.pid_scope(),
        now=time.time(),
    )


async def _born(store: Store, identity: ProcessIdentity, pid: int, tier: str) -> ProcessIdentity:
    """The identity with its first process, which is recorded too."""
    identity = replace(identity, pid=pid, start_time=reaper.start_time(pid, parent=os.getpid()))
    if tier == "B":
        identity = replace(identity, cgroup=await cgroups.wait_joined(pid, identity.marker))
    try:
        await store.write(
            processes.born,
            identity.marker,
            pid=pid,
            started=identity.start_time,
            cgroup=identity.cgroup,
            now=time.time(),
        )
    except StoreError as error:  # the marker is enough to find it
        LOG.warning("process_not_written", error=error.message)
    return identity


async def over(store: Store, identity: ProcessIdentity, *, tier: str, failed: bool = False) -> None:
    """End what a closed session left behind and record that nothing is left; never raises.

    In tier A the kernel has done it: its namespace ended with its first process.
    """
    if not identity.marker:
        return
    if failed or (tier != "A" and identity.pid is not None):
        killed = await asyncio.to_thread(reaper.reap, [identity])
        if killed:
            LOG.warning("left_processes_killed", processes=killed)
    try:
        await store.write(processes.ended, [identity.marker], time.time())
    except StoreError as error:  # the next daemon looks again
        LOG.warning("end_of_process_not_written", error=error.message)


async def is_settled(identity: ProcessIdentity) -> bool:
    """Whether nothing that a turn started runs any more; only the session's program may stay for the next turn."""
    return identity.pid is None or await wait_settled(identity.pid)


async def clear(store: Store) -> int:
    """Kill what former daemons left, by process id and start time, tree and marker; return how many that were.

    No process from before the last boot is alive, whatever its id is used for now.
    """
    rows = await store.write(processes.not_ended)
    scope = reaper.pid_scope()
    identities = [
        ProcessIdentity(pid=row.pid, start_time=row.started, marker=row.marker, cgroup=row.cgroup)
        for row in rows
        if scope and row.boot == scope
    ]
    killed = await asyncio.to_thread(reaper.reap, identities) if identities else 0
    if rows:
        await store.write(processes.ended, [row.marker for row in rows], time.time())
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
