"""Endpoints for events: the history in pages, and a live stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from sse_starlette import EventSourceResponse, JSONServerSentEvent
from starlette.responses import Response

from orchestrator.fleet.views import EventView
from orchestrator.server.http.endpoint import ApiRequest, Endpoint, Endpoints
from orchestrator.server.http.schemas import EventPage, EventsQuery, NoBody, StreamQuery

HEARTBEAT_SECONDS = 15
STREAM = "/v1/stream"
END = "end"
"""last event of a stream that is complete; a stream without it was cut off"""


async def get_events(asked: ApiRequest[NoBody, EventsQuery]) -> EventPage:
    """Return a page of events after a cursor, oldest first."""
    query = asked.query
    found = await asked.fleet.events(asked.call, since=query.since, agent=query.agent, limit=query.limit)
    return EventPage(events=tuple(found), cursor=found[-1].cursor if found else query.since or "0")


async def stream_events(asked: ApiRequest[NoBody, StreamQuery]) -> Response:
    """Stream events after a cursor, or from now on, as server-sent events; `last-event-id` resumes a stream."""
    since = asked.headers.get("last-event-id") or asked.query.since
    agent = asked.query.agent
    if agent or since:  # report a wrong agent or cursor as an error, not as a stream that breaks
        await asked.fleet.events(asked.call, since=since, agent=agent, limit=1)
    follow = asked.fleet.follow(asked.call, since=since, agent=agent, live=not asked.query.history)

    async def sent() -> AsyncIterator[JSONServerSentEvent]:
        async with aclosing(follow) as events:
            async for event in events:
                yield JSONServerSentEvent(data=event.model_dump(mode="json"), id=event.cursor, event=event.kind)
        yield JSONServerSentEvent(data={}, event=END)

    return EventSourceResponse(sent(), ping=HEARTBEAT_SECONDS, headers={"cache-control": "no-store"})


ENDPOINTS: Endpoints = (
    Endpoint("GET", "/v1/events", get_events, NoBody, EventsQuery, EventPage),
    Endpoint("GET", STREAM, stream_events, NoBody, StreamQuery, EventView, media_type="text/event-stream"),
)
