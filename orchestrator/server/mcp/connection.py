"""Serves one connection of a door: JSON-RPC lines of both protocol eras, until either side disconnects."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Any

import anyio
import mcp_types as types
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server import Server
from mcp.server.runner import serve_dual_era_loop
from mcp.shared.message import ServerMessageMetadata, SessionMessage

from orchestrator import fallback_server as fallback
from orchestrator.domain.tool import Caller
from orchestrator.server.handshake import LINE_BYTES

_HEAD_BYTES = 4096
_HEAD_ID = re.compile(
    rb'\A(?:\xef\xbb\xbf)?\s*\{(?:\s*"(?:jsonrpc|method)"\s*:\s*"[^"\\]*"\s*,)*\s*"id"\s*:\s*(\d{1,18}|"[^"\\]{1,200}")\s*,'
)


async def serve_connection(
    server: Server[Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter, caller: Caller
) -> None:
    """Serve JSON-RPC lines to one client until it disconnects; malformed lines are answered with an error.

    The reader's limit should be `LINE_BYTES`. Waiting tools are cancelled when the client disconnects.
    """
    up_send, up = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    down, down_receive = anyio.create_memory_object_stream[SessionMessage](0)
    async with anyio.create_task_group() as group:
        group.start_soon(_inbound, reader, writer, up_send, caller)
        group.start_soon(_outbound, writer, down_receive)
        await serve_dual_era_loop(server, up, down, lifespan_state={})


async def _inbound(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    send: MemoryObjectSendStream[SessionMessage | Exception],
    caller: Caller,
) -> None:
    metadata = ServerMessageMetadata(request_context=caller)
    async with send:
        with suppress(ConnectionError, anyio.BrokenResourceError):
            while line := await _next_line(reader, writer):
                if not line.strip():
                    continue
                try:
                    message = types.jsonrpc_message_adapter.validate_python(fallback.read_message(line), by_name=False)
                except fallback.MalformedError as error:  # the SDK would drop it, and its sender would get no answer
                    await _write(writer, error.reply)
                except ValueError:
                    await _write(writer, fallback.failure(None, fallback.INVALID_REQUEST, "no JSON-RPC message"))
                else:
                    await send.send(SessionMessage(message, metadata=metadata))


async def _next_line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Return the next line, b'' at the end; lines over the limit are answered and skipped."""
    head = b""
    while True:
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            skipped = await reader.readexactly(error.consumed)
            head = head or skipped[:_HEAD_BYTES]
        except asyncio.IncompleteReadError:
            return b""
        else:
            if not head:
                return line
            found = _HEAD_ID.match(head)
            request = int(found[1]) if found and found[1].isdigit() else (found[1][1:-1].decode() if found else None)
            await _write(
                writer,
                fallback.failure(request, fallback.INVALID_REQUEST, f"a line over {LINE_BYTES} bytes"),
            )
            head = b""


async def _outbound(writer: asyncio.StreamWriter, messages: MemoryObjectReceiveStream[SessionMessage]) -> None:
    async with messages:
        async for message in messages:  # drained even after the client left: a blocked sender would hang
            with suppress(ConnectionError):
                await _write(
                    writer, message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
                )


async def _write(writer: asyncio.StreamWriter, line: bytes) -> None:
    if not writer.is_closing():
        writer.write(line)
        await writer.drain()
