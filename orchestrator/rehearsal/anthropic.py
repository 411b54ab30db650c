"""The Anthropic Messages wire format: requests read into a `Conversation`, answers written as a message or a stream.

Field names and event order: Anthropic Messages API (2023-06-01) as the Claude CLI 2.1 uses it, measured.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from .conversation import Conversation, Message, ToolResult
from .play import Answer

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
MODELS = ("claude-opus-5", "claude-sonnet-5", "claude-haiku-4-5")
_PIECE = 4096
_MOST_PIECES = 60


class BadRequest(Exception):  # noqa: N818 - the wire's own word
    """The body is not a request of this wire format; the text says where."""


class _Open(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Block(_Open):
    type: str
    text: str = ""
    id: str = ""
    name: str = ""
    tool_use_id: str = ""
    content: JsonValue = None
    is_error: bool | None = None


class _Message(_Open):
    role: Literal["user", "assistant", "system"]
    content: str | list[_Block] = ""


class _Tool(_Open):
    name: str = ""


class _Request(_Open):
    model: str
    messages: list[_Message]
    system: str | list[_Block] = ""
    tools: list[_Tool] = []
    stream: bool = False
    max_tokens: Annotated[int | None, Field(ge=0)] = None
    metadata: dict[str, JsonValue] | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A request for a reply, and how to send it."""

    conversation: Conversation
    stream: bool
    max_tokens: int | None


@dataclass(frozen=True, slots=True)
class Event:
    """One piece of a stream: bytes to send, then seconds to pause."""

    data: bytes
    rest_seconds: float = 0.0


def read(body: bytes, headers: Mapping[str, str]) -> Request:
    """The request in `body`; raises BadRequest."""
    try:
        request = _Request.model_validate_json(body or b"null")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "the body"
        raise BadRequest(f"{where}: {first['msg']}") from None
    agent, persona = headers.get("x-fleet-agent", ""), headers.get("x-fleet-persona", "")
    conversation = Conversation(
        messages=tuple(_message(raw) for raw in request.messages),
        system="\n\n".join(_texts(request.system)),
        model=request.model,
        agent=agent,
        persona=persona,
        fingerprint=_fingerprint(request, agent),
        request_bytes=len(body),
        tools=tuple(tool.name for tool in request.tools if tool.name),
    )
    return Request(conversation, request.stream, request.max_tokens)


def _fingerprint(request: _Request, agent: str) -> str:
    """Equal for the same question asked again, streamed or not, wherever the cache markers are."""
    said = request.model_dump_json(exclude={"stream", "max_tokens", "tools"})
    return hashlib.sha256(f"{agent}\0{said}".encode()).hexdigest()[:16]


def _message(raw: _Message) -> Message:
    blocks = [] if isinstance(raw.content, str) else raw.content
    results = tuple(
        ToolResult(block.tool_use_id, _result_text(block.content), bool(block.is_error))
        for block in blocks
        if block.type == "tool_result"
    )
    return Message(raw.role, tuple(_texts(raw.content)), results)


def _texts(content: str | list[_Block]) -> list[str]:
    if isinstance(content, str):
        return [content] if content else []
    return [block.text for block in content if block.type == "text"]


def _result_text(content: JsonValue) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [block["text"] for block in content if isinstance(block, dict) and isinstance(block.get("text"), str)]
    return "\n".join(str(text) for text in texts)


def tokens(size: int) -> int:
    """The rehearsal's measure of tokens: a quarter of the bytes, at least one."""
    return max(1, size // 4)


def message(answer: Answer, conversation: Conversation) -> dict[str, JsonValue]:
    """The whole answer as the body of a reply that is not streamed."""
    blocks = _blocks(answer, conversation)
    spent = usage(answer, conversation)
    return {
        **_envelope(conversation),
        "content": blocks,
        "stop_reason": answer.stop,
        "usage": _usage(*spent),
    }


def usage(answer: Answer, conversation: Conversation) -> tuple[int, int]:
    """Tokens in and out: what the script says, or estimated from the sizes of request and reply."""
    size = len(json.dumps(_blocks(answer, conversation)))
    given = answer.input_tokens
    made = answer.output_tokens
    return (
        tokens(conversation.request_bytes) if given is None else given,
        tokens(size) if made is None else made,
    )


def _envelope(conversation: Conversation) -> dict[str, JsonValue]:
    return {
        "id": f"msg_{conversation.fingerprint}",
        "type": "message",
        "role": "assistant",
        "model": conversation.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _usage(given: int, made: int) -> dict[str, JsonValue]:
    return {
        "input_tokens": given,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": made,
    }


def _blocks(answer: Answer, conversation: Conversation) -> list[JsonValue]:
    blocks: list[JsonValue] = []
    if answer.thinking:
        signature = base64.b64encode(conversation.fingerprint.encode()).decode()
        blocks.append({"type": "thinking", "thinking": answer.thinking, "signature": signature})
    if answer.text:
        blocks.append({"type": "text", "text": answer.text})
    blocks.extend(
        {"type": "tool_use", "id": call.id, "name": call.tool, "input": _as_json(call.input)} for call in answer.calls
    )
    return blocks


def _as_json(value: Mapping[str, object]) -> JsonValue:
    copied: JsonValue = json.loads(json.dumps(value))
    return copied


def events(answer: Answer, conversation: Conversation) -> Iterator[Event]:
    """The answer as a stream: message_start, the blocks piece by piece, message_delta, message_stop."""
    given, made = usage(answer, conversation)
    yield _event("message_start", message={**_envelope(conversation), "usage": _usage(given, 1)})
    for index, block in enumerate(_blocks(answer, conversation)):
        if isinstance(block, dict):
            yield from _block_events(index, block, answer.stream_seconds)
    yield _event(
        "message_delta", delta={"stop_reason": answer.stop, "stop_sequence": None}, usage={"output_tokens": made}
    )
    yield _event("message_stop")


def _block_events(index: int, block: dict[str, JsonValue], stream_seconds: float) -> Iterator[Event]:
    started, deltas = _start_and_deltas(block, stream_seconds)
    yield _event("content_block_start", index=index, content_block=started)
    rest = stream_seconds / len(deltas) if block["type"] == "text" and deltas else 0.0
    for delta in deltas:
        yield _event("content_block_delta", rest, index=index, delta=delta)
    yield _event("content_block_stop", index=index)


def _start_and_deltas(
    block: dict[str, JsonValue], stream_seconds: float
) -> tuple[dict[str, JsonValue], list[dict[str, JsonValue]]]:
    """How a block starts in a stream, and what follows."""
    if block["type"] == "text":
        pieces = _pieces(str(block["text"]), stream_seconds)
        return {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces]
    if block["type"] == "thinking":
        return {**block, "thinking": "", "signature": ""}, [
            *({"type": "thinking_delta", "thinking": piece} for piece in _pieces(str(block["thinking"]), 0)),
            {"type": "signature_delta", "signature": block["signature"]},
        ]
    pieces = _pieces(json.dumps(block["input"]), 0)
    return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]


def _pieces(text: str, stream_seconds: float) -> list[str]:
    """`text` in pieces of at most `_PIECE` characters; when spread over time, in up to `_MOST_PIECES`."""
    size = _PIECE if not stream_seconds else min(_PIECE, max(6, -(-len(text) // _MOST_PIECES)))
    return [text[start : start + size] for start in range(0, len(text), size)]


def _event(kind: str, rest_seconds: float = 0.0, **fields: JsonValue) -> Event:
    return Event(f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode(), rest_seconds)


def ping() -> bytes:
    """The event that only keeps the connection alive."""
    return _event("ping").data


def garbage() -> bytes:
    """An event whose data is not JSON."""
    return b"event: content_block_delta\ndata: {<this is no JSON>\n\n"


def error_event(status: int, text: str) -> bytes:
    """The event with which a reply fails after a good start."""
    return f"event: error\ndata: {json.dumps(error(status, text))}\n\n".encode()


def error(status: int, text: str) -> dict[str, JsonValue]:
    """The body of a reply that failed with `status`."""
    other = "api_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    kind = ERROR_TYPES.get(status, other)
    return {"type": "error", "error": {"type": kind, "message": text}}


def limit_headers(retry_after: float | None, resets_after: float | None) -> dict[str, str]:
    """The headers of a refusal that says when to retry; `resets_after`: as for a subscription's 5-hour limit."""
    headers = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
    if resets_after is not None:
        limit = "anthropic-ratelimit-unified"
        headers |= {f"{limit}-status": "rejected", f"{limit}-representative-claim": "five_hour"}
        headers[f"{limit}-reset"] = str(round(time.time() + resets_after))
    return headers


def models() -> dict[str, JsonValue]:
    """The list of models, as far as a client needs it: a rehearsal answers for every model."""
    data: list[JsonValue] = [
        {"type": "model", "id": name, "display_name": f"{name} (rehearsal)", "created_at": "2026-01-01T00:00:00Z"}
        for name in MODELS
    ]
    return {"data": data, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]}
