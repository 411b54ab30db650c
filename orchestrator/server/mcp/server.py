"""The tools of a fleet as an MCP server for orchestrators, in both protocol eras."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, cast

import anyio
import mcp_types as types
from mcp.server import Server

from orchestrator import log, tool_table
from orchestrator.domain.durable_wait import DurableWait
from orchestrator.domain.text import clean
from orchestrator.domain.tool import Call, Caller, Progress, Tool
from orchestrator.server.calls import Calls, while_connected
from orchestrator.server.mcp import tasks
from orchestrator.tool_table import Context

LEFT = "fleet.left"
"""of a request's scope over HTTP: an event that comes when the client has left"""


def render(
    tools: Sequence[Tool],
    *,
    caller: Callable[[Context], Caller],
    calls: Calls,
    instructions: str | None = None,
    log_file: str = "the daemon's log",
    durable_waits: tasks.DurableWaits | None = None,
) -> Server[Any]:
    """Return an MCP server that offers exactly these tools to orchestrators, on sockets and over HTTP.

    `caller` says who calls; on sockets `ctx.request` is the `Caller`. A tool that does not wait runs to completion even
    if its caller goes away. With `durable_waits` a tool that waits answers with a task where the client takes one.
    """

    async def invoke(ctx: Context, params: types.CallToolRequestParams, tool: Tool) -> types.CallToolResult:
        call, arguments = _call(ctx, caller(ctx), _resent(ctx, params)), params.arguments or {}
        if durable_waits is not None and tool.begin is not None and tasks.may_become_task(ctx):
            begun = tool.begin(call, arguments, tasks.shows_forms(ctx))
            return await calls.run_to_completion(_answer(tool, call, begun, log_file))
        work = _answer(tool, call, tool.call(call, arguments), log_file)
        return await (_while_there(ctx, work) if tool.waits else calls.run_to_completion(work))

    server = tool_table.tool_server("fleet", tools, invoke, instructions=instructions)
    if durable_waits is not None:
        tasks.install(server, durable_waits, lambda ctx: _call(ctx, caller(ctx)))
    return server


def caller_on_socket(ctx: Context) -> Caller:
    """Return the caller that `serve_connection` put beside every message."""
    return cast("Caller", ctx.request)


def _call(ctx: Context, caller: Caller, resent: str | None = None) -> Call:
    """The idempotency key is the caller's tool-use id, told apart by orchestrator: two hosts may count alike."""
    used = tool_table.tool_use_id(ctx)
    return Call(caller=caller, key=f"{caller.orchestrator}/{used}" if used else resent, progress=_progress(ctx))


def _resent(ctx: Context, params: types.CallToolRequestParams) -> str | None:
    """The key of a call by a host that gives none: its door sends it again as it was, under the same id.

    What is called is part of it, for hosts that count anew behind one door; None for who comes without a door.
    """
    if not isinstance(ctx.request, Caller) or not ctx.request.door:
        return None
    called = json.dumps([ctx.request_id, params.name, params.arguments])
    return f"{ctx.request.door}/{hashlib.sha256(called.encode()).hexdigest()[:32]}"


async def _while_there(ctx: Context, work: Coroutine[object, object, types.CallToolResult]) -> types.CallToolResult:
    """The result of a tool that waits, cancelled when its caller leaves.

    The SDK cancels handlers itself, except in the older era over HTTP.
    """
    left = getattr(ctx.request, "scope", {}).get(LEFT)
    if not isinstance(left, asyncio.Event):
        return await work
    return await while_connected(work, left.wait()) or tool_table.result("the caller has left", is_error=True)


def _progress(ctx: Context) -> Progress:
    async def report(seconds: float, text: str) -> None:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # the caller left; the work goes on
            await ctx.session.report_progress(seconds, None, clean(text))

    return report


async def _answer(tool: Tool, call: Call, work: Awaitable[str | DurableWait], log_file: str) -> types.CallToolResult:
    with log.bound(orchestrator=call.caller.orchestrator, project=call.caller.project):
        found = await tool_table.answer(tool, work, log_file)
    return tasks.begun(found) if isinstance(found, DurableWait) else found
