"""Durable waits as MCP tasks (SEP-2663, `io.modelcontextprotocol/tasks`): a wait that outlives its connection.

Offered per request, to clients that speak 2026-07-28 and declare the extension. Claude Code in a terminal does
(CLI 2.1.329): it polls and starts a new turn with the result. `claude -p` and older clients do not; they block.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol, cast

import mcp_types as types
from mcp.server import Server
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from pydantic import Field
from starlette.datastructures import Headers

from orchestrator.domain.durable_wait import DurableWait, DurableWaitStatus, Reply
from orchestrator.domain.tool import CallContext
from orchestrator.errors import ConflictError, FleetError, InvalidError, NotFoundError
from orchestrator.tool_table import Context

Fields = Mapping[str, Any]

EXTENSION = "io.modelcontextprotocol/tasks"
VERSION = "2026-07-28"
POLL_MILLISECONDS = 250
"""poll interval that the client is asked to use; it determines how late a wake arrives"""


class DurableWaits(Protocol):
    """The verbs behind the extension's three methods; they raise NotFoundError for a wait that is not the caller's."""

    async def durable_wait(self, call: CallContext, wait_id: str) -> DurableWait:
        """Return the current state of the durable wait."""
        ...

    async def reply_to_forms(self, call: CallContext, wait_id: str, given: Mapping[str, Reply]) -> None:
        """Record what a person did with forms of the wait."""
        ...

    async def cancel_durable_wait(self, call: CallContext, wait_id: str) -> None:
        """End the durable wait."""
        ...


class Named(types.RequestParams):
    """The parameters of `tasks/get` and `tasks/cancel`."""

    task_id: str = Field(alias="taskId")


class Updated(Named):
    """The parameters of `tasks/update`: the response to each form."""

    input_responses: dict[str, Any] = Field(default_factory=dict, alias="inputResponses")


def may_become_task(ctx: Context) -> bool:
    """Whether this request may be answered with a task, judged by its protocol version and declared capabilities."""
    capabilities = ctx.session.client_capabilities
    declared = capabilities.extensions if capabilities else None
    return ctx.protocol_version == VERSION and EXTENSION in (declared or {})


def shows_forms(ctx: Context) -> bool:
    """Whether the client can show a form to a person."""
    capabilities = ctx.session.client_capabilities
    elicitation = capabilities.elicitation if capabilities else None
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


def begun(wait: DurableWait) -> types.CallToolResult:
    """Return the answer to a call that became a task; the SDK has no type for it and passes it through unchanged."""
    return cast("types.CallToolResult", {"resultType": "task", **_seed(wait)})


def install(server: Server[Any], durable_waits: DurableWaits, call_of: Callable[[Context], CallContext]) -> None:
    """Declare the extension and register its methods."""

    async def get(ctx: Context, params: Named) -> dict[str, Any]:
        with _told():
            call = _checked(ctx, params, call_of)
            return {"resultType": "complete", **_wire(await durable_waits.durable_wait(call, params.task_id))}

    async def update(ctx: Context, params: Updated) -> dict[str, Any]:
        with _told():
            call = _checked(ctx, params, call_of)
            given = {key: _reply(raw) for key, raw in params.input_responses.items()}
            await durable_waits.reply_to_forms(call, params.task_id, given)
        return {"resultType": "complete"}

    async def cancel(ctx: Context, params: Named) -> dict[str, Any]:
        with _told():
            call = _checked(ctx, params, call_of)
            await durable_waits.cancel_durable_wait(call, params.task_id)
        return {"resultType": "complete"}

    server.extensions[EXTENSION] = {}
    server.add_request_handler("tasks/get", Named, get)
    server.add_request_handler("tasks/update", Updated, update)
    server.add_request_handler("tasks/cancel", Named, cancel)


def require(ctx: Context) -> None:
    """Check that this request may use tasks.

    Raises:
        MCPError: -32601 in the older protocol, -32021 if the client did not declare the capability.
    """
    if ctx.protocol_version != VERSION:
        raise MCPError(types.METHOD_NOT_FOUND, "Method not found")
    if not may_become_task(ctx):
        needed = types.ClientCapabilities(extensions={EXTENSION: {}})
        data = types.MissingRequiredClientCapabilityErrorData(required_capabilities=needed)
        raise MCPError(
            types.MISSING_REQUIRED_CLIENT_CAPABILITY,
            f"the client did not declare {EXTENSION}",
            data.model_dump(mode="json", by_alias=True, exclude_none=True),
        )


def _checked(ctx: Context, params: Named, call_of: Callable[[Context], CallContext]) -> CallContext:
    require(ctx)
    headers = over_http(ctx)
    if headers is not None and decode_header_value(headers.get(MCP_NAME_HEADER)) != params.task_id:
        raise MCPError(types.HEADER_MISMATCH, f"{MCP_NAME_HEADER} header does not match the request's taskId")
    return call_of(ctx)


def over_http(ctx: Context) -> Headers | None:
    """Return the headers of this request, or None if it came through a socket or in process."""
    headers: object = getattr(ctx.request, "headers", None)
    return headers if isinstance(headers, Headers) else None


@contextmanager
def _told() -> Generator[None]:
    """Report Fleet's errors to the client: invalid parameters if the request was wrong, otherwise an internal error."""
    try:
        yield
    except (NotFoundError, InvalidError, ConflictError) as error:
        raise MCPError(types.INVALID_PARAMS, str(error)) from error
    except FleetError as error:
        raise MCPError(types.INTERNAL_ERROR, str(error)) from error


def _reply(raw: object) -> Reply:
    """Parse the response to a form; a form that was not accepted has no fields."""
    given = cast("Fields", raw if isinstance(raw, Mapping) else {})
    content: object = given.get("content") if given.get("action") == "accept" else None
    return Reply(fields=cast("Fields", content) if isinstance(content, Mapping) else None)


def _seed(wait: DurableWait) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "taskId": wait.id,
        "status": str(wait.status),
        "createdAt": _iso(wait.created_at),
        "lastUpdatedAt": _iso(wait.updated_at),
        "ttlMs": None if wait.ttl_seconds is None else round(wait.ttl_seconds * 1000),
        "pollIntervalMs": POLL_MILLISECONDS,
    }
    return {**shown, "statusMessage": wait.message} if wait.message else shown


def _wire(wait: DurableWait) -> dict[str, Any]:
    """The task with what its status calls for: its forms, its result or its error."""
    shown = _seed(wait)
    if wait.status is DurableWaitStatus.INPUT_REQUIRED:
        shown["inputRequests"] = {key: _form(form.text, form.schema) for key, form in wait.forms.items()}
    if wait.status is DurableWaitStatus.COMPLETED:
        content = [{"type": "text", "text": wait.result}]
        shown["result"] = {"content": content, "isError": wait.is_error}
    if wait.status is DurableWaitStatus.FAILED and wait.error is not None:
        shown["error"] = {"code": wait.error[0], "message": wait.error[1]}
    return shown


def _form(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    params = {"mode": "form", "message": text, "requestedSchema": dict(schema)}
    return {"method": "elicitation/create", "params": params}


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
