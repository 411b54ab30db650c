"""A session's own cgroup, where one is delegated to this user: the kernel ends all that is in it at once."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
JOIN = (
    'PATH=/usr/bin:/bin; mkdir -p "$0/$1" && echo $$ > "$0/$1/cgroup.procs" && shift && exec "$@"; '
    'echo "fleet: cannot join the cgroup $0/$1" >&2; exit 126'
)
"""for `sh -c`: enter the cgroup of this name below the delegated one, then become the program"""
JOIN_SECONDS = 1.0
"""how long a launcher may take to join; a shell takes milliseconds, systemd some tens"""
_EMPTY_SECONDS = 2.0
_PAUSE_SECONDS = 0.005
_KILL = "cgroup.kill"


def unit(marker: str) -> str:
    """The name of a session's cgroup; systemd appends `.scope`."""
    return f"fleet-{marker}"


def delegated(mount: Path = MOUNT) -> Path | None:
    """The cgroup of this process, if it may make others below it that the kernel can kill (Linux 5.14)."""
    own = _path_of("self")
    if own is None or not (mount / "cgroup.controllers").exists():
        return None
    place = mount / own.lstrip("/")
    if not os.access(place / "cgroup.procs", os.W_OK):
        return None
    probe = place / f"fleet-probe-{os.getpid()}"
    try:
        probe.mkdir()
    except OSError:
        return None
    can_kill = os.access(probe / _KILL, os.W_OK)
    probe.rmdir()
    return place if can_kill else None


def cgroup_of(pid: int, mount: Path = MOUNT) -> str:
    """The directory of the cgroup that this process is in; '' if there is none of the unified kind."""
    own = _path_of(str(pid))
    return str(mount / own.lstrip("/")) if own is not None and (mount / "cgroup.controllers").exists() else ""


async def wait_joined(pid: int, marker: str, mount: Path = MOUNT, seconds: float = JOIN_SECONDS) -> str:
    """The directory of the session's own cgroup once its first process is in it; never that of anybody else.

    A process begins in the cgroup of its starter, the daemon's. '' if it has ended, does not join in time, or if there
    is not a cgroup of the unified hierarchy.
    """
    until = time.monotonic() + seconds
    while (found := cgroup_of(pid, mount)) and Path(found).name not in {unit(marker), f"{unit(marker)}.scope"}:
        if time.monotonic() >= until:
            return ""
        await asyncio.sleep(_PAUSE_SECONDS)
    return found


def end(place: Path, mount: Path = MOUNT) -> None:
    """Kill all that is in the cgroup, and remove it; nothing happens if it is gone. Waits up to 2 s.

    It never kills who calls: nothing happens to the caller's own cgroup, or one above it, whatever is written down.
    """
    own = _path_of("self")
    if own is None or (mount / own.lstrip("/")).is_relative_to(place):
        return
    until = time.monotonic() + _EMPTY_SECONDS
    with suppress(OSError):
        (place / _KILL).write_text("1")
    while place.exists() and time.monotonic() < until:
        try:
            place.rmdir()
        except OSError:
            time.sleep(_PAUSE_SECONDS)  # the dead have not left yet


def _path_of(pid: str) -> str | None:
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
