"""Serves the crew tools of an agent that may create agents on stdio, so that libraries can list them."""

from __future__ import annotations

import asyncio

import mcp_types as types
from mcp.server.stdio import stdio_server

from orchestrator import tool_table
from orchestrator.domain.tool import CallContext, Json, Tool
from orchestrator.fleet.briefing.agent_tools import AgentPort, crew_tools
from orchestrator.tool_table import Context


async def _listen(text: str) -> None:
    del text


async def _create(call: CallContext, arguments: Json) -> str:
    del call
    return str(arguments)


async def _answer(call_id: str | None) -> str | None:
    return call_id


async def _children() -> str:
    return "none"


TOOLS = crew_tools(AgentPort(progress=_listen, answer=_answer, create=_create, children=_children))


async def _invoke(ctx: Context, params: types.CallToolRequestParams, tool: Tool) -> types.CallToolResult:
    del ctx, params
    return tool_table.result(tool.name)


async def serve() -> None:
    """Serve until the input ends."""
    server = tool_table.tool_server("crew", TOOLS, _invoke)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    asyncio.run(serve())
