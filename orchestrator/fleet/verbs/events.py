"""The events of agents, as pages and as a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from orchestrator.domain.text import storable_value
from orchestrator.domain.tool import CallContext
from orchestrator.errors import InvalidError
from orchestrator.fleet.context import FleetContext
from orchestrator.fleet.lookup import cursor_of
from orchestrator.fleet.projections import agent_views
from orchestrator.fleet.verbs import wait
from orchestrator.fleet.views import EventView
from orchestrator.store.queries import agents as agent_queries
from orchestrator.store.schema.rows import AgentRow
from orchestrator.store.turns import events as event_rows

MAX_EVENTS = 1000


async def now(context: FleetContext) -> int:
    """Return the current cursor."""
    return await context.work.store.read(agent_queries.last_cursor)


def event_cursor(since: str | None) -> int:
    """Return the cursor as a number; without one, the beginning of the stream.

    Raises:
        InvalidError: it is not a cursor.
    """
    return cursor_of(since) if since else 0


async def events(
    context: FleetContext, call: CallContext, cursor: int, agent: AgentRow | None, limit: int
) -> tuple[EventView, ...]:
    """Return at most `limit` events after the cursor, of one agent or of the caller's project.

    Raises:
        InvalidError: `limit` is out of range.
    """
    if not 1 <= limit <= MAX_EVENTS:
        raise InvalidError(f"limit is {limit}", hint=f"give 1 to {MAX_EVENTS}")
    whose = {"project": call.caller.project, "agent_id": agent.id if agent else None}
    rows = await context.work.store.read(partial(event_rows.events_after, cursor=cursor, limit=limit, **whose))
    return tuple(map(_event_view, rows))


async def follow(
    context: FleetContext, call: CallContext, since: str | None, agent: str | None, *, live: bool
) -> AsyncGenerator[EventView]:
    """Yield events of one agent or of the caller's project, oldest first; if `live`, endlessly.

    Without a cursor, a live stream begins now, any other with the first event. Recorded events are streamed in
    constant memory.
    """
    found = await context.find(call.caller, agent, deleted=True) if agent else None
    cursor = await now(context) if since is None and live else event_cursor(since)
    whose = {"project": call.caller.project, "agent_id": found.id if found else None}
    async with aclosing(event_rows.history(context.work.store, cursor, **whose)) as rows:
        async for row in rows:
            cursor = row.id
            yield _event_view(row)
    if not live:
        return
    with context.work.feed.subscribe() as subscription:
        while True:
            batch = await events(context, call, cursor, found, MAX_EVENTS)
            for event in batch:
                cursor = int(event.cursor)
                yield event
            if len(batch) < MAX_EVENTS:
                await subscription.wait(wait.REREAD_SECONDS)


def _event_view(event: event_rows.EventRow) -> EventView:
    return EventView(
        cursor=str(event.id),
        agent=event.agent_id,
        name=event.name,
        seq=event.seq,
        turn=event.turn,
        kind=event.kind,
        at=agent_views.iso(event.at),
        body={key: storable_value(value) for key, value in event.body.items()},
    )
