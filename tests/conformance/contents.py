"""Fixtures with content: every kind of content, resources, prompts, completions, log messages, changes."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import wave
from typing import Any

import mcp_types as types
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, PromptsListChanged, ToolsListChanged
from mcp.shared.exceptions import MCPError

from orchestrator.domain.tool import Json
from orchestrator.tool_table import Context
from tests.conformance.kit import ANYTHING, Handler, Kit, said

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
STEP_SECONDS = 0.05
"""between two messages of one call, so that they leave one by one"""
TEXT, BINARY, WATCHED = "test://static-text", "test://static-binary", "test://watched-resource"
TEMPLATE = "test://template/{id}/data"
Content = types.TextContent | types.ImageContent | types.AudioContent | types.EmbeddedResource
Messages = list[types.PromptMessage]


def _sound() -> str:
    with io.BytesIO() as file:
        with wave.open(file, "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(8000)
            sound.writeframes(bytes(160))
        return base64.b64encode(file.getvalue()).decode()


def _image() -> types.ImageContent:
    return types.ImageContent(data=PNG, mime_type="image/png")


def _embedded(uri: str, text: str, kind: str = "text/plain") -> types.EmbeddedResource:
    return types.EmbeddedResource(resource=types.TextResourceContents(uri=uri, mime_type=kind, text=text))


CONTENTS: dict[str, list[Content]] = {
    "test_image_content": [_image()],
    "test_audio_content": [types.AudioContent(data=_sound(), mime_type="audio/wav")],
    "test_embedded_resource": [_embedded("test://embedded-resource", "This is an embedded resource content.")],
    "test_multiple_content_types": [
        types.TextContent(text="Multiple content types test:"),
        _image(),
        _embedded("test://mixed-content-resource", '{"test": "data", "value": 123}', "application/json"),
    ],
}


def _shows(content: list[Content]) -> Handler:
    async def show(ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        return types.CallToolResult(content=list(content))

    return show


async def _log(ctx: Context, *lines: str) -> None:
    for line in lines:
        await ctx.session.send_log_message("info", line, related_request_id=ctx.request_id)  # pyright: ignore[reportDeprecated] - the suite asks for it
        await asyncio.sleep(STEP_SECONDS)


async def _logging(ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
    await _log(ctx, "Tool execution started", "Tool processing data", "Tool execution completed")
    return said("Tool with logging executed successfully")


async def _reconnection(ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
    await _log(ctx, "Before disconnect")
    if ctx.close_sse_stream is not None:
        await ctx.close_sse_stream()
        await asyncio.sleep(4 * STEP_SECONDS)  # until the client has come back
    await _log(ctx, "After reconnect")
    return said("Reconnection test completed")


async def _list_resources(ctx: Context, params: types.PaginatedRequestParams) -> types.ListResourcesResult:
    kinds = {TEXT: "text/plain", BINARY: "image/png", WATCHED: "text/plain"}
    return types.ListResourcesResult(
        resources=[types.Resource(uri=uri, name=uri.removeprefix("test://"), mime_type=kinds[uri]) for uri in kinds]
    )


async def _list_templates(ctx: Context, params: types.PaginatedRequestParams) -> types.ListResourceTemplatesResult:
    template = types.ResourceTemplate(uri_template=TEMPLATE, name="template", mime_type="application/json")
    return types.ListResourceTemplatesResult(resource_templates=[template])


async def _read(ctx: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    uri = str(params.uri)
    if uri == BINARY:
        return types.ReadResourceResult(contents=[types.BlobResourceContents(uri=uri, mime_type="image/png", blob=PNG)])
    kind, text = "text/plain", {TEXT: "This is the content of the static text resource.", WATCHED: "Watched."}.get(uri)
    if found := re.fullmatch(r"test://template/([^/]+)/data", uri):
        told = {"id": found[1], "templateTest": True, "data": f"Data for ID: {found[1]}"}
        kind, text = "application/json", json.dumps(told)
    if text is None:
        raise MCPError(types.INVALID_PARAMS, f"no resource {uri!r}", {"uri": uri})
    return types.ReadResourceResult(contents=[types.TextResourceContents(uri=uri, mime_type=kind, text=text)])


async def _nothing(ctx: Context, params: object) -> types.EmptyResult:
    return types.EmptyResult()


def _user(*contents: Content) -> Messages:
    return [types.PromptMessage(role="user", content=content) for content in contents]


def _prompt(name: str, given: dict[str, str]) -> Messages:
    if name == "test_simple_prompt":
        return _user(types.TextContent(text="This is a simple prompt for testing."))
    if name == "test_prompt_with_arguments":
        told = f"Prompt with arguments: arg1='{given['arg1']}', arg2='{given['arg2']}'"
        return _user(types.TextContent(text=told))
    if name == "test_prompt_with_embedded_resource":
        embedded = _embedded(given["resourceUri"], "Embedded resource content for testing.")
        return _user(embedded, types.TextContent(text="Please process the embedded resource above."))
    if name == "test_prompt_with_image":
        return _user(_image(), types.TextContent(text="Please analyze the image above."))
    raise MCPError(types.INVALID_PARAMS, f"no prompt {name!r}")


PROMPTS = {
    "test_simple_prompt": (),
    "test_prompt_with_arguments": ("arg1", "arg2"),
    "test_prompt_with_embedded_resource": ("resourceUri",),
    "test_prompt_with_image": (),
    "test_input_required_result_prompt": (),
}


async def _list_prompts(ctx: Context, params: types.PaginatedRequestParams) -> types.ListPromptsResult:
    return types.ListPromptsResult(
        prompts=[
            types.Prompt(
                name=name,
                description=name,
                arguments=[types.PromptArgument(name=argument, required=True) for argument in arguments],
            )
            for name, arguments in PROMPTS.items()
        ]
    )


async def get_prompt(ctx: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
    """A prompt that asks its client nothing."""
    return types.GetPromptResult(messages=_prompt(params.name, params.arguments or {}))


async def _complete(ctx: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
    fitting = [word for word in ("paris", "park", "party") if word.startswith(params.argument.value)]
    return types.CompleteResult(completion=types.Completion(values=fitting, total=len(fitting), has_more=False))


def _changing(bus: InMemorySubscriptionBus, event: ToolsListChanged | PromptsListChanged) -> Handler:
    async def change(ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        await bus.publish(event)
        return said("changed")

    return change


def kit() -> Kit:
    """All of these."""
    bus = InMemorySubscriptionBus()
    methods: dict[str, tuple[Any, Any]] = {
        "resources/list": (types.PaginatedRequestParams, _list_resources),
        "resources/templates/list": (types.PaginatedRequestParams, _list_templates),
        "resources/read": (types.ReadResourceRequestParams, _read),
        "resources/subscribe": (types.SubscribeRequestParams, _nothing),
        "resources/unsubscribe": (types.UnsubscribeRequestParams, _nothing),
        "prompts/list": (types.PaginatedRequestParams, _list_prompts),
        "prompts/get": (types.GetPromptRequestParams, get_prompt),
        "completion/complete": (types.CompleteRequestParams, _complete),
        "logging/setLevel": (types.SetLevelRequestParams, _nothing),
        "subscriptions/listen": (types.SubscriptionsListenRequestParams, ListenHandler(bus)),
    }
    tools: dict[str, tuple[Json, Handler]] = {
        **{name: (ANYTHING, _shows(content)) for name, content in CONTENTS.items()},
        "test_tool_with_logging": (ANYTHING, _logging),
        "test_reconnection": (ANYTHING, _reconnection),
        "test_trigger_tool_change": (ANYTHING, _changing(bus, ToolsListChanged())),
        "test_trigger_prompt_change": (ANYTHING, _changing(bus, PromptsListChanged())),
    }
    return Kit(tools, methods)
