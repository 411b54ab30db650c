"""Fixtures that ask their client during a call: live in the older protocol, in rounds in the newer one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import mcp_types as types
from mcp.server import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.shared.exceptions import MCPError
from mcp.shared.message import ServerMessageMetadata

from orchestrator.domain.tool import Json
from orchestrator.server.mcp import tasks
from orchestrator.tool_table import Context
from tests.conformance import contents
from tests.conformance.kit import ANYTHING, Called, Handler, Kit, said

Fields = dict[str, Any]
PRIORITIES = [("low", "Low Priority"), ("medium", "Medium Priority"), ("high", "High Priority")]
FEATURES = [("feature", "New Feature"), ("bug", "Bug Fix"), ("docs", "Documentation")]
STATES = ["active", "inactive", "pending"]
TEXT: Fields = {"type": "string"}

DEFAULTS: Fields = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": STATES, "default": "active"},
    "verified": {"type": "boolean", "default": True},
}
ENUMS: Fields = {
    "untitledSingle": {"type": "string", "enum": STATES},
    "titledSingle": {"type": "string", "oneOf": [{"const": key, "title": title} for key, title in PRIORITIES]},
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["read", "write", "execute"]}},
    "titledMulti": {"type": "array", "items": {"anyOf": [{"const": key, "title": title} for key, title in FEATURES]}},
    "legacyEnum": {"type": "string", "enum": ["small", "large"], "enumNames": ["Small Size", "Large Size"]},
}


def _form(message: str, fields: Fields, *required: str) -> types.ElicitRequest:
    schema: Fields = {"type": "object", "properties": fields, "required": list(required)}
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=schema))


def _sample(text: str) -> types.CreateMessageRequest:
    message = types.SamplingMessage(role="user", content=types.TextContent(text=text))
    return types.CreateMessageRequest(params=types.CreateMessageRequestParams(messages=[message], max_tokens=100))


NAME = _form("What is your name?", {"name": TEXT}, "name")
CONFIRM = _form("Please confirm", {"ok": {"type": "boolean"}}, "ok")


def _live(fields: Fields) -> Handler:
    """Elicit this from the client while the call waits."""

    async def ask(ctx: Context, params: types.CallToolRequestParams) -> Called:
        message = str((params.arguments or {}).get("message", "Please tell"))
        schema: Fields = {"type": "object", "properties": fields, "required": []}
        result = await ctx.session.elicit_form(message, schema, ctx.request_id)
        return said(f"User response: action={result.action}, content={json.dumps(result.content)}")

    return ask


async def _sampling(ctx: Context, params: types.CallToolRequestParams) -> Called:
    asked = _sample(str((params.arguments or {}).get("prompt", "")))
    metadata = ServerMessageMetadata(related_request_id=ctx.request_id)
    result = await ctx.session.send_request(asked, types.CreateMessageResult, metadata=metadata)
    return said(f"LLM response: {result.content.text if result.content.type == 'text' else result.content.type}")


async def _missing_capability(ctx: Context, params: types.CallToolRequestParams) -> Called:
    declared = ctx.session.client_capabilities
    if declared is None or declared.sampling is None:
        needed: Fields = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(types.MISSING_REQUIRED_CLIENT_CAPABILITY, "this tool needs the client to sample", needed)
    return said("The client samples.")


def _rounds(requests: Mapping[str, types.InputRequest], state: str | None = None) -> Handler:
    """Ask for all of these at once, until all are there and the state came back as it was."""

    async def ask(ctx: Context, params: types.CallToolRequestParams) -> Called:
        given = params.input_responses or {}
        if requests.keys() <= given.keys() and params.request_state == state:
            told = ", ".join(_told(given[key]) for key in requests)
            return said(f"state-ok: {told}" if state else f"Hello, {told}!")
        return types.InputRequiredResult(input_requests=dict(requests), request_state=state)

    return ask


def _told(response: object) -> str:
    if isinstance(response, types.ElicitResult):
        return ", ".join(str(value) for value in (response.content or {}).values())
    if isinstance(response, types.CreateMessageResult) and response.content.type == "text":
        return response.content.text
    return f"{len(response.roots)} roots" if isinstance(response, types.ListRootsResult) else "?"


async def _multi_round(ctx: Context, params: types.CallToolRequestParams) -> Called:
    given = params.input_responses or {}
    state: Fields = json.loads(params.request_state) if params.request_state else {}
    if state.get("round") == 1 and "step1" in given:
        asked = {"step2": _form("Step 2: What is your favorite color?", {"color": TEXT}, "color")}
        kept = {"round": 2, "name": _told(given["step1"])}
        return types.InputRequiredResult(input_requests={**asked}, request_state=json.dumps(kept))
    if state.get("round") == 2 and "step2" in given:
        return said(f"{state['name']} likes {_told(given['step2'])}.")
    asked = {"step1": _form("Step 1: What is your name?", {"name": TEXT}, "name")}
    return types.InputRequiredResult(input_requests={**asked}, request_state=json.dumps({"round": 1}))


async def _tampered(ctx: Context, params: types.CallToolRequestParams) -> Called:
    if params.request_state is None:
        return types.InputRequiredResult(input_requests={"confirm": CONFIRM}, request_state="round-1")
    return said(f"state-ok: {params.request_state}")


async def _what_it_can(ctx: Context, params: types.CallToolRequestParams) -> Called:
    declared = ctx.session.client_capabilities or types.ClientCapabilities()
    requests: dict[str, types.InputRequest] = {}
    if declared.sampling is not None:
        requests["sample"] = _sample("Say hello")
    if declared.elicitation is not None:
        requests["ask"] = NAME
    return types.InputRequiredResult(input_requests=requests, request_state="what the client can")


def _needing_tasks(server: Server[Any]) -> Handler:
    """What Fleet's code serves under this name, for clients that take tasks; every other one is refused."""
    called = server.get_request_handler("tools/call")
    assert called is not None

    async def call(ctx: Context, params: types.CallToolRequestParams) -> Called:
        tasks.require(ctx)
        return await called.handler(ctx, params)  # pyright: ignore[reportReturnType] - the answer `task` has no type in the SDK

    return call


def _named_task(begin: Handler) -> Handler:
    """Ask for a name in a first round and begin the task in the second."""

    async def ask(ctx: Context, params: types.CallToolRequestParams) -> Called:
        tasks.require(ctx)
        given = params.input_responses or {}
        if "user_name" not in given:
            return types.InputRequiredResult(input_requests={"user_name": NAME})
        return await begin(ctx, params.model_copy(update={"arguments": {"name": _told(given["user_name"])}}))

    return ask


async def _prompt(
    ctx: Context, params: types.GetPromptRequestParams
) -> types.GetPromptResult | types.InputRequiredResult:
    if params.name != "test_input_required_result_prompt":
        return await contents.get_prompt(ctx, params)
    given = params.input_responses or {}
    if "user_context" not in given:
        asked = _form("What context should the prompt use?", {"context": TEXT}, "context")
        return types.InputRequiredResult(input_requests={"user_context": asked})
    told = types.TextContent(text=f"Use the following context: {_told(given['user_context'])}")
    return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=told)])


def kit(server: Server[Any]) -> Kit:
    """All of these, and the seal around what a round hands its client to keep."""
    server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=server.name))
    roots = types.ListRootsRequest()
    several: dict[str, types.InputRequest] = {"user_name": NAME, "greeting": _sample("Greet"), "client_roots": roots}
    begin, begun = _needing_tasks(server), "test_input_required_result"
    handlers: dict[str, Handler] = {
        "test_sampling": _sampling,
        "test_elicitation": _live({"response": TEXT}),
        "test_elicitation_sep1034_defaults": _live(DEFAULTS),
        "test_elicitation_sep1330_enums": _live(ENUMS),
        "test_missing_capability": _missing_capability,
        "test_tool_with_task": _named_task(begin),
        "failing_job": begin,
        f"{begun}_elicitation": _rounds({"user_name": NAME}),
        f"{begun}_sampling": _rounds({"capital_question": _sample("What is the capital of France?")}),
        f"{begun}_list_roots": _rounds({"client_roots": roots}),
        f"{begun}_request_state": _rounds({"confirm": CONFIRM}, "the state of one round"),
        f"{begun}_multiple_inputs": _rounds(several, "the state of several"),
        f"{begun}_multi_round": _multi_round,
        f"{begun}_tampered_state": _tampered,
        f"{begun}_capabilities": _what_it_can,
    }
    tools: dict[str, tuple[Json, Handler]] = {name: (ANYTHING, handler) for name, handler in handlers.items()}
    return Kit(tools, {"prompts/get": (types.GetPromptRequestParams, _prompt)})
