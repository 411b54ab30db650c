"""The crew tools, and an orchestrator's fleet tools, as MCP servers inside this process, one per session."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import mcp_types as types
from jsonschema import Draft202012Validator, ValidationError
from mcp.server import Server, ServerRequestContext

from orchestrator.domain.tool import Call, Caller, Json, Tool
from orchestrator.errors import FleetError
from orchestrator.providers.base import SessionSpec

CREW = "crew"
FLEET_SERVER = "plugin_fleet_fleet"
"""so that a tool's name is the one that it has through the plugin: personas and scripts fit both"""
TOOL_USE_ID = "claudecode/toolUseId"
"""Under this name Claude Code tells a server which tool call it is (measured with 2.1.329)."""
MAX_PROBLEMS = 3

Check = Callable[[Json], Iterable[ValidationError]]


def tool_server(name: str, tools: Sequence[Tool], spec: SessionSpec) -> Server[dict[str, object]]:
    """A server that offers the tools with their own schemas, each argument checked before the call."""
    table = {tool.name: tool for tool in tools}
    checks = {tool.name: _check(tool) for tool in tools}
    listed = [
        types.Tool(name=tool.name, description=tool.description, input_schema=dict(tool.schema)) for tool in tools
    ]
    caller = Caller(project=str(spec.cwd), orchestrator=spec.agent_id, cwd=str(spec.cwd))

    async def on_list(
        _context: ServerRequestContext[dict[str, object]], _params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return types.ListToolsResult(tools=listed)

    async def on_call(
        context: ServerRequestContext[dict[str, object]], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        tool = table.get(params.name)
        if tool is None:
            return _result(f"no {name} tool {params.name!r} -> valid: {', '.join(table)}", is_error=True)
        arguments = params.arguments or {}
        problems = [error.message[:200] for error in checks[tool.name](arguments)][:MAX_PROBLEMS]
        if problems:
            return _result(f"{tool.name}: {'; '.join(problems)}", is_error=True)
        key = (context.meta or {}).get(TOOL_USE_ID)
        try:
            text = await tool.call(Call(caller=caller, key=None if key is None else str(key)), arguments)
        except FleetError as error:
            return _result(str(error), is_error=True)
        return _result(text, is_error=False)

    return Server(name, on_list_tools=on_list, on_call_tool=on_call)


def _check(tool: Tool) -> Check:
    Draft202012Validator.check_schema(tool.schema)
    return cast("Check", Draft202012Validator(tool.schema).iter_errors)


def _result(text: str, *, is_error: bool) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=is_error)
