"""Serves a table of tools to orchestrators over MCP, in both protocol eras."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import anyio
import mcp_types as types
from mcp.server import Server

from orchestrator import log, tool_table
from orchestrator.domain.durable_wait import DurableWait
from orchestrator.domain.text import clean
from orchestrator.domain.tool import CallContext, Caller, Progress, Tool
from orchestrator.server.calls import Calls, while_connected
from orchestrator.server.mcp import tasks
from orchestrator.server.mcp.roots import roots
from orchestrator.tool_table import Context

LEFT = "fleet.left"
"""key in the scope of an HTTP request: an event that is set when the client disconnects"""


def render(
    tools: Sequence[Tool],
    *,
    caller: Callable[[Context], Caller],
    calls: Calls,
    instructions: str | None = None,
    log_file: str = "the daemon's log",
    durable_waits: tasks.DurableWaits | None = None,
) -> Server[Any]:
    """Return an MCP server that offers exactly these tools, on sockets and over HTTP.

    `caller` finds the caller of a request. A tool that does not wait runs to completion even if its caller disconnects.
    With `durable_waits`, a waiting tool returns a task to clients that take one.
    """

    async def invoke(ctx: Context, params: types.CallToolRequestParams, tool: Tool) -> tool_table.Answer:
        found = await roots(ctx, params) if tool.located else ()
        if isinstance(found, types.InputRequiredResult):
            return found
        call, arguments = _call(ctx, caller(ctx), _resent(ctx, params)), params.arguments or {}
        call = replace(call, roots=found)
        if durable_waits is not None and tool.begin is not None and tasks.may_become_task(ctx):
            begun = tool.begin(call, arguments, tasks.shows_forms(ctx))
            return await calls.run_to_completion(_answer(tool, call, begun, log_file))
        work = _answer(tool, call, tool.call(call, arguments), log_file)
        return await (_while_there(ctx, work) if tool.waits else calls.run_to_completion(work))

    server = tool_table.tool_server("fleet", tools, invoke, instructions=instructions)
    if durable_waits is not None:
        tasks.install(server, durable_waits, lambda ctx: _call(ctx, caller(ctx)))
    return server


def _call(ctx: Context, caller: Caller, resent: str | None = None) -> CallContext:
    """Build the call; its idempotency key is orchestrator and tool-use id, as two hosts may use the same ids."""
    used = tool_table.tool_use_id(ctx)
    return CallContext(caller=caller, key=f"{caller.orchestrator}/{used}" if used else resent, progress=_progress(ctx))


def _resent(ctx: Context, params: types.CallToolRequestParams) -> str | None:
    """Return an idempotency key for hosts that send no tool-use id: their door resends a call under the same id.

    The tool and its arguments are part of the key, as several hosts behind one door may count from the same number.
    Returns None for clients that do not use a door.
    """
    if not isinstance(ctx.request, Caller) or not ctx.request.door:
        return None
    called = json.dumps([ctx.request_id, params.name, params.arguments])
    return f"{ctx.request.door}/{hashlib.sha256(called.encode()).hexdigest()[:32]}"


async def _while_there(ctx: Context, work: Coroutine[object, object, types.CallToolResult]) -> types.CallToolResult:
    """Run a waiting tool and cancel it when its caller disconnects.

    The SDK does this itself, except in the older protocol era over HTTP.
    """
    left = getattr(ctx.request, "scope", {}).get(LEFT)
    if not isinstance(left, asyncio.Event):
        return await work
    return await while_connected(work, left.wait()) or tool_table.result("the caller has left", is_error=True)


def _progress(ctx: Context) -> Progress:
    async def report(seconds: float, text: str) -> None:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # the caller left; the work continues
            await ctx.session.report_progress(seconds, None, clean(text))

    return report


async def _answer(
    tool: Tool, call: CallContext, work: Awaitable[str | DurableWait], log_file: str
) -> types.CallToolResult:
    with log.bound(orchestrator=call.caller.orchestrator, project=call.caller.project):
        found = await tool_table.answer(tool, work, log_file)
    return tasks.begun(found) if isinstance(found, DurableWait) else found
