"""Serves a table of tools over MCP: listing, lookup, argument checks and results are the same for every caller.

It uses the low-level `Server` of mcp 2.3, which passes schemas on unchanged and leaves argument checks and error texts
to us.
"""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import mcp_types as types
from mcp.server import Server
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from orchestrator import VERSION, log
from orchestrator.domain.arguments import MAX_PROBLEMS, ArgumentCheck
from orchestrator.domain.text import MAX_RESULT_BYTES, clean, one_line, within
from orchestrator.domain.tool import Tool
from orchestrator.errors import FleetError, NotFoundError

T = TypeVar("T")
Context = ServerRequestContext[Any, Any]
Answer = types.CallToolResult | types.InputRequiredResult
Invoke = Callable[[Context, types.CallToolRequestParams, Tool], Awaitable[Answer]]
"""Runs a tool whose arguments fit its schema; a FleetError that it raises becomes an error result."""

TOOL_USE = "claudecode/toolUseId"
"""The key under which Claude Code sends the id of its tool call (measured with 2.1.329)."""
MAX_NAME_CHARACTERS = 80
MAX_EXPLAINED_CHARACTERS = 300
LOG_SECONDS = 0.01
"""how long after a call its line is logged, as writing it takes longer than sending the answer; a kill may lose it"""

_log = log.logger(__name__)


def tool_server(name: str, table: Sequence[Tool], invoke: Invoke, *, instructions: str | None = None) -> Server[Any]:
    """An MCP server that offers exactly this table and checks all arguments before `invoke` runs.

    Every mistake of the caller is answered by a result with `isError` that says what to do next.
    """
    checks = {tool.name: (tool, ArgumentCheck(tool)) for tool in table}
    listed = types.ListToolsResult(
        tools=[
            types.Tool(name=tool.name, description=tool.description, input_schema=dict(tool.schema)) for tool in table
        ]
    )

    async def list_tools(_ctx: Context, _params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return listed

    async def call_tool(ctx: Context, params: types.CallToolRequestParams) -> Answer:
        try:
            tool, check = _find(checks, params.name)
            arguments = check(params.arguments or {})
            return await invoke(ctx, params.model_copy(update={"arguments": dict(arguments)}), tool)
        except FleetError as error:
            return _failure(error)

    server: Server[Any] = Server(
        name, version=VERSION, instructions=instructions, on_list_tools=list_tools, on_call_tool=call_tool
    )
    server.middleware.append(_explain)
    return server


def tool_use_id(ctx: Context) -> str | None:
    """The caller's own id of this tool call; None if its host sends no id."""
    used = cast("Mapping[str, object]", ctx.meta or {}).get(TOOL_USE)
    return None if used is None else str(used)


async def answer(tool: Tool, work: Awaitable[str | T], log_file: str = "the daemon's log") -> types.CallToolResult | T:
    """Return what `work` returns (a text as a result); an exception becomes a result that says what failed.

    The log records which tool was called, how it failed and how long it took.
    """
    started = time.monotonic()
    log_fields: dict[str, object] = {"tool": tool.name}
    try:
        outcome = await work
    except FleetError as error:
        log_fields["error"] = str(error)
        outcome = _failure(error)
    except Exception as error:  # noqa: BLE001 - the boundary: whatever fails, the caller gets one sentence
        _log.exception("a tool broke", tool=tool.name)
        text = f"Fleet itself failed ({type(error).__name__}) -> the traceback is in {log_file}"
        outcome = result(text, is_error=True)
    log_fields["ms"] = round((time.monotonic() - started) * 1000, 1)
    asyncio.get_running_loop().call_later(LOG_SECONDS, partial(_log.info, "called", **log_fields))
    return result(outcome) if isinstance(outcome, str) else outcome


def _failure(error: FleetError) -> types.CallToolResult:
    """The error on one line, as it may quote anything."""
    return result(within(str(error), MAX_RESULT_BYTES), is_error=True)


def result(text: str, *, is_error: bool = False) -> types.CallToolResult:
    """The text as a tool result, without invisible characters."""
    return types.CallToolResult(content=[types.TextContent(text=clean(text))], is_error=is_error)


async def _explain(ctx: Context, call_next: CallNext) -> HandlerResult:
    """Say what is wrong with a request's parameters, where the SDK says only that something is.

    Raises:
        MCPError: the request is refused.
    """
    try:
        return await call_next(ctx)
    except ValidationError as error:
        raise MCPError(types.INVALID_PARAMS, f"{ctx.method}: {_wrong(error)}") from None
    except MCPError as error:
        if error.code != types.INVALID_PARAMS or error.data != "":
            raise
        wanted = "the client sent no accepted initialize: send one with protocolVersion, capabilities and clientInfo"
        raise MCPError(types.INVALID_PARAMS, f"{ctx.method}: {wanted}") from None


def _wrong(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)[:MAX_PROBLEMS]
    missing = [_place(one["loc"]) for one in found if one["type"] == "missing"]
    others = [f"{_place(one['loc'])}: {one['msg']}" for one in found if one["type"] != "missing"]
    said = [f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"] if missing else []
    return one_line("; ".join([*said, *others]), MAX_EXPLAINED_CHARACTERS)


def _place(steps: Sequence[str | int]) -> str:
    """The place in the parameters; pydantic begins with the request's own field for them."""
    return ".".join(map(str, steps[1:] if len(steps) > 1 and steps[0] == "params" else steps))


def _find(checks: Mapping[str, tuple[Tool, ArgumentCheck]], name: str) -> tuple[Tool, ArgumentCheck]:
    if name in checks:
        return checks[name]
    close = difflib.get_close_matches(name, checks, 1, 0.5)
    meant = f"did you mean {close[0]}? " if close else ""
    raise NotFoundError(f"no tool {name[:MAX_NAME_CHARACTERS]!a}", hint=f"{meant}Tools: {', '.join(checks)}")
