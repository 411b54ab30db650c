"""The commands that start and stop the daemon (up, down), and version."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.options import AsJson, connected, own_target
from orchestrator.cli.render import output
from orchestrator.domain.duration import format_duration
from orchestrator.errors import ConflictError, StoreError, TimeoutReachedError

HTTP_PORT = "FLEET_HTTP_PORT"
_DOWN_SECONDS = 60.0
_LOOK_SECONDS = 0.02


def up(
    http: Annotated[
        int | None,
        typer.Option(
            "--http",
            metavar="PORT",
            min=0,
            max=65535,
            show_default=False,
            help="Also serve HTTP on this loopback port (0: any free port).",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start the daemon if it is not running."""
    with connected({} if http is None else {HTTP_PORT: str(http)}) as client:
        health = client.health()
    if health is None:
        raise StoreError("the daemon exited right after it started", hint="fleet doctor shows what is wrong")
    if http is not None and (not health.http or (http and not health.http.endswith(f":{http}"))):
        where = f"at {health.http}" if health.http else "on its unix socket only"
        raise ConflictError(
            f"the daemon is already running, with HTTP {where}", hint="fleet down, then fleet up --http PORT"
        )
    if as_json:
        output.document({"running": True, **health.model_dump(mode="json")})
        return
    print(f"running: pid {health.pid}, build {health.build}, {health.slots} slots, supervision {health.supervision}")
    output.say(f"state: {health.state}\nlog: {health.log}")
    if health.http:
        output.say(f"http: {health.http} (MCP at {health.http}/mcp; the token is in {health.state}/http.token)")


def down(
    interrupt_first: Annotated[
        bool, typer.Option("--interrupt", help="Stop even while agents work; their turns end as interrupted.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Stop the daemon; refuses while agents work.

    Nothing is lost: agents, conversations and results are kept, queued turns start with the next daemon, and an
    interrupted agent continues when you command it.
    """
    from orchestrator.cli.http.client import Client

    with Client(own_target(), start=False) as client:
        state, health = client.target.state, client.health()
        if health is None:
            answer: dict[str, object] = {"was_running": False, "pid": None, "interrupted": 0}
        else:
            answer = {
                "was_running": True,
                **client.send("POST", "/v1/shutdown", body=lambda: {"interrupt": interrupt_first}),
            }
            wait_until_gone(state, health.pid)
    if as_json:
        output.document(answer)
    elif health is None:
        output.say(f"no daemon runs in {state}")
    else:
        interrupted = answer.get("interrupted")
        print(f"stopped: pid {health.pid}" + (f", {interrupted} turns interrupted" if interrupted else ""))


def wait_until_gone(state: Path, pid: int, *, seconds: float = _DOWN_SECONDS) -> None:
    """Return once the daemon has released the lock that it holds for as long as it runs.

    Raises:
        TimeoutReachedError: the lock was not released in time.
    """
    from orchestrator import launch, paths

    pause = threading.Event()
    deadline = time.monotonic() + seconds
    while _is_locked(paths.lock_path(state)):
        if time.monotonic() > deadline:
            raise TimeoutReachedError(
                f"the daemon (pid {pid}) is still running after {format_duration(seconds)}",
                hint=f"read {paths.log_path(state)}; kill -9 {pid} ends it; running turns resume with the next daemon",
            )
        pause.wait(_LOOK_SECONDS)
    launch.reap_daemons()


def _is_locked(lock: Path) -> bool:
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def version(as_json: AsJson = False) -> None:
    """Print version and build."""
    from orchestrator import VERSION, paths

    if as_json:
        output.document({"version": VERSION, "build": paths.build(), "package": str(paths.PACKAGE)})
    else:
        print(f"fleet {VERSION} (build {paths.build()})")
