"""The table of tools as an MCP server, and one connection that speaks to it, in both protocol eras.

The low-level `Server` of mcp 2.3 passes raw schemas unchanged and leaves checking arguments and wording errors to us.
"""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import json
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import anyio
import mcp_types as types
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server import Server
from mcp.server.context import ServerRequestContext
from mcp.server.runner import serve_dual_era_loop
from mcp.shared.message import ServerMessageMetadata, SessionMessage

from orchestrator import VERSION, log
from orchestrator import fallback_server as fallback
from orchestrator.domain.durable_wait import Sleep
from orchestrator.domain.text import clean
from orchestrator.domain.tool import Call, Caller, Json, Progress, Tool
from orchestrator.errors import FleetError, NotFoundError
from orchestrator.server.calls import Calls
from orchestrator.server.mcp import tasks
from orchestrator.server.mcp.arguments import Check

Context = ServerRequestContext[Any, Any]

TOOL_USE = "claudecode/toolUseId"
LEFT = "fleet.left"
"""of a request's scope over HTTP: an event that comes when the client has left"""
LINE_BYTES = 16 << 20
"""The longest line that is read; a longer one is answered with an error and skipped."""

_HEAD_BYTES = 4096
_HEAD_ID = re.compile(
    rb'\A\s*\{(?:\s*"(?:jsonrpc|method)"\s*:\s*"[^"\\]*"\s*,)*\s*"id"\s*:\s*(\d{1,18}|"[^"\\]{1,200}")\s*,'
)

_log = log.logger(__name__)


def render(
    table: Sequence[Tool],
    *,
    caller: Callable[[Context], Caller],
    calls: Calls,
    instructions: str | None = None,
    log_file: str = "the daemon's log",
    sleeps: tasks.Sleeps | None = None,
) -> Server[Any]:
    """Return an MCP server that offers exactly this table, for sockets, HTTP and sessions in process.

    `caller` says who calls; on sockets `ctx.request` is the `Caller`. A tool that does not wait runs to its end even if
    its caller goes away. Every mistake comes back as a result with `isError` that says what to do next. With `sleeps` a
    tool that waits answers with a task where the client takes one.
    """
    checks = {tool.name: (tool, Check(tool.name, tool.schema)) for tool in table}
    listed = types.ListToolsResult(
        tools=[
            types.Tool(name=tool.name, description=tool.description, input_schema=dict(tool.schema)) for tool in table
        ]
    )

    async def list_tools(_ctx: Context, _params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return listed

    async def call_tool(ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        try:
            tool, check = _find(checks, params.name)
            arguments: Json = params.arguments or {}
            check(arguments)
            call = _call(ctx, caller(ctx), _resent(ctx, params))
        except FleetError as error:
            return _result(str(error), is_error=True)
        if sleeps is not None and tool.begin is not None and tasks.may_sleep(ctx):
            work = tool.begin(call, arguments, tasks.shows_forms(ctx))
            return await calls.whole(_run(tool, call, work, log_file))
        work = _run(tool, call, tool.call(call, arguments), log_file)
        return await (_while_there(ctx, work) if tool.waits else calls.whole(work))

    server: Server[Any] = Server(
        "fleet", version=VERSION, instructions=instructions, on_list_tools=list_tools, on_call_tool=call_tool
    )
    if sleeps is not None:
        tasks.install(server, sleeps, lambda ctx: _call(ctx, caller(ctx)))
    return server


def caller_on_socket(ctx: Context) -> Caller:
    """Return the caller that `serve_connection` put beside every message."""
    return cast("Caller", ctx.request)


def _find(checks: Mapping[str, tuple[Tool, Check]], name: str) -> tuple[Tool, Check]:
    if name in checks:
        return checks[name]
    close = difflib.get_close_matches(name, checks, 1, 0.5)
    meant = f"did you mean {close[0]}? " if close else ""
    raise NotFoundError(f"no tool {name[:80]!a}", hint=f"{meant}Tools: {', '.join(checks)}")


def _call(ctx: Context, caller: Caller, resent: str | None = None) -> Call:
    """The idempotency key is the caller's tool-use id, told apart by orchestrator: two hosts may count alike."""
    used = cast("Mapping[str, object]", ctx.meta or {}).get(TOOL_USE)
    return Call(caller=caller, key=f"{caller.orchestrator}/{used}" if used else resent, progress=_progress(ctx))


def _resent(ctx: Context, params: types.CallToolRequestParams) -> str | None:
    """The key of a call by a host that gives none: its door sends it again as it was, under the same id.

    What is called is part of it, for hosts that count anew behind one door; None for who comes without a door.
    """
    if not isinstance(ctx.request, Caller) or not ctx.request.door:
        return None
    called = json.dumps([ctx.request_id, params.name, params.arguments])
    return f"{ctx.request.door}/{hashlib.sha256(called.encode()).hexdigest()[:32]}"


async def _while_there(ctx: Context, work: Awaitable[types.CallToolResult]) -> types.CallToolResult:
    """The result of a tool that waits, for a caller that is still there: nobody waits for one that has left.

    The SDK cancels handlers itself but for the older era over HTTP; what such an orphan told would count as heard.
    """
    left = getattr(ctx.request, "scope", {}).get(LEFT)
    if not isinstance(left, asyncio.Event):
        return await work
    found = _result("the caller has left", is_error=True)
    async with anyio.create_task_group() as group:

        async def leave() -> None:
            await left.wait()
            group.cancel_scope.cancel()

        group.start_soon(leave)
        found = await work
        group.cancel_scope.cancel()
    return found


def _progress(ctx: Context) -> Progress:
    async def report(seconds: float, text: str) -> None:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # the caller left; the work goes on
            await ctx.session.report_progress(seconds, None, clean(text))

    return report


async def _run(tool: Tool, call: Call, work: Awaitable[str | Sleep], log_file: str) -> types.CallToolResult:
    started = time.monotonic()
    told = {"tool": tool.name}
    with log.bound(orchestrator=call.caller.orchestrator, project=call.caller.project):
        try:
            text, is_error = await work, False
        except FleetError as error:
            text, is_error = str(error), True
            told["error"] = text
        except Exception as error:  # noqa: BLE001 - the boundary: whatever broke, the caller gets one sentence
            _log.exception("a tool broke", tool=tool.name)
            text, is_error = f"Fleet itself failed ({type(error).__name__}) -> the traceback is in {log_file}", True
        _log.info("called", **told, ms=round((time.monotonic() - started) * 1000, 1))
    return tasks.begun(text) if isinstance(text, Sleep) else _result(text, is_error=is_error)


def _result(text: str, *, is_error: bool) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=clean(text))], is_error=is_error)


async def serve_connection(
    server: Server[Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter, caller: Caller
) -> None:
    """Speak JSON-RPC lines with one client until it goes away; the connection survives lines that are none.

    The reader's limit should be `LINE_BYTES`. Handlers of waiting tools are cancelled when the client goes.
    """
    up_send, up = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    down, down_receive = anyio.create_memory_object_stream[SessionMessage](0)
    async with anyio.create_task_group() as group:
        group.start_soon(_inbound, reader, writer, up_send, caller)
        group.start_soon(_outbound, writer, down_receive)
        await serve_dual_era_loop(server, up, down, lifespan_state={})


async def _inbound(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    send: MemoryObjectSendStream[SessionMessage | Exception],
    caller: Caller,
) -> None:
    metadata = ServerMessageMetadata(request_context=caller)
    async with send:
        with suppress(ConnectionError, anyio.BrokenResourceError):
            while line := await _next_line(reader, writer):
                if not line.strip():
                    continue
                try:
                    message = types.jsonrpc_message_adapter.validate_python(fallback.read_message(line), by_name=False)
                except fallback.MalformedError as error:  # the SDK would leave it, and its sender, without an answer
                    await _write(writer, error.reply)
                except ValueError:
                    await _write(writer, fallback.failure(None, fallback.INVALID_REQUEST, "no JSON-RPC message"))
                else:
                    await send.send(SessionMessage(message, metadata=metadata))


async def _next_line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The next line, b'' at the end; lines over the limit are answered and skipped."""
    head = b""
    while True:
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            skipped = await reader.readexactly(error.consumed)
            head = head or skipped[:_HEAD_BYTES]
        except asyncio.IncompleteReadError:
            return b""
        else:
            if not head:
                return line
            found = _HEAD_ID.match(head)
            request = int(found[1]) if found and found[1].isdigit() else (found[1][1:-1].decode() if found else None)
            await _write(
                writer,
                fallback.failure(request, fallback.INVALID_REQUEST, f"a line over {LINE_BYTES} bytes"),
            )
            head = b""


async def _outbound(writer: asyncio.StreamWriter, messages: MemoryObjectReceiveStream[SessionMessage]) -> None:
    async with messages:
        async for message in messages:  # to the end, even after the client left: whoever sends must not hang
            with suppress(ConnectionError):
                await _write(
                    writer, message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
                )


async def _write(writer: asyncio.StreamWriter, line: bytes) -> None:
    if not writer.is_closing():
        writer.write(line)
        await writer.drain()
