"""Describes one endpoint by its types, and turns a request into a call of its verb."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from urllib.parse import quote, unquote

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orchestrator import log
from orchestrator.domain.text import one_line
from orchestrator.domain.tool import CallContext, Caller
from orchestrator.errors import InvalidError
from orchestrator.server.calls import Calls, while_connected
from orchestrator.server.handshake import CALLER, HELLO
from orchestrator.server.http.middleware import BodyLimit
from orchestrator.server.http.problems import MAX_PLACE_CHARACTERS, Mistake, RequestError

if TYPE_CHECKING:
    from orchestrator.fleet.fleet import Fleet

KEY = "idempotency-key"
MAX_BODY_BYTES = 16 << 20
CLIENT_LEFT = 499
_SHOWN_MISTAKES = 3

B = TypeVar("B", bound=BaseModel)
Q = TypeVar("Q", bound=BaseModel)
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Api:
    """What endpoints use: the fleet, the running calls, and a way to end the daemon."""

    fleet: Fleet
    calls: Calls
    end: Callable[[], None]
    log_file: str


@dataclass(frozen=True, kw_only=True)
class ApiRequest(Generic[B, Q]):
    """A validated request; `caller` is None if it carried no hello."""

    api: Api
    path: Mapping[str, str]
    headers: Mapping[str, str]
    body: B
    query: Q
    caller: Caller | None

    @property
    def fleet(self) -> Fleet:
        """The fleet that serves the request."""
        return self.api.fleet

    @property
    def call(self) -> CallContext:
        """The call to hand to the verb.

        Raises:
            InvalidError: the request brought no hello.
        """
        if self.caller is None:
            raise InvalidError(
                f"the header {HELLO} is missing", hint='name the caller: {"project": "/path/of/the/project"} is enough'
            )
        key = self.headers.get(KEY)
        return CallContext(caller=self.caller, key=f"{self.caller.orchestrator}/{key}" if key else None, person=True)

    @property
    def agent(self) -> str:
        """The agent that the path refers to."""
        return self.path["ref"]


@dataclass(frozen=True)
class Endpoint(Generic[B, Q]):
    """One method of one path: the types of its body, query and answer, and the verb that serves it.

    `waits` marks a verb that is cancelled when its client disconnects; all others run to completion.
    `anonymous` marks a verb that works without a hello.
    """

    method: str
    path: str
    verb: Callable[[ApiRequest[B, Q]], Coroutine[object, object, BaseModel | Response]]
    body: type[B]
    query: type[Q]
    returns: type[BaseModel]
    status: int = 200
    media_type: str = "application/json"
    waits: bool = False
    anonymous: bool = False

    @property
    def name(self) -> str:
        """The verb's name."""
        return self.verb.__name__

    async def answer(self, api: Api, request: Request) -> Response:
        """Validate the request, call the verb and return its answer as a response.

        Raises:
            FleetError: the request is not valid, or the verb failed.
            HTTPException: the body is too large or is not JSON.
        """
        asked = ApiRequest(
            api=api,
            path=request.path_params,
            headers=request.headers,
            body=await _body(request, self.body),
            query=_query(request, self.query),
            caller=cast("Caller | None", request.scope.get(CALLER)),
        )
        with log.bound(route=f"{request.method} {self.path}"):
            if self.waits:
                found = await while_connected(self.verb(asked), _disconnected(request))
            else:
                found = await api.calls.run_to_completion(self.verb(asked))
        if found is None:
            return Response(status_code=CLIENT_LEFT)
        return found if isinstance(found, Response) else _shown(found, self.status)


Endpoints = tuple[Endpoint[Any, Any], ...]


def routes(api: Api, endpoints: Sequence[Endpoint[Any, Any]]) -> list[Route]:
    """Build one route per path, so that a wrong method is answered with the list of right ones."""
    limit = Middleware(BodyLimit, max_bytes=MAX_BODY_BYTES)
    paths = dict.fromkeys(one.path for one in endpoints)
    return [_route(api, {one.method: one for one in endpoints if one.path == path}, limit) for path in paths]


def _route(api: Api, methods: Mapping[str, Endpoint[Any, Any]], limit: Middleware) -> Route:
    async def answered(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await methods[method].answer(api, request)

    path = next(iter(methods.values())).path
    return Route(path, answered, methods=list(methods), middleware=[limit])


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _shown(view: BaseModel, status: int) -> Response:
    """The view as ASCII JSON, which can hold any text, even the lone surrogates of an undecodable file name."""
    return Response(json.dumps(view.model_dump()), status_code=status, media_type="application/json")


@cache
def _adapter(model: type[M]) -> TypeAdapter[M]:
    return TypeAdapter(model)


async def _body(request: Request, model: type[M]) -> M:
    raw = (await request.body()).removeprefix(BOM_UTF8).strip() or b"{}"
    try:
        given = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from error
    try:
        return _adapter(model).validate_json(raw, strict=True)
    except ValidationError as error:
        found = [
            Mistake(detail=str(one["msg"]), pointer=_pointer(one["loc"], given))
            for one in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise _mistaken("body", model, found) from None


def _query(request: Request, model: type[M]) -> M:
    given: dict[str, object] = {}
    for name in request.query_params:
        many = [value for value in request.query_params.getlist(name) if value]
        field = model.model_fields.get(name)
        if field is not None and field.annotation == tuple[str, ...]:
            given[name] = many
        elif len(many) > 1:
            raise InvalidError(f"query: {name} was given {len(many)} times", hint="give it once")
        elif many:
            given[name] = many[0]
        elif field is None:
            given[name] = ""
    try:
        return _adapter(model).validate_python(given)
    except ValidationError as error:
        found = [
            Mistake(detail=str(one["msg"]), parameter=one_line(str(one["loc"][0]), MAX_PLACE_CHARACTERS))
            for one in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise _mistaken("query", model, found) from None


def _mistaken(place: str, model: type[BaseModel], mistakes: Sequence[Mistake]) -> RequestError:
    """Build the error for a body or query: a sentence with the first mistakes, and all of them as data."""
    told = [f"{_where(one) or place}: {one.detail}" for one in mistakes[:_SHOWN_MISTAKES]]
    more = len(mistakes) - len(told)
    said = "; ".join(told) + (f"; and {more} more" if more else "")
    known = ", ".join(model.model_fields) or "nothing"
    return RequestError(f"{place}: {said}", hint=f"the {place} takes {known}", mistakes=mistakes)


def _where(mistake: Mistake) -> str:
    return mistake.parameter or unquote(mistake.pointer or "").lstrip("#/").replace("/", ".")


def _pointer(place: Sequence[str | int], given: object) -> str:
    """The place as a JSON pointer, without pydantic's names for the members of a union."""
    steps: list[str] = []
    for step in place:
        if isinstance(given, dict) and isinstance(step, str):
            given = cast("dict[str, object]", given).get(step)
        elif isinstance(given, list) and isinstance(step, int):
            items = cast("list[object]", given)
            given = items[step] if step < len(items) else None
        else:
            break
        steps.append(quote(str(step).replace("~", "~0").replace("/", "~1"), safe="~", errors="replace"))
    return one_line("#/" + "/".join(steps), MAX_PLACE_CHARACTERS) if steps else "#"
