"""Sockets in place of pipes as a program's standard streams: a pipe can be opened again through /proc, a socket cannot.

A pipe in `/proc/PID/fd` opens for every process of the same user, so what a program started could have written into
the program's output, or have answered in its input for Fleet (measured). A socket there cannot be opened (ENXIO).
"""

from __future__ import annotations

import asyncio
import socket
from asyncio.subprocess import Process
from contextlib import ExitStack


class Channels:
    """A program's standard input, and its output and error output unless they are pipes, before they are connected.

    Close it once the program has started, or has not: that closes the program's ends here.
    """

    def __init__(self, *, with_output: bool) -> None:
        self._theirs = ExitStack()
        self._ours: dict[str, socket.socket] = {}
        self._descriptors: dict[str, int] = {}
        for name in ("stdin", "stdout", "stderr") if with_output else ("stdin",):
            ours, theirs = socket.socketpair()
            self._theirs.enter_context(theirs)
            ours.setblocking(False)
            self._ours[name], self._descriptors[name] = ours, theirs.fileno()

    def descriptor(self, name: str, default: int) -> int:
        """Return the program's end of this stream, or `default` if the stream is not a channel."""
        return self._descriptors.get(name, default)

    async def connect(self, process: Process, line_bytes: int) -> None:
        """Make our ends the streams of the process; `line_bytes` is the longest line that they return."""
        process.stdin = await _writer(self._ours.pop("stdin"))
        if "stdout" in self._ours:
            process.stdout = await _reader(self._ours.pop("stdout"), line_bytes)
            process.stderr = await _reader(self._ours.pop("stderr"), line_bytes)

    def close(self) -> None:
        """Close the program's ends, and ours unless they are connected."""
        self._theirs.close()
        for ours in self._ours.values():
            ours.close()
        self._ours.clear()


async def _reader(ours: socket.socket, line_bytes: int) -> asyncio.StreamReader:
    ours.shutdown(socket.SHUT_WR)
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader(limit=line_bytes)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), ours)
    return reader


async def _writer(ours: socket.socket) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), ours
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)
