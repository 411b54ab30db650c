"""Serves Fleet's own tools to one agent's session, as an MCP server inside this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mcp_types as types
from mcp.server import Server

from orchestrator import tool_table
from orchestrator.domain.tool import CallContext, Caller, Tool
from orchestrator.providers.base import SessionSpec
from orchestrator.tool_table import Context


def tool_server(name: str, tools: Sequence[Tool], spec: SessionSpec) -> Server[Any]:
    """The MCP server that offers these tools to the agent of this session."""
    caller = Caller(project=str(spec.cwd), orchestrator=spec.agent_id, cwd=str(spec.cwd))

    async def invoke(ctx: Context, params: types.CallToolRequestParams, tool: Tool) -> types.CallToolResult:
        call = CallContext(caller=caller, key=tool_table.tool_use_id(ctx))
        return await tool_table.answer(tool, tool.call(call, params.arguments or {}))

    return tool_table.tool_server(name, tools, invoke)
