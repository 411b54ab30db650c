"""Reads a server's tools as one library does and converts them: `convert.py LIBRARY PROGRAM [ARGUMENT …]`.

Runs in the environment of `make hosts`, where these libraries are, so it names them only when it runs. It prints the
names of the tools that were converted, and calls the one that needs no arguments with null for an optional one.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from typing import Any

CALLED = "get_agent_status"
ABSENT: dict[str, object] = {"agents": None}


def library(name: str) -> Any:
    """A module that only this environment has."""
    return importlib.import_module(name)


async def gemini(program: str, *arguments: str) -> list[str]:
    """The converter that google-genai applies to an MCP session that is given as a tool."""
    client, stdio = library("mcp"), library("mcp.client.stdio")
    convert = library("google.genai._mcp_utils").mcp_to_gemini_tools
    server = client.StdioServerParameters(command=program, args=list(arguments), env=dict(os.environ))
    async with stdio.stdio_client(server) as (read, write), client.ClientSession(read, write) as session:
        await session.initialize()
        found = convert((await session.list_tools()).tools)
        names = [declared.name for tool in found for declared in tool.function_declarations]
        if CALLED in names:
            assert not (await session.call_tool(CALLED, ABSENT)).isError
        return names


async def openai_agents(program: str, *arguments: str) -> list[str]:
    """The tools of an agent of openai-agents whose schemas are made strict; a schema that cannot be is a failure."""
    mcp, util, context = library("agents.mcp"), library("agents.mcp.util"), library("agents.tool_context")
    agents = library("agents")
    parameters = {"command": program, "args": list(arguments), "env": dict(os.environ)}
    async with mcp.MCPServerStdio(params=parameters, client_session_timeout_seconds=60) as server:
        agent = agents.Agent(name="orchestrator", mcp_servers=[server])
        tools = await util.MCPUtil.get_function_tools(server, True, agents.RunContextWrapper(None), agent)
        # one without arguments stays open: only `additionalProperties` would close it, which google-genai refuses
        assert all(tool.strict_json_schema for tool in tools if tool.params_json_schema["properties"])
        for tool in tools:
            if tool.name == CALLED:
                call = context.ToolContext(None, tool_name=CALLED, tool_call_id="1", tool_arguments="{}")
                assert "living agents" in str(await tool.on_invoke_tool(call, json.dumps(ABSENT)))
        return [tool.name for tool in tools]


async def langchain(program: str, *arguments: str) -> list[str]:
    """The tools of langchain-mcp-adapters, and the functions that a chat model is given for them."""
    client = library("langchain_mcp_adapters.client").MultiServerMCPClient
    convert = library("langchain_core.utils.function_calling").convert_to_openai_tool
    server = {"transport": "stdio", "command": program, "args": list(arguments), "env": dict(os.environ)}
    tools = await client({"fleet": server}).get_tools()
    for tool in tools:
        if tool.name == CALLED:
            assert "living agents" in str(await tool.ainvoke(ABSENT))
    return [convert(tool, strict=True)["function"]["name"] for tool in tools]


LIBRARIES = {"google-genai": gemini, "openai-agents": openai_agents, "langchain-mcp-adapters": langchain}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(LIBRARIES[sys.argv[1]](*sys.argv[2:]))))
