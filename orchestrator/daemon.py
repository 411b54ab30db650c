"""`fleet daemon`: the one process that serves a fleet, until it is told to exit or has been idle long enough.

It binds its sockets before its heavy imports, so the door that started it can connect at once; what the door sends
waits in the kernel.
"""

from __future__ import annotations

import argparse
import gc
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, cast

from orchestrator import pass_env, paths
from orchestrator.domain.duration import format_duration
from orchestrator.ownership import Ownership, RunningError, acquire
from orchestrator.supervision import shim

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    from orchestrator.fleet.fleet import Fleet
    from orchestrator.server.calls import Calls
    from orchestrator.server.http.loopback import Loopback
    from orchestrator.server.mcp.doors import DoorBackend, Doors
    from orchestrator.settings import Settings

IDLE_EXIT = "FLEET_IDLE_EXIT_SECONDS"

EXIT_USAGE, EXIT_RUNNING = 2, 3

_CHECK_SECONDS = 2.0
_SETTLE_SECONDS = 2.0
_ACCOUNT_SECONDS = 0.2
"""how long a daemon with unfinished turns waits for the first door, which may bring the account that they need"""
_START_SECONDS = 1.0
"""about how long it lets the programs of those turns start before it imports what answers calls"""
_PYDANTIC_PLUGINS = "PYDANTIC_DISABLE_PLUGINS"
"""disables a search of every installed distribution for pydantic plugins, which costs 60 ms at start-up"""


def main(argv: Sequence[str]) -> int:
    """Run the daemon in the foreground until it is told to exit or is idle long enough; return its exit code."""
    env = dict(os.environ)
    parser = argparse.ArgumentParser(prog="fleet daemon", description="Run the fleet's daemon in the foreground.")
    parser.add_argument(
        "--idle-exit",
        metavar="SECONDS",
        help=f"exit after this long without work, questions or connections; 0: never (default: {IDLE_EXIT})",
    )
    options = parser.parse_args(argv)
    user_umask = os.umask(0o077)
    try:
        ownership = acquire(paths.state_dir(env))
    except RunningError as error:
        return _fail(str(error), EXIT_RUNNING)
    except (paths.StateError, OSError) as error:
        return _fail(f"fleet daemon: {error}", 1)
    shim.make_opaque()  # it will hold the keys of accounts, and in tiers B and C agents see its process
    _scrub_environment(env)
    os.environ[pass_env.UMASK] = f"{user_umask:04o}"  # for agents whose creator sent none: they write the user's files
    try:
        return _run(ownership, env if options.idle_exit is None else {**env, IDLE_EXIT: options.idle_exit})
    finally:
        ownership.release()


def _fail(text: str, code: int) -> int:
    sys.stderr.write(text + "\n")
    return code


def _scrub_environment(env: Mapping[str, str]) -> None:
    """Keep only paths and settings in this process's environment, so that no secret in it can reach an agent."""
    for name in env:
        if name != paths.PYTHON_PATH and not paths.is_for_daemon(name):
            del os.environ[name]


@contextmanager
def _hidden(name: str) -> Generator[None]:
    """Make this module appear missing to imports inside the block.

    Without rich, which it would only use for tracebacks on a terminal, structlog saves 30 ms at start-up.
    """
    hidden = name not in sys.modules
    if hidden:
        sys.modules[name] = cast("ModuleType", None)  # as Python documents it
    try:
        yield
    finally:
        if hidden:
            del sys.modules[name]


def _run(ownership: Ownership, env: Mapping[str, str]) -> int:
    gc.disable()  # during the imports: collecting frees nothing then and takes a sixth of the start-up time (measured)
    os.environ[_PYDANTIC_PLUGINS] = "__all__"
    import asyncio  # heavy imports come after the sockets

    with _hidden("rich"):
        from orchestrator import log
    from orchestrator.errors import FleetError, InvalidError
    from orchestrator.settings import read_settings

    try:
        settings = read_settings(env)
    except InvalidError as error:
        return _fail(f"fleet daemon: {error}", EXIT_USAGE)
    log.open_log(paths.log_path(ownership.state), level=settings.log_level)
    logger = log.logger(__name__)
    logger.info(
        "daemon started",
        pid=os.getpid(),
        build=ownership.build,
        state=str(ownership.state),
        idle_exit=settings.idle_seconds,
    )
    try:
        asyncio.run(_run_async(ownership, settings, env.get("PATH")))
    except FleetError as error:  # a bad setting or an unusable database: one line says so, and the door shows it
        logger.error("daemon cannot serve", error=str(error))  # noqa: TRY400 - a mistake of the user needs no traceback
        return _fail(f"fleet daemon: {error}", 1)
    except Exception:
        logger.exception("daemon broke")
        raise
    logger.info("daemon ended", pid=os.getpid())
    return 0


class Shutdown:
    """The request to exit, and its reason."""

    def __init__(self) -> None:
        import asyncio

        self._event = asyncio.Event()
        self.why = ""

    def request(self, why: str) -> None:
        """Request the exit; the first reason is kept."""
        if not self._event.is_set():
            self.why = why
            self._event.set()

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait for the request, at most this long; return whether it was made."""
        import asyncio

        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        return self._event.is_set()


@dataclass(frozen=True)
class _Serving:
    """What `_wait_for_shutdown` watches: sockets, connections, calls and running work."""

    ownership: Ownership
    shutdown: Shutdown
    calls: Calls
    doors: Doors
    busy: Callable[[], Awaitable[Mapping[str, int]]]
    listeners: Sequence[socket.socket]
    idle_seconds: float


async def _run_async(ownership: Ownership, settings: Settings, search_path: str | None) -> None:
    import asyncio

    from orchestrator.app import open_fleet
    from orchestrator.server.http import loopback

    asyncio.get_running_loop().set_default_executor(_started_threads())
    shutdown = Shutdown()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, shutdown.request, signal.Signals(number).name)
    with loopback.bound(ownership.state, settings.http_port) as port:
        address = "" if port is None else port.address
        async with open_fleet(ownership.state, settings, search_path=search_path, http=address) as fleet:
            await _serve(ownership, fleet, port, shutdown, settings.idle_seconds)


def _started_threads() -> ThreadPoolExecutor:
    """The pool for blocking calls, with all threads that can be had now: later, an agent may have used them up."""
    from concurrent.futures import ThreadPoolExecutor

    count = min(32, (os.cpu_count() or 1) + 4)  # as many as asyncio would start, one by one
    threads, all_started = ThreadPoolExecutor(count, "asyncio"), threading.Event()
    with suppress(RuntimeError):  # no thread is left: the pool starts the others once it can
        for _ in range(count):
            threads.submit(all_started.wait)  # one that is free would be used again
    all_started.set()
    return threads


async def _serve(
    ownership: Ownership, fleet: Fleet, port: Loopback | None, shutdown: Shutdown, idle_seconds: float
) -> None:
    """Serve the fleet on every door until shutdown, then answer open calls and close the connections.

    Doors are accepted before MCP and the HTTP API are imported: a resumed turn may wait for the account of its door.
    """
    import asyncio

    from orchestrator import log
    from orchestrator.server.calls import Calls

    logger, calls, log_file = log.logger(__name__), Calls(), str(paths.log_path(ownership.state))
    backend: asyncio.Future[DoorBackend] = asyncio.get_running_loop().create_future()
    doors = _doors(ownership, backend, calls, fleet)
    doors.accept()
    await _let_turns_start(fleet, doors)

    from orchestrator.server import serving
    from orchestrator.server.http import api as http_api
    from orchestrator.server.mcp import streamable

    table = serving.table(fleet, calls, log_file)
    backend.set_result(serving.door_backend(table, fleet))
    sessions = streamable.sessions(table)
    api = http_api.Api(fleet, calls, partial(shutdown.request, "asked to over HTTP"), log_file)
    async with sessions.run():
        application = http_api.app(api, streamable.route(sessions.handle_request))
        webs = serving.webs(ownership.listeners["http.sock"], port, application)
        tasks = [asyncio.create_task(web.serve(sockets=[listener])) for web, listener in webs]
        logger.info("daemon serves", pid=os.getpid())
        await _warm_up(fleet)
        listeners = [ownership.listeners["mcp.sock"], *(listener for _, listener in webs)]
        await _wait_for_shutdown(_Serving(ownership, shutdown, calls, doors, fleet.busy, listeners, idle_seconds))
        logger.info("daemon ends", why=shutdown.why)
        ownership.step_aside()
        for web, _ in webs:
            web.should_exit = True
        await doors.aclose()
        await calls.settle(_SETTLE_SECONDS)
        await serving.farewell(webs, tasks)


async def _warm_up(fleet: Fleet) -> None:
    """Read one status, so that no caller waits for its statements to be compiled; then let Python collect garbage."""
    from orchestrator import log
    from orchestrator.server.mcp.text import MAX_AGENT_LINES

    try:
        await fleet.warm_up(MAX_AGENT_LINES)
    except Exception:  # noqa: BLE001 - the daemon can serve without it, and the first caller sees the error
        log.logger(__name__).exception("warm-up failed")
    gc.freeze()  # collections skip all that is loaded: they paused the daemon for 45 ms (measured)
    gc.enable()


async def _let_turns_start(fleet: Fleet, doors: Doors) -> None:
    """Give the programs of a former daemon's turns a moment to start: the imports that follow block the event loop."""
    if any((await fleet.busy()).values()):
        await doors.wait_greeted(_ACCOUNT_SECONDS)
        await fleet.wait_started(_START_SECONDS)


def _doors(ownership: Ownership, backend: asyncio.Future[DoorBackend], calls: Calls, fleet: Fleet) -> Doors:
    from orchestrator.server.mcp.doors import Doors
    from orchestrator.supervision import peers

    return Doors(
        ownership.listeners["mcp.sock"],
        backend,
        build=ownership.build,
        calls=calls,
        greet=fleet.greet,
        refuse=peers.refusal,
    )


async def _wait_for_shutdown(served: _Serving) -> None:
    """Return when the daemon should exit: on request, after losing its lock or a socket, or when idle long enough."""
    idle, calls = served.idle_seconds, served.calls
    step = min(_CHECK_SECONDS, idle / 4) if idle else _CHECK_SECONDS
    while not await served.shutdown.wait(step):
        if lost := served.ownership.lost():
            served.ownership.leave_note()
            served.shutdown.request(lost)
        elif idle and calls.quiet_seconds() >= idle and not any((await served.busy()).values()):
            await _exit_if_still_idle(served)


async def _exit_if_still_idle(served: _Serving) -> None:
    """Exit when idle, without a race: first stop accepting connections, then check once more for new ones."""
    served.doors.pause()
    served.ownership.step_aside()
    is_busy = any((await served.busy()).values())
    waiting, _, _ = select.select(list(served.listeners), [], [], 0)
    if is_busy or waiting or served.calls.quiet_seconds() < served.idle_seconds:
        served.ownership.step_aside(back=True)
        served.doors.accept()
    else:
        served.shutdown.request(f"idle for {format_duration(served.idle_seconds)}")
