"""One command in an agent's directory and environment: supervised like its session, bounded in time and output."""

from __future__ import annotations

import asyncio
import time
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.supervision.shim import GRACE_SECONDS, KILL_SECONDS
from orchestrator.supervision.tiers import SHIM, Tier, launcher, sealed, work_of

TAIL_BYTES = 16 * 1024
"""how many bytes at the end of a command's output are kept"""
END_SECONDS = GRACE_SECONDS + KILL_SECONDS + 2.0
"""by then a shim has ended all its processes"""
SILENT_SECONDS = 1.0
"""how long its output is read after it ended: only a process that could not be killed still holds it open"""
_CHUNK_BYTES = 64 * 1024
SHELL = Path("/bin/sh")
_DEAF = 'exec /bin/sh -c "$0" </dev/null'
"""standard input is the shim's lifeline: a command must not read it or wait on it"""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How agents' programs start on this machine: a folder for launchers, the tier, the directories to hide."""

    folder: Path
    tier: Tier = SHIM
    hidden: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CommandSpec:
    """What to run, where, and with which environment; `folder` is the agent's own in the state directory.

    `line` is what the program reads first.
    """

    program: Path
    arguments: tuple[str, ...]
    cwd: Path
    folder: Path
    environment: Mapping[str, str] = field(repr=False)
    line: bytes = b""


@dataclass(frozen=True, kw_only=True)
class CommandEnd:
    """How it ended: its exit code (128 + n if signal n killed it), None if Fleet ended it; the end of its output."""

    exit_code: int | None
    output: str
    seconds: float


def shell(command: str, *, cwd: Path, folder: Path, environment: Mapping[str, str]) -> CommandSpec:
    """The order that runs this shell command without standard input."""
    return CommandSpec(program=SHELL, arguments=("-c", _DEAF, command), cwd=cwd, folder=folder, environment=environment)


class RunningCommand:
    """A running command, made by `start`. Call `wait` once."""

    def __init__(self, process: Process) -> None:
        self.pid = process.pid
        self.killed = False
        """its supervisor did not end and was killed itself: its processes may be left"""
        self._process = process
        self._began = time.monotonic()
        self._kept = bytearray()
        self._reading = asyncio.get_running_loop().create_task(self._read())

    async def wait(self, seconds: float, stop: asyncio.Event) -> CommandEnd:
        """Return when it ended by itself, at its time-out or through `stop`; no process of it is left then.

        When cancelled, it releases the command's lifeline and returns at once.
        """
        loop = asyncio.get_running_loop()
        ending, stopping = loop.create_task(self._process.wait()), loop.create_task(stop.wait())
        try:
            await asyncio.wait({ending, stopping}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            code = _exit_code(self._process.returncode)
            took = time.monotonic() - self._began
            if code is None:
                await self._end()
            await asyncio.wait({self._reading}, timeout=SILENT_SECONDS)
            return CommandEnd(exit_code=code, output=self._kept.decode(errors="replace"), seconds=took)
        finally:
            self._cut()
            for task in (ending, stopping, self._reading):
                task.cancel()

    async def _end(self) -> None:
        """Cut the lifeline: the shim ends the command and everything it started, even if detached."""
        self._cut()
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await self._process.wait()
                return
        self.killed = True
        with suppress(ProcessLookupError):
            self._process.kill()

    def _cut(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def _read(self) -> None:
        stream = self._process.stdout
        while stream is not None and (chunk := await stream.read(_CHUNK_BYTES)):
            self._kept += chunk
            del self._kept[:-TAIL_BYTES]


def _exit_code(code: int | None) -> int | None:
    """The exit code as a shell reports it: 128 + the signal's number, even if its supervisor was killed."""
    return 128 - code if code is not None and code < 0 else code


async def start(launch: Launch, order: CommandSpec, marker: str) -> RunningCommand:
    """Start it under the launcher, with exactly its own environment and the marker.

    Call it on the event loop's own thread: a process's death signal belongs to the thread that started it.

    Raises:
        OSError: it did not start.
    """
    program = launcher(launch.folder, order.program, launch.tier, launch.hidden)
    environment = sealed(
        {**order.environment, "PWD": str(order.cwd)},
        marker=marker,
        hidden=launch.hidden,
        folder=order.folder,
        work=work_of(order.cwd),
    )
    process = await asyncio.create_subprocess_exec(
        program,
        *order.arguments,
        stdin=PIPE,
        stdout=PIPE,
        stderr=STDOUT,
        cwd=order.cwd,
        env=environment,
    )
    if order.line and process.stdin is not None:
        process.stdin.write(order.line)
    return RunningCommand(process)
