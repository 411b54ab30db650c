"""Fixtures that resemble no tool of Fleet, served next to a table of tools that Fleet's own code renders."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import mcp_types as types
from mcp.server import Server
from mcp.server.context import HandlerResult
from pydantic import BaseModel

from orchestrator.domain.tool import Json
from orchestrator.tool_table import Context

Called = types.CallToolResult | types.InputRequiredResult
Handler = Callable[[Context, types.CallToolRequestParams], Awaitable[Called]]
Method = Callable[[Context, Any], Awaitable[HandlerResult]]
ANYTHING: Json = {"type": "object", "properties": {}}


@dataclass(frozen=True)
class Kit:
    """Tools by name, each with its schema and its handler, and methods with the model of their parameters."""

    tools: dict[str, tuple[Json, Handler]] = field(default_factory=dict[str, "tuple[Json, Handler]"])
    methods: dict[str, tuple[type[BaseModel], Method]] = field(
        default_factory=dict[str, "tuple[type[BaseModel], Method]"]
    )

    def __or__(self, other: Kit) -> Kit:
        """Both."""
        return Kit({**self.tools, **other.tools}, {**self.methods, **other.methods})


def said(text: str) -> types.CallToolResult:
    """A result of one text."""
    return types.CallToolResult(content=[types.TextContent(text=text)])


def put_beside(server: Server[Any], kit: Kit) -> None:
    """Serve the kit beside what the server has; a tool of the kit stands before one of the same name."""
    listed, called = server.get_request_handler("tools/list"), server.get_request_handler("tools/call")
    assert listed is not None
    assert called is not None

    async def list_tools(ctx: Context, params: types.PaginatedRequestParams) -> types.ListToolsResult:
        own = types.ListToolsResult.model_validate(await listed.handler(ctx, params))
        added = [types.Tool(name=name, description=name, input_schema=dict(kit.tools[name][0])) for name in kit.tools]
        return types.ListToolsResult(tools=[*(tool for tool in own.tools if tool.name not in kit.tools), *added])

    async def call_tool(ctx: Context, params: types.CallToolRequestParams) -> HandlerResult:
        if params.name in kit.tools:
            return await kit.tools[params.name][1](ctx, params)
        return await called.handler(ctx, params)

    server.add_request_handler("tools/list", types.PaginatedRequestParams, list_tools)
    server.add_request_handler("tools/call", types.CallToolRequestParams, call_tool)
    for method, (model, handler) in kit.methods.items():
        server.add_request_handler(method, model, handler)
