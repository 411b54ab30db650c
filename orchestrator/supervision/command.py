"""Runs one command in an agent's directory and environment, supervised like its session, bounded in time and output."""

from __future__ import annotations

import asyncio
import time
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.supervision.channels import Channels
from orchestrator.supervision.hidden import HiddenPlace, wait_in_place
from orchestrator.supervision.shim import GRACE_SECONDS, KILL_SECONDS
from orchestrator.supervision.spawn import spawn
from orchestrator.supervision.tiers import SHIM_TIER, Tier, launcher_environment, working_tree_of, write_launcher

TAIL_BYTES = 16 * 1024
"""how many bytes are kept of the end of a command's output"""
SHIM_END_SECONDS = GRACE_SECONDS + KILL_SECONDS + 2.0
"""by then the shim has ended all of the command's processes"""
DRAIN_SECONDS = 1.0
"""how long to read output after the exit: only a process that could not be killed still holds the pipe open"""
_CHUNK_BYTES = 64 * 1024
SHELL = Path("/bin/sh")
_WITHOUT_STDIN = 'exec /bin/sh -c "$0" </dev/null'
"""standard input is the shim's lifeline, so a command must neither read it nor wait on it"""


@dataclass(frozen=True, kw_only=True)
class LaunchConfig:
    """How agents' programs start on this machine: the folder for launchers, the tier, and the directories to hide.

    `private` names directories of sockets that each session gets empty and for itself (`foreign_sockets.py`).
    """

    folder: Path
    tier: Tier = SHIM_TIER
    hidden: tuple[HiddenPlace, ...] = ()
    private: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CommandSpec:
    """What to run, where, and with which environment; `folder` is the agent's own in the state directory.

    `line` is written to the program's standard input at the start.
    """

    program: Path
    arguments: tuple[str, ...]
    cwd: Path
    folder: Path
    environment: Mapping[str, str] = field(repr=False)
    line: bytes = b""


@dataclass(frozen=True, kw_only=True)
class CommandEnd:
    """How a command ended: the exit code (128 + n for signal n; None if Fleet ended it) and the end of its output."""

    exit_code: int | None
    output: str
    seconds: float


def shell(command: str, *, cwd: Path, folder: Path, environment: Mapping[str, str]) -> CommandSpec:
    """The spec that runs this shell command without standard input."""
    return CommandSpec(
        program=SHELL, arguments=("-c", _WITHOUT_STDIN, command), cwd=cwd, folder=folder, environment=environment
    )


class RunningCommand:
    """A running command, created by `start`. Call `wait` exactly once."""

    def __init__(self, process: Process) -> None:
        self.pid = process.pid
        self.was_killed = False
        """the shim did not exit in time and was killed itself: processes of the command may be left"""
        self._process = process
        self._started_at = time.monotonic()
        self._output = bytearray()
        self._reader = asyncio.get_running_loop().create_task(self._read())

    async def wait(self, seconds: float, stop: asyncio.Event) -> CommandEnd:
        """Return when the command exits, reaches its time-out or is stopped by `stop`; no process of it is left then.

        When cancelled, it closes the command's lifeline and returns at once.
        """
        loop = asyncio.get_running_loop()
        exiting, stopping = loop.create_task(self._process.wait()), loop.create_task(stop.wait())
        try:
            await asyncio.wait({exiting, stopping}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            code = _exit_code(self._process.returncode)
            elapsed_seconds = time.monotonic() - self._started_at
            if code is None:
                self.was_killed = not await end_process(self._process)
            await asyncio.wait({self._reader}, timeout=DRAIN_SECONDS)
            return CommandEnd(exit_code=code, output=self._output.decode(errors="replace"), seconds=elapsed_seconds)
        finally:
            close_lifeline(self._process)
            for task in (exiting, stopping, self._reader):
                task.cancel()

    async def _read(self) -> None:
        stream = self._process.stdout
        while stream is not None and (chunk := await stream.read(_CHUNK_BYTES)):
            self._output += chunk
            del self._output[:-TAIL_BYTES]


def close_lifeline(process: Process) -> None:
    """Close its standard input, dropping what it has not read: its shim then ends it and everything that it started."""
    if process.stdin is not None and not process.stdin.is_closing():
        process.stdin.transport.abort()  # `close` would wait until a program that hangs has read the rest


async def end_process(process: Process) -> bool:
    """Close the lifeline: the shim then ends the program and everything it started, even if detached.

    Returns False if the shim did not exit in time and was killed itself: processes may be left.
    """
    close_lifeline(process)
    with suppress(TimeoutError):
        async with asyncio.timeout(SHIM_END_SECONDS):
            await process.wait()
            return True
    with suppress(ProcessLookupError):
        process.kill()
    return False


def _exit_code(code: int | None) -> int | None:
    """The exit code as a shell reports it: 128 + the signal's number, even if the shim itself was killed."""
    return 128 - code if code is not None and code < 0 else code


async def start(launch: LaunchConfig, spec: CommandSpec, marker: str) -> RunningCommand:
    """Start the command under the launcher, with exactly its own environment and the marker.

    Call it on the event loop's own thread: a child's death signal fires when the thread that started it ends.
    When cancelled, it ends what it has started and returns only then.

    Raises:
        OSError: the command did not start.
    """
    process = await open_process(launch, spec, marker, is_private=False)
    if spec.line and process.stdin is not None:
        process.stdin.write(spec.line)
    return RunningCommand(process)


async def open_process(
    launch: LaunchConfig, spec: CommandSpec, marker: str, *, is_private: bool, line_bytes: int = _CHUNK_BYTES
) -> Process:
    """Start the command like `start`, with the same errors, but read none of its output.

    `line_bytes` is the longest line that its streams return. With `is_private` its error output is apart, and nothing
    that it starts can open its streams; else both outputs are one pipe.
    """
    await wait_in_place(launch.hidden)
    program = write_launcher(launch.folder, spec.program, launch.tier, launch.hidden, launch.private)
    environment = launcher_environment(
        {**spec.environment, "PWD": str(spec.cwd)},
        marker=marker,
        hidden=launch.hidden,
        folder=spec.folder,
        working_tree=working_tree_of(spec.cwd),
    )
    channels = Channels(with_output=is_private)

    async def starting() -> Process:
        process = await asyncio.create_subprocess_exec(
            program,
            *spec.arguments,
            stdin=channels.descriptor("stdin", PIPE),
            stdout=channels.descriptor("stdout", PIPE),
            stderr=channels.descriptor("stderr", STDOUT),
            cwd=spec.cwd,
            env=environment,
            limit=line_bytes,
        )
        await channels.connect(process, line_bytes)
        return process

    try:
        return await spawn(starting(), discard=end_process)
    finally:
        channels.close()
