"""`fleet daemon`: the one process that serves a fleet, from its start to an orderly or idle exit.

It binds its sockets before its heavy imports: a door that started it connects at once; its lines wait in the kernel.
"""

from __future__ import annotations

import argparse
import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator import paths
from orchestrator.ownership import Ownership, RunningError, take

if TYPE_CHECKING:
    from mcp.server import Server

    from orchestrator.fleet.fleet import Fleet
    from orchestrator.server.calls import Calls
    from orchestrator.server.http.loopback import Loopback
    from orchestrator.server.mcp.doors import Doors

IDLE_EXIT = "FLEET_IDLE_EXIT_SECONDS"

EXIT_USAGE, EXIT_RUNNING = 2, 3

_LOOK_SECONDS = 2.0
_SETTLE_SECONDS = 2.0
_KEPT = frozenset({"HOME", "LANG", "LOGNAME", "PATH", "PYTHONPATH", "SHELL", "TMPDIR", "TZ", "USER"})
_KEPT_PREFIXES = ("AGENT_", "FLEET_", "LC_", "XDG_")
_PYDANTIC_PLUGINS = "PYDANTIC_DISABLE_PLUGINS"
"""without it pydantic searches every installed distribution for plugins, which takes 60 ms of a start"""


def main(argv: Sequence[str]) -> int:
    """Run the daemon in the foreground until it is told to exit or is idle long enough; return its exit code."""
    env = dict(os.environ)
    parser = argparse.ArgumentParser(prog="fleet daemon", description="Run the fleet's daemon in the foreground.")
    parser.add_argument(
        "--idle-exit",
        metavar="SECONDS",
        help=f"exit after so long without work, questions or connections; 0: never (default: {IDLE_EXIT})",
    )
    options = parser.parse_args(argv)
    users_own = os.umask(0o077)
    try:
        own = take(paths.state_dir(env))
    except RunningError as error:
        return _complain(str(error), EXIT_RUNNING)
    except (paths.StateError, OSError) as error:
        return _complain(f"fleet daemon: {error}", 1)
    finally:
        os.umask(users_own)  # agents write the user's files: theirs are readable as the user's own would be
    _scrub(env)
    try:
        return _run(own, env if options.idle_exit is None else {**env, IDLE_EXIT: options.idle_exit})
    finally:
        own.release()


def _complain(text: str, code: int) -> int:
    sys.stderr.write(text + "\n")
    return code


def _scrub(env: Mapping[str, str]) -> None:
    """Leave only places and settings in this process's environment: nothing of it may reach an agent by accident."""
    for name in env:
        if name not in _KEPT and not name.startswith(_KEPT_PREFIXES):
            del os.environ[name]


def _run(own: Ownership, env: Mapping[str, str]) -> int:
    gc.disable()  # until all is imported: collecting meanwhile frees nothing and takes a sixth of the start (measured)
    os.environ[_PYDANTIC_PLUGINS] = "__all__"
    import asyncio  # from here on only what comes after the sockets

    from orchestrator import log
    from orchestrator.errors import FleetError, InvalidError
    from orchestrator.settings import read_settings

    try:
        settings = read_settings(env)
    except InvalidError as error:
        return _complain(f"fleet daemon: {error}", EXIT_USAGE)
    idle_seconds = settings.idle_seconds
    log.open_log(paths.log_path(own.state), level=settings.log_level)
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


class Shutdown:
    """Whether the daemon is to exit, and why."""

    def __init__(self) -> None:
        import asyncio

        self._event = asyncio.Event()
        self.why = ""

    def come(self, why: str) -> None:
        """Ask for it; the first reason stays."""
        if not self._event.is_set():
            self.why = why
            self._event.set()

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait until it was asked for, at most so long; return whether it was."""
        import asyncio

        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        return self._event.is_set()


@dataclass(frozen=True)
class _Served:
    """What `_until_the_end` watches: connections, calls and work under way."""

    own: Ownership
    end: Shutdown
    calls: Calls
    doors: Doors
    busy: Callable[[], Awaitable[Mapping[str, int]]]
    listeners: Sequence[socket.socket]
    idle_seconds: float


async def _live(own: Ownership, env: Mapping[str, str], idle_seconds: float) -> None:
    import asyncio

    from orchestrator.app import open_fleet
    from orchestrator.server import serving
    from orchestrator.server.http import api
    from orchestrator.server.mcp import streamable

    del api, streamable  # the rest of what `_serve` imports
    gc.freeze()
    gc.enable()
    end = Shutdown()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end.come, signal.Signals(number).name)
    with serving.port(own.state, env) as port:
        address = "" if port is None else port.address
        async with open_fleet(own.state, env, http=address) as fleet:
            await _serve(own, fleet, port, end, idle_seconds)


async def _serve(own: Ownership, fleet: Fleet, port: Loopback | None, end: Shutdown, idle_seconds: float) -> None:
    """Serve the fleet on every door until the daemon is to exit, then answer and close what is open."""
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
        application = http_api.app(api, streamable.route(sessions.handle_request))
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


def _doors(own: Ownership, table: Server[Any], calls: Calls, fleet: Fleet) -> Doors:
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
    """Return when the daemon is to exit: asked to, its lock or a socket lost, or idle long enough."""
    idle, calls = served.idle_seconds, served.calls
    step = min(_LOOK_SECONDS, idle / 4) if idle else _LOOK_SECONDS
    while not await served.end.wait(step):
        if lost := served.own.lost():
            served.end.come(lost)
        elif idle and calls.quiet_seconds() >= idle and not any((await served.busy()).values()):
            await _retire(served)


async def _retire(served: _Served) -> None:
    """Exit when idle, without a race: close the way in first, then look once more whether somebody came."""
    served.doors.pause()
    served.own.step_aside()
    is_busy = any((await served.busy()).values())
    waiting, _, _ = select.select(list(served.listeners), [], [], 0)
    if is_busy or waiting or served.calls.quiet_seconds() < served.idle_seconds:
        served.own.step_aside(back=True)
        served.doors.accept()
    else:
        served.end.come(f"idle for {served.idle_seconds:g} s")
