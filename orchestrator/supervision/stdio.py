"""Runs one long-lived program that talks in lines on its standard input and output, supervised like its session."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from orchestrator.supervision.command import (
    DRAIN_SECONDS,
    CommandSpec,
    LaunchConfig,
    close_lifeline,
    end_process,
    open_process,
)

_CHUNK_BYTES = 64 * 1024


class StdioProcess:
    """A running program, created by `start`; await `close` once you no longer need it."""

    def __init__(self, process: Process, on_stderr: Callable[[str], None], line_bytes: int) -> None:
        self.pid = process.pid
        self._line_bytes = line_bytes
        self._process = process
        self._errors = asyncio.get_running_loop().create_task(self._read_errors(on_stderr))
        self._closing: asyncio.Task[None] | None = None

    async def write(self, data: bytes) -> None:
        """Return once the program can take more input.

        Raises:
            OSError: the program has ended or closed its input.
        """
        stdin = self._process.stdin
        if stdin is None or stdin.is_closing() or self._process.returncode is not None:
            raise BrokenPipeError("the program reads no more input")
        stdin.write(data)
        await stdin.drain()

    def close_input(self) -> None:
        """Close the program's input, which is its lifeline: its shim ends it, unless it exits by itself in time."""
        close_lifeline(self._process)

    async def lines(self) -> AsyncGenerator[bytes]:
        """Yield the lines of its output until it closes it; the last one may have no line end.

        Raises:
            ValueError: a line is longer than `start` was told.
        """
        stdout = self._process.stdout
        try:
            while stdout is not None and (line := await stdout.readline()):
                yield line
        except ValueError as error:
            raise ValueError(f"a line is longer than {self._line_bytes:,} bytes") from error

    async def wait(self) -> int:
        """Return its exit code once it has exited: 128 + n for signal n."""
        code = await self._process.wait()
        return 128 - code if code < 0 else code

    async def close(self) -> None:
        """End the program and everything that it started, and return when nothing is left; never raises.

        Its error output is complete then. It gives up after 16 s, and what is left is the reaper's. When cancelled, it
        raises at once, and the program still ends.
        """
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        draining = asyncio.get_running_loop().create_task(self._drain())
        await end_process(self._process)
        _, late = await asyncio.wait({self._errors, draining}, timeout=DRAIN_SECONDS)
        for task in late:
            task.cancel()

    async def _drain(self) -> None:
        """Read the output that nobody wants: asyncio sees the end of a process only after the end of its output."""
        stdout = self._process.stdout
        with suppress(RuntimeError):  # somebody reads it
            while stdout is not None and await stdout.read(_CHUNK_BYTES):
                pass

    async def _read_errors(self, on_stderr: Callable[[str], None]) -> None:
        stderr = self._process.stderr
        while stderr is not None:
            try:
                line = await stderr.readline()
            except ValueError:  # longer than the limit: asyncio has dropped what it had of it
                continue
            if not line:
                return
            if text := line.decode("utf-8", "replace").rstrip():
                on_stderr(text)


async def start(
    launch: LaunchConfig, spec: CommandSpec, marker: str, *, on_stderr: Callable[[str], None], line_bytes: int
) -> StdioProcess:
    """Start the program under the launcher, with exactly its own environment and the marker.

    `on_stderr` gets each line of its error output; `line_bytes` is the longest line that `lines` returns. Call it on
    the event loop's own thread: a child's death signal fires when the thread that started it ends. When cancelled, it
    ends what it has started and returns only then.

    Raises:
        OSError: it did not start.
    """
    process = await open_process(launch, spec, marker, is_private=True, line_bytes=line_bytes)
    return StdioProcess(process, on_stderr, line_bytes)
