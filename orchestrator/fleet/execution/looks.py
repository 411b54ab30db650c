"""How a turn's checkout was before it and is after it. A look that takes time is told as the agent's activity."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from orchestrator import log
from orchestrator.domain.activity import LOOKING, Activity
from orchestrator.domain.checkout import CheckoutDiff, CheckoutState, state_of
from orchestrator.domain.persona import Persona
from orchestrator.domain.text import storable
from orchestrator.errors import StoreError
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.fleet.execution.runtime import Runtime
from orchestrator.fleet.sessions.slot import LiveTurn
from orchestrator.provisioning.changes import difference
from orchestrator.provisioning.files import ChangesUnknownError
from orchestrator.provisioning.snapshots import prune, snapshot, snapshot_before_turn
from orchestrator.store.engine.connection import Connection
from orchestrator.store.queries import agents as agent_queries
from orchestrator.store.schema.rows import TurnRow
from orchestrator.store.schema.states import activity_of
from orchestrator.store.schema.transitions import agent_row
from orchestrator.store.turns.events import Fact, note_before, note_unknown
from orchestrator.store.turns.evidence import write_evidence

LOG = log.logger("fleet.looks")
TOLD_AFTER_SECONDS = 0.3
NOT_A_CHECKOUT = "this directory is not a git checkout"


async def look_before(
    runtime: Runtime, live: LiveTurn | None, turn: TurnRow, persona: Persona, checkout: Path | None
) -> tuple[CheckoutState | None, str]:
    """Return the checkout before the turn, or why it is unknown; neither if the persona cannot change anything."""
    if not persona.may_change or live is None:
        return None, ""
    if checkout is None:
        return None, NOT_A_CHECKOUT
    if turn.before:
        return state_of(turn.before), ""
    if turn.changes_unknown:
        return None, turn.changes_unknown
    try:
        async with _told(runtime.work, live):
            before = await snapshot_before_turn(checkout, runtime.state)
    except ChangesUnknownError as error:
        await runtime.work.store.write(note_unknown, live.claim, storable(str(error)))
        return None, storable(str(error))
    await runtime.work.store.write(note_before, live.claim, before)
    return before, ""


async def look_after(
    runtime: Runtime, live: LiveTurn, checkout: Path, before: CheckoutState
) -> tuple[CheckoutDiff | None, str]:
    """Return what changed since `before`, or why that is unknown."""
    try:
        async with _told(runtime.work, live):
            after = await snapshot(checkout, runtime.state)
            known = partial(write_evidence, claim=live.claim, now=runtime.work.clock())
            evidence = await runtime.work.store.read(known)
            return await difference(checkout, runtime.state, before, after, evidence), ""
    except ChangesUnknownError as error:
        return None, storable(str(error))


async def tidy(work: UnitOfWork, state: Path, checkout: Path, before: CheckoutState | None) -> None:
    """Keep Fleet's git directories of the checkout within their bounds; a failure does not affect the turn."""
    try:
        await prune(checkout, state, lambda: work.store.read(agent_queries.trees_before))
        for path, inner in before.nested.items() if before else ():
            await tidy(work, state, checkout / path, inner)
    except (ChangesUnknownError, StoreError) as error:
        LOG.warning("git_directory_not_tidied", error=str(error))


@asynccontextmanager
async def _told(work: UnitOfWork, live: LiveTurn) -> AsyncGenerator[None]:
    """Say that the agent waits for a look once the block takes a while; afterwards its activity is as before."""
    former: list[Activity] = []

    def activity(connection: Connection) -> Activity:
        return activity_of(agent_row(connection, live.claim.agent_id))

    async def tell() -> None:
        await asyncio.sleep(TOLD_AFTER_SECONDS)
        former.append(await work.store.read(activity))
        await _note(work, live, LOOKING)

    telling = asyncio.create_task(tell())
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.wait({telling})
        if former:
            await _note(work, live, former[0])


async def _note(work: UnitOfWork, live: LiveTurn, activity: Activity) -> None:
    live.recorder.note(Fact(kind=None, at=work.clock(), body={}, activity=activity))
    await live.recorder.flush()
