"""A minimal MCP server with one tool, whose calls only explain why Fleet is not available.

It speaks both protocol eras and is a single file of standard-library code that any Python from 3.8 on runs by itself:
`python3 -I fallback_server.py TOOL TEXT`. The launcher runs it when the package is not installed; the door uses it when
it has no daemon to talk to. The caller provides the text.
"""

from __future__ import annotations

import json
import sys

TYPE_CHECKING = False  # type checkers take it as true; importing `typing` costs every door 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeGuard

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INTERNAL_ERROR = -32603

_MODERN = "2026-07-28"
_LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
_META = "io.modelcontextprotocol/"


class MalformedError(Exception):
    """The line is not a JSON-RPC message; `reply` is the error line to send back."""

    def __init__(self, reply: bytes) -> None:
        super().__init__(reply)
        self.reply = reply


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def lines(read: Callable[[], bytes], *, with_rest: bool = True) -> Iterator[bytes]:
    """Yield lines without line ends until `read` returns nothing; an unterminated last line only `with_rest`."""
    buffer = bytearray()
    while chunk := read():
        buffer += chunk
        if b"\n" in chunk:
            *whole, rest = bytes(buffer).split(b"\n")
            buffer = bytearray(rest)
            yield from whole
    if buffer and with_rest:
        yield bytes(buffer)


def read_message(line: bytes) -> dict[str, object]:
    """Return the JSON-RPC request, notification or response in a client's line.

    Raises:
        MalformedError: It is not valid; the MCP SDK would not answer it at all.
    """
    try:
        value = _DECODER.decode(line.decode("utf-8-sig"))  # without the byte order mark that some clients begin with
    except (ValueError, RecursionError) as error:
        raise MalformedError(failure(None, PARSE_ERROR, f"not a JSON message: {error}")) from error
    if not is_object(value):
        raise MalformedError(failure(None, INVALID_REQUEST, "a message must be a JSON object (no batches)"))
    _as_integers(value)
    if problem := _problem(value) or _lone_surrogate(line, value):
        raise MalformedError(failure(id_of(value), INVALID_REQUEST, problem))
    return value


def _lone_surrogate(line: bytes, message: dict[str, object]) -> str:
    if b"\\ud" in line.lower():
        try:
            json.dumps(message, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            code_unit = error.object[error.start]
            return f"the text has half of a character (\\u{ord(code_unit):04x} without its pair); leave it out"
    return ""


def _as_integers(message: dict[str, object]) -> None:
    """Write whole numbers such as 1.0 as integers where they are ids: some clients have one type of number."""
    params = message.get("params")
    for place, key in ((message, "id"), (params, "requestId")):
        if is_object(place) and isinstance(found := place.get(key), float) and found.is_integer():
            place[key] = int(found)


def is_object(value: object) -> TypeGuard[dict[str, object]]:
    """Return whether this is a JSON object."""
    return isinstance(value, dict)


def _problem(message: dict[str, object]) -> str:
    if message.get("jsonrpc") != "2.0":
        return 'a message needs "jsonrpc": "2.0"'
    if "id" in message and id_of(message) is None:
        return "an id must be a whole number or a text"
    if "method" not in message:
        return "" if "id" in message and ("result" in message or "error" in message) else "a request needs a method"
    if not isinstance(message["method"], str):
        return "a method must be a text"
    return "" if is_object(message.get("params", {})) else "params must be an object"


def id_of(message: dict[str, object], key: str = "id") -> int | str | None:
    """Return the id under this key, None if it is not a valid JSON-RPC id."""
    found = message.get(key)
    return found if isinstance(found, (int, str)) and not isinstance(found, bool) else None


def failure(request_id: int | str | None, code: int, text: str) -> bytes:
    """Return the line of a JSON-RPC error."""
    return _line({"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": text}})


def answer(message: dict[str, object], tool: str, text: str) -> bytes | None:
    """Return the line that answers this message, None if it needs no answer.

    Args:
        message: What `read_message` returned.
        tool: Name of the one tool.
        text: Its description, the server's instructions and the error of every call.
    """
    request_id, method = id_of(message), message.get("method")
    if request_id is None or not isinstance(method, str):
        return None
    params = message.get("params")
    result = _result(method, params if is_object(params) else {}, tool, text)
    if result is None:
        return failure(request_id, METHOD_NOT_FOUND, f"{method} is not here. {text}")
    return _line({"jsonrpc": "2.0", "id": request_id, "result": result})


def _result(method: str, params: dict[str, object], tool: str, text: str) -> dict[str, object] | None:
    server: dict[str, object] = {"name": "fleet", "version": "0"}
    about: dict[str, object] = {"capabilities": {"tools": {}}, "instructions": text}
    meta = params.get("_meta")
    is_modern = method == "server/discover" or (is_object(meta) and f"{_META}protocolVersion" in meta)
    era: dict[str, object] = {"resultType": "complete", "_meta": {f"{_META}serverInfo": server}} if is_modern else {}
    cache: dict[str, object] = {"ttlMs": 0, "cacheScope": "private"} if is_modern else {}
    if method == "initialize":
        asked = params.get("protocolVersion")
        return {**about, "protocolVersion": asked if asked in _LEGACY else _LEGACY[0], "serverInfo": server}
    if method == "server/discover":
        return {**about, **era, **cache, "supportedVersions": [_MODERN]}
    if method == "tools/list":
        schema: dict[str, object] = {"type": "object", "properties": {}}
        return {"tools": [{"name": tool, "description": text, "inputSchema": schema}], **era, **cache}
    if method == "tools/call":
        return {"content": [{"type": "text", "text": text}], "isError": True, **era}
    return era if method == "ping" else None


def _line(message: dict[str, object]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def serve(tool: str, text: str) -> None:
    """Answer every line from standard input on standard output, until the input ends."""
    for line in sys.stdin.buffer:
        if not line.strip():
            continue
        try:
            reply = answer(read_message(line), tool, text)
        except MalformedError as error:
            reply = error.reply
        if reply is not None:
            sys.stdout.buffer.write(reply)
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2])
