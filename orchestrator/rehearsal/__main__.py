"""`python -m orchestrator.rehearsal SCRIPT.yaml`: play a script on a loopback port until told to end."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path

import uvicorn

from .script import Loaded, ScriptError, load
from .server import Log, Protocol, build

MEMORY_BYTES = 2 * 1024**3
"""Address space that this process may use: the last bound on what a template can produce."""
BACKLOG = 1024


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to `_serve`, so a signal ends it with exit code 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def main(argv: list[str] | None = None) -> int:
    """Play the script named in `argv`; returns the exit code (2: the script or an argument is invalid)."""
    options = _options(argv)
    try:
        loaded = load(options.script)
    except ScriptError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a program's own message
        return 2
    _bound_memory()
    try:
        listening = socket.create_server(("127.0.0.1", options.port), backlog=BACKLOG)
    except OSError as error:
        print(f"port {options.port}: {error.strerror}; take another one, or 0 for any", file=sys.stderr)  # noqa: T201 - a program's own message
        return 2
    with listening:
        asyncio.run(_serve(loaded, options, listening))
    return 0


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="rehearsal", description="Play a rehearsal script as a model endpoint on 127.0.0.1."
    )
    parser.add_argument("script", type=Path, help="the script (YAML)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one")
    parser.add_argument("--port-file", type=Path, help="file to write the port to")
    parser.add_argument("--log", type=Path, help="file to append one JSON line per request to")
    parser.add_argument("--key", help="the only key that is accepted; without it every key is")
    parser.add_argument("--with-stdin", action="store_true", help="end when standard input ends")
    return parser.parse_args(argv)


def _bound_memory() -> None:
    """Limit the address space where the system supports it (Linux)."""
    if sys.platform.startswith("linux"):
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


async def _serve(loaded: Loaded, options: argparse.Namespace, listening: socket.socket) -> None:
    config = uvicorn.Config(
        build(loaded, Log(options.log), options.key),
        http=Protocol,
        ws="none",
        lifespan="off",
        log_level="critical",
        access_log=False,
        timeout_keep_alive=120,
        timeout_graceful_shutdown=0,
        h11_max_incomplete_event_size=1024 * 1024,
    )
    server = _Server(config)

    def stop() -> None:
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    if options.with_stdin:
        threading.Thread(target=_read_to_end, args=(loop, stop), daemon=True).start()
    _announce(listening.getsockname()[1], options.port_file)
    await server.serve(sockets=[listening])


def _read_to_end(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 65536):
            pass
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(stop)


def _announce(port: int, port_file: Path | None) -> None:
    """Announce where it listens: a line on standard output, and the port in `port_file`, written atomically."""
    if port_file is not None:
        partial = port_file.with_name(f"{port_file.name}.{os.getpid()}")
        partial.write_text(f"{port}\n", encoding="utf-8")
        partial.replace(port_file)
    print(json.dumps({"port": port, "pid": os.getpid()}), flush=True)  # noqa: T201 - the program's output


if __name__ == "__main__":
    sys.exit(main())
