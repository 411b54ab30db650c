"""`fleet daemon`: the one process that owns a fleet. Lock, sockets, log, orderly end, idle exit.

It binds its sockets before its heavy imports: a door that started it connects at once; its lines wait in the kernel.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator import paths

if TYPE_CHECKING:
    from mcp.server import Server

    from orchestrator.fleet.fleet import Fleet
    from orchestrator.server.calls import Calls
    from orchestrator.server.http.loopback import Loopback
    from orchestrator.server.mcp.doors import Doors

IDLE_EXIT = "FLEET_IDLE_EXIT_SECONDS"
IDLE_EXIT_SECONDS = 900.0
HTTP_PORT = "FLEET_HTTP_PORT"
LOG_LEVEL = "FLEET_LOG_LEVEL"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

EXIT_USAGE, EXIT_RUNNING = 2, 3

_SOCKETS = ("mcp.sock", "http.sock")
_BACKLOG = 128
_LOCK_BYTES = 200
_PREDECESSOR_SECONDS = 10.0
_LOOK_SECONDS = 2.0
_SETTLE_SECONDS = 2.0
_KEPT = frozenset({"HOME", "LANG", "LOGNAME", "PATH", "PYTHONPATH", "SHELL", "TMPDIR", "TZ", "USER"})
_KEPT_PREFIXES = ("AGENT_", "FLEET_", "LC_", "XDG_")


class RunningError(Exception):
    """Another daemon holds this state directory."""


@dataclass(frozen=True)
class Own:
    """What makes this process the daemon of a state directory: the lock, and the sockets that it bound under it."""

    state: Path
    lock: int
    build: str
    listeners: Mapping[str, socket.socket]
    inodes: Mapping[str, int]

    def path(self, name: str) -> Path:
        """Where this socket lies."""
        return paths.socket_path(self.state, name)

    def lost(self) -> str:
        """What is not ours any more, in words; '' if all is well."""
        if _inode(paths.lock_path(self.state)) != os.fstat(self.lock).st_ino:
            return f"the lock file {paths.lock_path(self.state)} was replaced or removed"
        for name, inode in self.inodes.items():
            if _inode(self.path(name)) != inode:
                return f"the socket {self.path(name)} was replaced or removed"
        return ""

    def mark(self, *, stopping: bool) -> None:
        """Say in the lock file who holds it, and whether a successor should wait for its end."""
        line = json.dumps({"pid": os.getpid(), "build": self.build, "stopping": stopping}).encode()
        os.pwrite(self.lock, line.ljust(_LOCK_BYTES) + b"\n", 0)  # one write of one length: no reader sees half of it

    def step_aside(self, *, back: bool = False) -> None:
        """Take the sockets out of everyone's reach, or put them back; connections under way are not touched."""
        self.mark(stopping=not back)
        for name, inode in self.inodes.items():
            source, target = self.path(name), self._aside(name)
            if back:
                source, target = target, source
            if _inode(source) == inode:
                source.rename(target)

    def release(self) -> None:
        """Remove what is still ours, the lock last; a successor's files are left alone."""
        if _inode(paths.lock_path(self.state)) == os.fstat(self.lock).st_ino:
            self.step_aside()
        for name, listener in self.listeners.items():
            self._aside(name).unlink(missing_ok=True)
            listener.close()
        os.close(self.lock)

    def _aside(self, name: str) -> Path:
        return self.path(name).with_name(f".{name}.{os.getpid()}")


def main(argv: Sequence[str]) -> int:
    """Run the daemon in the foreground until it is told to end or has nothing to do; return its exit code."""
    env = dict(os.environ)
    parser = argparse.ArgumentParser(prog="fleet daemon", description="Run the fleet's daemon in the foreground.")
    parser.add_argument(
        "--idle-exit",
        type=float,
        metavar="SECONDS",
        help=f"end after so long without work and visitors; 0: never (default: {IDLE_EXIT}, else "
        f"{IDLE_EXIT_SECONDS:.0f}, with {HTTP_PORT} never)",
    )
    options = parser.parse_args(argv)
    users_own = os.umask(0o077)
    try:
        idle_seconds, level = _idle_seconds(options.idle_exit, env), _log_level(env)
        own = take(paths.state_dir(env))
    except ValueError as error:
        return _complain(str(error), EXIT_USAGE)
    except RunningError as error:
        return _complain(str(error), EXIT_RUNNING)
    except (paths.StateError, OSError) as error:
        return _complain(f"fleet daemon: {error}", 1)
    finally:
        os.umask(users_own)  # agents write the user's files: theirs are readable as the user's own would be
    _scrub(env)
    try:
        return _run(own, env, idle_seconds, level)
    finally:
        own.release()


def _complain(text: str, code: int) -> int:
    sys.stderr.write(text + "\n")
    return code


def _idle_seconds(option: float | None, env: Mapping[str, str]) -> float:
    """After how long without work and visitors it ends; with a port never by default: TCP clients start no daemon."""
    text = env.get(IDLE_EXIT)
    usual = 0.0 if env.get(HTTP_PORT) else IDLE_EXIT_SECONDS
    try:
        seconds = option if option is not None else float(text) if text else usual
    except ValueError:
        seconds = -1
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"fleet daemon: {IDLE_EXIT}={text!r} is not a number of seconds (0: never)")
    return seconds


def _log_level(env: Mapping[str, str]) -> str:
    level = (env.get(LOG_LEVEL) or LOG_LEVELS[1]).upper()
    if level not in LOG_LEVELS:
        raise ValueError(f"fleet daemon: {LOG_LEVEL}={env[LOG_LEVEL]!r} is none of {', '.join(LOG_LEVELS)}")
    return level


def _scrub(env: Mapping[str, str]) -> None:
    """Leave only places and settings in this process's environment: nothing of it may reach an agent by accident."""
    for name in env:
        if name not in _KEPT and not name.startswith(_KEPT_PREFIXES):
            del os.environ[name]


def take(state: Path) -> Own:
    """Return the ownership of this state directory, its sockets bound (mode 0600) and listening.

    A daemon that is about to end is waited for, up to 10 s.

    Raises:
        RunningError: another daemon holds it; the text names its pid.
        OSError: the lock or a socket cannot be made.
    """
    lock = _lock(state)
    try:
        listeners = {name: _bind(paths.socket_path(state, name)) for name in _SOCKETS}
    except BaseException:
        os.close(lock)
        raise
    inodes = {name: _inode(paths.socket_path(state, name)) for name in _SOCKETS}
    own = Own(state, lock, paths.build(), listeners, inodes)
    own.mark(stopping=False)
    return own


def _lock(state: Path) -> int:
    path = paths.lock_path(state)
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _flock(lock, state)
        except BaseException:
            os.close(lock)
            raise
        if _inode(path) == os.fstat(lock).st_ino:  # else somebody replaced the file in between
            return lock
        os.close(lock)


def _flock(lock: int, state: Path) -> None:
    with suppress(BlockingIOError):
        return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    holder = _holder(lock)
    if holder.get("stopping"):
        with suppress(TimeoutError), _alarm(_PREDECESSOR_SECONDS):
            return fcntl.flock(lock, fcntl.LOCK_EX)
    pid = holder.get("pid", "unknown")
    raise RunningError(f"fleet daemon: pid {pid} already serves {state}; end it with: fleet down")


def _holder(lock: int) -> dict[str, object]:
    try:
        found: object = json.loads(os.pread(lock, 1000, 0))
    except ValueError:
        return {}
    return dict(found) if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownArgumentType] - JSON keys are text


@contextmanager
def _alarm(seconds: float) -> Generator[None]:
    """Raise TimeoutError in the block after so long: a lock can be waited for, but not with a limit."""

    def ring(_signal: int, _frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _bind(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)  # we hold the lock, so whoever left it is dead
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return -1


def _run(own: Own, env: Mapping[str, str], idle_seconds: float, level: str) -> int:
    import asyncio  # from here on only what comes after the sockets

    from orchestrator import log
    from orchestrator.errors import FleetError

    log.open_log(paths.log_path(own.state), level=level)
    logger = log.logger(__name__)
    logger.info("daemon started", pid=os.getpid(), build=own.build, state=str(own.state), idle_exit=idle_seconds)
    try:
        asyncio.run(_live(own, env, idle_seconds))
    except FleetError as error:  # the database or a setting cannot be used: one line says so, and the door shows it
        logger.error("daemon cannot serve", error=str(error))  # noqa: TRY400 - a mistake of the user needs no traceback
        return _complain(f"fleet daemon: {error}", 1)
    except Exception:
        logger.exception("daemon broke")
        raise
    logger.info("daemon ended", pid=os.getpid())
    return 0


class _End:
    """The daemon's end: whether it has come, and why."""

    def __init__(self) -> None:
        import asyncio

        self._event = asyncio.Event()
        self.why = ""

    def come(self, why: str) -> None:
        """Let it come; the first reason stays."""
        if not self._event.is_set():
            self.why = why
            self._event.set()

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait for it, at most so long; tell whether it has come."""
        import asyncio

        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        return self._event.is_set()


@dataclass(frozen=True)
class _Served:
    """What the end is waited for with: who may come, and what is under way."""

    own: Own
    end: _End
    calls: Calls
    doors: Doors
    busy: Callable[[], Awaitable[Mapping[str, int]]]
    listeners: Sequence[socket.socket]
    idle_seconds: float


async def _live(own: Own, env: Mapping[str, str], idle_seconds: float) -> None:
    import asyncio

    from orchestrator.app import open_fleet
    from orchestrator.server import serving

    end = _End()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end.come, signal.Signals(number).name)
    with serving.port(own.state, env) as port:
        address = "" if port is None else port.address
        async with open_fleet(own.state, env, http=address) as fleet:
            await _serve(own, fleet, port, end, idle_seconds)


async def _serve(own: Own, fleet: Fleet, port: Loopback | None, end: _End, idle_seconds: float) -> None:
    """Serve the fleet on every door until the end comes, and take leave of whoever is there."""
    import asyncio

    from orchestrator import log
    from orchestrator.server import serving
    from orchestrator.server.calls import Calls
    from orchestrator.server.http import api as http_api
    from orchestrator.server.mcp import streamable

    logger, calls, log_file = log.logger(__name__), Calls(), str(paths.log_path(own.state))
    table = serving.table(fleet, calls, log_file)
    doors = _doors(own, table, calls, fleet)
    sessions = streamable.sessions(table)
    api = http_api.Api(fleet, calls, partial(end.come, "asked to over HTTP"), log_file)
    async with sessions.run():
        application = http_api.app(api, streamable.route(sessions.handle_request, api.greet))
        webs = serving.webs(own.listeners["http.sock"], port, application)
        tasks = [asyncio.create_task(web.serve(sockets=[listener])) for web, listener in webs]
        doors.accept()
        logger.info("daemon serves", pid=os.getpid())
        listeners = [own.listeners["mcp.sock"], *(listener for _, listener in webs)]
        await _until_the_end(_Served(own, end, calls, doors, fleet.busy, listeners, idle_seconds))
        logger.info("daemon ends", why=end.why)
        own.step_aside()
        for web, _ in webs:
            web.should_exit = True
        await doors.aclose()
        await calls.settle(_SETTLE_SECONDS)
        await serving.farewell(webs, tasks)


def _doors(own: Own, table: Server[Any], calls: Calls, fleet: Fleet) -> Doors:
    from orchestrator.server import serving
    from orchestrator.server.mcp.doors import Doors
    from orchestrator.supervision import peers

    return Doors(
        own.listeners["mcp.sock"],
        table,
        build=own.build,
        calls=calls,
        greet=fleet.greet,
        waits=serving.waits(fleet),
        refuse=peers.refusal,
    )


async def _until_the_end(served: _Served) -> None:
    """Return when the end has come: asked for, something lost, or idle long enough."""
    idle, calls = served.idle_seconds, served.calls
    step = min(_LOOK_SECONDS, idle / 4) if idle else _LOOK_SECONDS
    while not await served.end.wait(step):
        if lost := served.own.lost():
            served.end.come(lost)
        elif idle and calls.quiet_seconds() >= idle and not any((await served.busy()).values()):
            await _retire(served)


async def _retire(served: _Served) -> None:
    """End an idle daemon without a race: first nobody can reach it any more, then it looks once more who did."""
    served.doors.pause()
    served.own.step_aside()
    is_busy = any((await served.busy()).values())
    waiting, _, _ = select.select(list(served.listeners), [], [], 0)
    if is_busy or waiting or served.calls.quiet_seconds() < served.idle_seconds:
        served.own.step_aside(back=True)
        served.doors.accept()
    else:
        served.end.come(f"idle for {served.idle_seconds:g} s")
