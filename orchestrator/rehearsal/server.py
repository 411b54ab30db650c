"""The HTTP side of a rehearsal: routes, faults, log. `play` decides what to answer; a wire module writes it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pydantic import JsonValue
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from . import anthropic, auxiliary
from .play import Answer, Unmatched, choose
from .script import Fault, Loaded

MAX_BODY = 64 * 1024 * 1024
"""The largest accepted request in bytes."""
KEPT_LINES = 20_000
"""How many log lines stay readable over HTTP; the file has all of them."""
PING_SECONDS = 0.5
PIECE_BYTES = 64 * 1024
FLUSH_SECONDS = 0.05
"""How long the first half of a cut reply may take to leave this process; the rest is lost, as with any cut."""


@dataclass(slots=True)
class Log:
    """Requests and answers, one record each, in memory and, if requested, in a file."""

    file: Path | None = None
    _kept: deque[str] = field(default_factory=lambda: deque[str](maxlen=KEPT_LINES))
    _count: int = 0
    _open: IO[str] | None = None

    def write(self, record: Mapping[str, JsonValue]) -> None:
        """Store `record` under the next number; it is in the file when this returns."""
        line = json.dumps({"n": self._count, "time": round(time.time(), 3), **record})
        self._count += 1
        self._kept.append(line)
        if self.file is not None:
            self._open = self._open or self.file.open("a", encoding="utf-8")
            self._open.write(line + "\n")
            self._open.flush()

    def since(self, number: int) -> str:
        """The kept lines from record `number` on."""
        first = self._count - len(self._kept)
        return "".join(f"{line}\n" for line in list(self._kept)[max(0, number - first) :])


class Protocol(H11Protocol):
    """uvicorn's connection, whose transport a request can cut."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Put the transport where requests find it: `request.state.transport`.

        asyncio disables Nagle's algorithm only for sockets made with a protocol number, which accepted sockets lack;
        with Nagle's algorithm every streamed reply takes 40 ms.
        """
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


@dataclass(slots=True)
class Rehearsing:
    """A script being played: the attempts that faults count, and the log."""

    loaded: Loaded
    log: Log
    key: str | None = None
    attempts: Counter[str] = field(default_factory=Counter[str])

    def due_fault(self, answer: Answer, fingerprint: str) -> Fault | None:
        """The fault of this attempt, if it still has one."""
        fault = answer.fault
        if fault is None:
            return None
        self.attempts[fingerprint] += 1
        return fault if fault.times is None or self.attempts[fingerprint] <= fault.times else None


def build(loaded: Loaded, log: Log, key: str | None = None) -> Starlette:
    """The application that plays `loaded`; with `key`, every other key gets a 401."""
    rehearsing = Rehearsing(loaded, log, key)

    async def messages(request: Request) -> Response:
        return await _messages(rehearsing, request)

    async def count_tokens(request: Request) -> Response:
        body = await _body(request)
        return _refused(rehearsing, request) or JSONResponse({"input_tokens": anthropic.tokens(len(body))})

    async def models(request: Request) -> Response:
        return _refused(rehearsing, request) or JSONResponse(anthropic.models())

    async def unknown(request: Request) -> Response:
        text = f"a rehearsal has no {request.method} {request.url.path}; it plays POST /v1/messages"
        log.write({"path": request.url.path, "method": request.method, "status": 404})
        return JSONResponse(anthropic.error(404, text), status_code=404)

    async def failed(request: Request, error: Exception) -> Response:
        text = f"the rehearsal itself failed: {type(error).__name__}: {error}"
        log.write({"path": request.url.path, "status": 500, "error": text})
        return JSONResponse(anthropic.error(500, text), status_code=500)

    return Starlette(
        exception_handlers={Exception: failed},
        routes=[
            Route("/v1/messages", messages, methods=["POST"]),
            Route("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
            Route("/v1/models", models, methods=["GET"]),
            *_own_routes(loaded, log),
            Route("/{path:path}", unknown, methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
        ],
    )


def _own_routes(loaded: Loaded, log: Log) -> list[Route]:
    """Routes that no model has: the log, and a health check."""

    async def read_log(request: Request) -> Response:
        since = request.query_params.get("since", "0")
        number = int(since) if since.isdecimal() else 0
        return Response(log.since(number), media_type="application/x-ndjson")

    async def health(request: Request) -> Response:
        del request
        return JSONResponse({"rehearsal": loaded.script.name, "parts": [part.part for part in loaded.script.parts]})

    return [Route("/rehearsal/log", read_log, methods=["GET"]), Route("/rehearsal/health", health, methods=["GET"])]


async def _body(request: Request) -> bytes:
    """The whole body; raises BadRequest when it is larger than `MAX_BODY`."""
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > MAX_BODY:
            raise anthropic.BadRequest(f"the body is larger than {MAX_BODY} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _credential(request: Request) -> tuple[str, str]:
    """The kind of the credential (`api_key`, `bearer` or `none`) and the secret."""
    if key := request.headers.get("x-api-key"):
        return "api_key", key
    given = request.headers.get("authorization", "")
    return ("bearer", given.removeprefix("Bearer ")) if given else ("none", "")


def _refused(rehearsing: Rehearsing, request: Request) -> Response | None:
    """A 401 if this rehearsal requires a key and another was given."""
    _, secret = _credential(request)
    if rehearsing.key is None or secret == rehearsing.key:
        return None
    return JSONResponse(anthropic.error(401, "invalid x-api-key"), status_code=401)


def _asked(request: Request) -> dict[str, JsonValue]:
    """What the log records for every request: the asker, and the kind of its credential (never the secret)."""
    kind, secret = _credential(request)
    return {
        "path": request.url.path,
        "agent": request.headers.get("x-fleet-agent", ""),
        "persona": request.headers.get("x-fleet-persona", ""),
        "credential": kind,
        "credential_hash": hashlib.sha256(secret.encode()).hexdigest()[:12] if secret else None,
        "session": request.headers.get("x-claude-code-session-id"),
    }


async def _messages(rehearsing: Rehearsing, request: Request) -> Response:
    asked = _asked(request)
    try:
        body = await _body(request)
        if (refused := _refused(rehearsing, request)) is not None:
            rehearsing.log.write({**asked, "status": 401, "request_bytes": len(body)})
            return refused
        wanted = anthropic.read(body, request.headers)
        asked |= {"model": wanted.conversation.model, "request_bytes": len(body), "stream": wanted.stream}
        asked["tools"] = list(wanted.conversation.tools)
        answer = auxiliary.answer(wanted.conversation) or choose(rehearsing.loaded, wanted.conversation)
    except ClientDisconnect:
        return Response(status_code=400)
    except (anthropic.BadRequest, Unmatched) as problem:
        rehearsing.log.write({**asked, "status": 400, "error": str(problem)})
        return JSONResponse(anthropic.error(400, str(problem)), status_code=400)
    return await _answer(rehearsing, request, wanted, answer, asked)


async def _answer(
    rehearsing: Rehearsing,
    request: Request,
    wanted: anthropic.Request,
    answer: Answer,
    asked: dict[str, JsonValue],
) -> Response:
    conversation = wanted.conversation
    fault = rehearsing.due_fault(answer, conversation.fingerprint)
    given, made = anthropic.usage(answer, conversation)
    rehearsing.log.write(
        {
            **asked,
            "part": answer.part or None,
            "reply": answer.number or None,
            "auxiliary": answer.auxiliary or None,
            "task": answer.task[:200],
            "status": (fault.status if fault and fault.status else 200),
            "input_tokens": 0 if fault else given,
            "output_tokens": 0 if fault else made,
            "stop": None if fault else answer.stop,
            "calls": [call.tool for call in answer.calls],
            "fault": None if fault is None else fault.kind or fault.status,
        }
    )
    if answer.delay_seconds:
        await asyncio.sleep(answer.delay_seconds)
    if fault is not None and fault.status is not None:
        text = fault.message or f"rehearsed error {fault.status}"
        return JSONResponse(
            anthropic.error(fault.status, text),
            status_code=fault.status,
            headers=anthropic.limit_headers(fault.retry_after, fault.resets_after),
        )
    if fault is not None and fault.kind is not None:
        return _broken(request, wanted, answer, fault.kind)
    if not wanted.stream:
        return JSONResponse(anthropic.message(answer, conversation))
    return _stream(_told(wanted, answer))


def _stream(pieces: AsyncIterator[bytes]) -> Response:
    return StreamingResponse(pieces, media_type="text/event-stream", headers={"cache-control": "no-cache"})


async def _told(wanted: anthropic.Request, answer: Answer) -> AsyncIterator[bytes]:
    """The answer's events; consecutive events without a pause form one piece."""
    ready = b""
    for event in anthropic.events(answer, wanted.conversation):
        ready += event.data
        if event.rest_seconds or len(ready) > PIECE_BYTES:
            yield ready
            ready = b""
            await asyncio.sleep(event.rest_seconds)
    if ready:
        yield ready


def _broken(request: Request, wanted: anthropic.Request, answer: Answer, kind: str) -> Response:
    """A reply that fails as `kind` says."""
    if kind == "html":
        return Response("<html><body>Please log in to the network</body></html>", media_type="text/html")
    if kind == "empty":
        return Response(b"", media_type="text/event-stream")
    if kind in {"silence", "cut"}:
        return _Gone(request, cut=kind == "cut")
    return _stream(_half_told(request, wanted, answer, kind))


async def _half_told(request: Request, wanted: anthropic.Request, answer: Answer, kind: str) -> AsyncIterator[bytes]:
    """The beginning of the answer, then silence, endless pings, garbage, an error, or a closed connection."""
    whole = [event.data for event in anthropic.events(answer, wanted.conversation)]
    half = max(1, len(whole) // 2)
    for data in whole[:half]:
        yield data
    if kind in {"garbage", "error_mid"}:
        yield (
            anthropic.garbage() if kind == "garbage" else anthropic.error_event(529, "rehearsed overload in mid-reply")
        )
        for data in whole[half:] if kind == "garbage" else ():
            yield data
        return
    while kind == "ping":
        yield anthropic.ping()
        await asyncio.sleep(PING_SECONDS)
    if kind == "cut_mid":
        await asyncio.sleep(FLUSH_SECONDS)
        _cut(request)
    await asyncio.Event().wait()


def _cut(request: Request) -> None:
    transport: asyncio.WriteTransport = request.state.transport
    transport.abort()


class _Gone(Response):
    """A response that never arrives: silence until the client disconnects, or a connection that is cut at once."""

    def __init__(self, request: Request, *, cut: bool) -> None:
        super().__init__()
        self._request = request
        self._cuts = cut

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, send
        if self._cuts:
            _cut(self._request)
        while (await receive())["type"] != "http.disconnect":
            pass
