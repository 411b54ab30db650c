"""The HTTP API: the fleet's verbs as JSON, for the command line and whoever speaks HTTP on the socket.

Every body is strict, every error has one shape: `{"error": {"kind", "message", "hint"}}` with the error's status.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

import anyio
import uvicorn
from pydantic import BaseModel, ValidationError
from sse_starlette import EventSourceResponse, JSONServerSentEvent
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator import log
from orchestrator.domain.agent import NewAgent
from orchestrator.domain.tool import Call, Caller
from orchestrator.errors import ConflictError, FleetError, InvalidError
from orchestrator.fleet.state_views import View
from orchestrator.server.calls import Calls
from orchestrator.server.handshake import HELLO, caller_of, parse_hello
from orchestrator.server.http import budget
from orchestrator.server.http.peers import config
from orchestrator.server.http.problems import error_reply, problem
from orchestrator.server.http.schemas import (
    AnswerBody,
    Body,
    CreateBody,
    EventsQuery,
    NoBody,
    NoQuery,
    OutputQuery,
    RegistryQuery,
    ScopeQuery,
    ShutdownBody,
    StatusQuery,
    StreamQuery,
    TurnBody,
    WaitBody,
)

if TYPE_CHECKING:
    from orchestrator.fleet.fleet import Fleet

KEY = "idempotency-key"
MAX_BODY_BYTES = 16 << 20
HEARTBEAT_SECONDS = 15

_KINDS = {400: "InvalidError", 404: "NotFoundError", 405: "InvalidError", 413: "InvalidError"}
_log = log.logger(__name__)


@dataclass(frozen=True)
class Api:
    """What the requests reach: the fleet, the calls under way, the daemon's end; and whose accounts have come by."""

    fleet: Fleet
    calls: Calls
    end: Callable[[], None]
    log_file: str
    greeted: set[int] = field(default_factory=set[int])

    async def greet(self, caller: Caller) -> None:
        """Tell the fleet of an account that it has not met through this API."""
        seen = hash(tuple(sorted({**caller.environment, **caller.account}.items())))
        if seen not in self.greeted:
            await self.fleet.greet(caller)
            self.greeted.add(seen)


@dataclass(frozen=True)
class Asked:
    """One request, read and checked; `caller` is None if it brought no hello."""

    request: Request
    body: Body
    query: Body
    caller: Caller | None

    @property
    def call(self) -> Call:
        """The call of a verb that needs to know who calls.

        Raises:
            InvalidError: there was no hello.
        """
        if self.caller is None:
            raise InvalidError(f"the header {HELLO} is missing", hint="say who calls: project, cwd, orchestrator")
        key = self.request.headers.get(KEY)
        return Call(caller=self.caller, key=f"{self.caller.orchestrator}/{key}" if key else None, person=True)

    @property
    def ref(self) -> str:
        """The agent that the path names."""
        return str(self.request.path_params["ref"])


Verb = Callable[[Api, Asked], Coroutine[object, object, Response]]
B = TypeVar("B", bound=BaseModel)


async def _health(api: Api, asked: Asked) -> Response:
    del asked
    return _shown(await api.fleet.health())


async def _status(api: Api, asked: Asked) -> Response:
    query = cast("StatusQuery", asked.query)
    return _shown(await api.fleet.status(asked.call, query.agent, everyone=query.everyone))


async def _create(api: Api, asked: Asked) -> Response:
    body = cast("CreateBody", asked.body)
    return _shown(await api.fleet.create(asked.call, NewAgent(**dict(body))), status=201)


async def _detail(api: Api, asked: Asked) -> Response:
    return _shown(await api.fleet.detail(asked.call, asked.ref))


async def _command(api: Api, asked: Asked) -> Response:
    body = cast("TurnBody", asked.body)
    command = partial(api.fleet.command, mode=body.mode, inputs=body.inputs, caps=body.caps, verify=body.verify)
    return _shown(await command(asked.call, asked.ref, body.task))


async def _answer(api: Api, asked: Asked) -> Response:
    return _shown(await api.fleet.answer(asked.call, asked.ref, **dict(cast("AnswerBody", asked.body))))


async def _interrupt(api: Api, asked: Asked) -> Response:
    return _shown(await api.fleet.interrupt(asked.call, asked.ref))


async def _output(api: Api, asked: Asked) -> Response:
    query = cast("OutputQuery", asked.query)
    found = await api.fleet.output(asked.call, asked.ref, turn=query.turn, offset=query.offset, limit=query.limit)
    return _shown(found)


async def _delete(api: Api, asked: Asked) -> Response:
    (deleted,) = await api.fleet.delete(asked.call, (asked.ref,))
    return _shown(deleted)


async def _delete_all(api: Api, asked: Asked) -> Response:
    deleted = await api.fleet.delete_all(asked.call, scope=cast("ScopeQuery", asked.query).scope)
    return JSONResponse({"deleted": [one.model_dump(mode="json") for one in deleted]})


async def _registry(api: Api, asked: Asked) -> Response:
    query = cast("RegistryQuery", asked.query)
    return _shown(await api.fleet.registry(asked.call, status=query.status, capability=query.capability))


async def _wait(api: Api, asked: Asked) -> Response:
    body = cast("WaitBody", asked.body)
    digest = await api.fleet.wait(
        asked.call, agents=body.agents, until=body.until, timeout_seconds=body.timeout_seconds, since=body.since
    )
    return _shown(digest)


async def _budget(verb: Callable[..., Coroutine[object, object, Response]], api: Api, asked: Asked) -> Response:
    return await verb(api.fleet, asked.call, asked.request.path_params.get("ref"), asked.body)


async def _events(api: Api, asked: Asked) -> Response:
    query = cast("EventsQuery", asked.query)
    found = await api.fleet.events(asked.call, since=query.since, agent=query.agent, limit=query.limit)
    cursor = found[-1].cursor if found else query.since or "0"
    return JSONResponse({"events": [one.model_dump(mode="json") for one in found], "cursor": cursor})


async def _stream(api: Api, asked: Asked) -> Response:
    query = cast("StreamQuery", asked.query)
    since = asked.request.headers.get("last-event-id") or query.since
    if query.agent or since:  # a wrong agent or cursor is an error now, not a stream that breaks
        await api.fleet.events(asked.call, since=since, agent=query.agent, limit=1)
    events = api.fleet.follow(asked.call, since=since, agent=query.agent)

    async def sent() -> AsyncIterator[JSONServerSentEvent]:
        async for event in events:
            yield JSONServerSentEvent(data=event.model_dump(mode="json"), id=event.cursor, event=event.kind)

    return EventSourceResponse(sent(), ping=HEARTBEAT_SECONDS, headers={"cache-control": "no-store"})


async def _shutdown(api: Api, asked: Asked) -> Response:
    interrupt = cast("ShutdownBody", asked.body).interrupt
    working = (await api.fleet.busy()).get("working", 0)
    if working and not interrupt:
        everyone = await api.fleet.status(
            Call(caller=asked.caller or Caller(project="/", orchestrator="cli", cwd="/")), everyone=True
        )
        names = [agent.name for agent in everyone.agents if agent.status == "working"]
        raise ConflictError(
            f"{working} agent{'s' if working > 1 else ''} at work: {', '.join(names[:20])}",
            hint="wait for them, or interrupt them: conversations stay, queued turns start with the next daemon",
        )

    async def farewell() -> None:  # once the answer is on its way; a plain function would run in a thread
        if interrupt:
            api.fleet.interrupt_at_end()
        api.end()

    told = {"pid": os.getpid(), "interrupted": working}
    return JSONResponse(told, status_code=202, background=BackgroundTask(farewell))


_ROUTES: tuple[tuple[str, str, Verb, type[Body], type[Body]], ...] = (
    ("GET", "/v1/health", _health, NoBody, NoQuery),
    ("GET", "/v1/agents", _status, NoBody, StatusQuery),
    ("POST", "/v1/agents", _create, CreateBody, NoQuery),
    ("DELETE", "/v1/agents", _delete_all, NoBody, ScopeQuery),
    ("GET", "/v1/agents/{ref}", _detail, NoBody, NoQuery),
    ("DELETE", "/v1/agents/{ref}", _delete, NoBody, NoQuery),
    ("POST", "/v1/agents/{ref}/turns", _command, TurnBody, NoQuery),
    ("POST", "/v1/agents/{ref}/answer", _answer, AnswerBody, NoQuery),
    ("POST", "/v1/agents/{ref}/interrupt", _interrupt, NoBody, NoQuery),
    ("GET", "/v1/agents/{ref}/output", _output, NoBody, OutputQuery),
    *[(method, path, partial(_budget, verb), body, NoQuery) for method, path, verb, body in budget.ROUTES],
    ("POST", "/v1/wait", _wait, WaitBody, NoQuery),
    ("GET", "/v1/registry", _registry, NoBody, RegistryQuery),
    ("GET", "/v1/events", _events, NoBody, EventsQuery),
    ("GET", "/v1/stream", _stream, NoBody, StreamQuery),
    ("POST", "/v1/shutdown", _shutdown, ShutdownBody, NoQuery),
)


def app(api: Api, *more: Route) -> ASGIApp:
    """Return the ASGI application over one fleet, with more routes beside its own."""
    paths = dict.fromkeys(path for _, path, *_ in _ROUTES)
    routes = [Route(path, partial(_dispatch, api, path), methods=_methods(path)) for path in paths]
    return _counted(routed(*routes, *more), api.calls)


def routed(*routes: Route) -> ASGIApp:
    """These routes, and for every other path or method an error in the one shape."""
    refused = {HTTPException: _refused}
    return Starlette(routes=routes, exception_handlers=cast("Mapping[object, object]", refused))  # pyright: ignore[reportArgumentType] - starlette types its handlers by their widest exception


def server(application: ASGIApp) -> Server:
    """Return the HTTP server; run it with `serve(sockets=[…])` and end it with `should_exit`.

    The signals stay the daemon's own: uvicorn's handlers would end the process before the fleet is at rest.
    """
    return Server(config(application))


class Server(uvicorn.Server):
    """uvicorn's server, but for the signals, and with a way to let nobody wait for the end."""

    def drop(self) -> None:
        """Cut the connections that are left, streams and waits: their clients ask the next daemon again."""
        for link in list(self.server_state.connections):
            link.transport.abort()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the signals alone."""
        yield


def _methods(path: str) -> list[str]:
    return [method for method, known, *_ in _ROUTES if known == path]


async def _dispatch(api: Api, path: str, request: Request) -> Response:
    method = "GET" if request.method == "HEAD" else request.method
    verb, body, query = next(row[2:] for row in _ROUTES if row[:2] == (method, path))
    try:
        asked = Asked(request, await _body(request, body), _query(request, query), _caller(request))
        if asked.caller is not None:
            await api.greet(asked.caller)
        with log.bound(route=f"{request.method} {path}"):
            if verb is _wait:
                return await _while_connected(request, verb(api, asked))
            return await api.calls.run_to_completion(verb(api, asked))
    except FleetError as error:
        return error_reply(error)
    except Exception as error:
        if isinstance(error, HTTPException):
            raise
        _log.exception("a request broke", route=f"{request.method} {path}")
        message = f"Fleet itself failed ({type(error).__name__})"
        return problem(500, "FleetError", message, f"the traceback is in {api.log_file}")


async def _while_connected(request: Request, work: Coroutine[object, object, Response]) -> Response:
    """The response, or an empty one as soon as the client has left: then nobody waits any more."""
    found: list[Response | FleetError] = []
    async with anyio.create_task_group() as group:

        async def leave() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        group.start_soon(leave)
        try:
            found.append(await work)
        except FleetError as error:
            found.append(error)  # raised below: the group would wrap it
        group.cancel_scope.cancel()
    outcome = found[0] if found else Response(status_code=499)
    if isinstance(outcome, FleetError):
        raise outcome
    return outcome


async def _body(request: Request, model: type[B]) -> B:
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BODY_BYTES:
            raise HTTPException(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
    raw = raw.strip() or b"{}"
    try:
        json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from error
    return _checked("body", model, partial(model.model_validate_json, raw, strict=True))


def _query(request: Request, model: type[B]) -> B:
    given: dict[str, object] = {}
    for name in request.query_params:
        many = [value for value in request.query_params.getlist(name) if value]
        field = model.model_fields.get(name)
        if field is not None and field.annotation == tuple[str, ...]:
            given[name] = many
        elif len(many) > 1:
            raise InvalidError(f"query: {name} is given {len(many)} times", hint="give it once")
        elif many:
            given[name] = many[0]
        elif field is None:
            given[name] = ""
    return _checked("query", model, partial(model.model_validate, given))


def _checked(place: str, model: type[B], read: Callable[[], B]) -> B:
    try:
        return read()
    except ValidationError as error:
        known = ", ".join(model.model_fields) or "nothing"
        wrong = [
            f"{'.'.join(map(str, one['loc'])) or place}: {one['msg']}"
            for one in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise InvalidError(f"{place}: {'; '.join(wrong[:3])}", hint=f"the {place} takes {known}") from None


def _caller(request: Request) -> Caller | None:
    raw = request.headers.get(HELLO)
    return caller_of(parse_hello(raw), door="cli") if raw else None


def _shown(view: View, *, status: int = 200) -> Response:
    """The view as ASCII JSON, which holds whatever text there is, lone surrogates of a bad file name included."""
    return Response(json.dumps(view.model_dump()), status_code=status, media_type="application/json")


async def _refused(request: Request, error: HTTPException) -> Response:
    """What Starlette itself turns away: unknown paths and methods, and bodies that are no JSON."""
    hints = {
        404: "the API is described in the documentation: /v1/health, /v1/agents, /v1/wait, …",
        405: f"{request.url.path} takes {(error.headers or {}).get('Allow', 'another method')}",
    }
    messages = {
        404: f"there is no {request.url.path}",
        405: f"{request.url.path} does not take {request.method}",
    }
    status = error.status_code
    message = messages.get(status, error.detail)
    return problem(status, _KINDS.get(status, "FleetError"), message, hints.get(status, ""))


def _counted(application: ASGIApp, calls: Calls) -> ASGIApp:
    """Every request under way keeps the daemon alive."""

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        with calls.presence():
            await application(scope, receive, send)

    return counted
