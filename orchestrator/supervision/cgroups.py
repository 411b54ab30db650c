"""A session's own cgroup, where one is delegated to this user: the kernel ends everything in it at once."""

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
"""for `sh -c`: enter the named cgroup below the delegated one, then exec the program"""
JOIN_SECONDS = 1.0
"""how long a launcher may take to join; a shell takes milliseconds, systemd some tens"""
_EMPTY_SECONDS = 2.0
_PAUSE_SECONDS = 0.005
_KILL = "cgroup.kill"


def unit(marker: str) -> str:
    """The name of a session's cgroup; systemd appends `.scope`."""
    return f"fleet-{marker}"


def delegated(mount: Path = MOUNT) -> Path | None:
    """The cgroup of this process, if it may create cgroups below it that the kernel can kill (Linux 5.14)."""
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
    """The directory of the cgroup that this process is in; '' outside of the unified hierarchy."""
    own = _path_of(str(pid))
    return str(mount / own.lstrip("/")) if own is not None and (mount / "cgroup.controllers").exists() else ""


async def wait_joined(pid: int, marker: str, mount: Path = MOUNT, seconds: float = JOIN_SECONDS) -> str:
    """The directory of the session's own cgroup once its first process is in it; never anyone else's.

    A process starts in the cgroup of its parent, the daemon. '' if it has ended, does not join in time, or is outside
    of the unified hierarchy.
    """
    until = time.monotonic() + seconds
    while (found := cgroup_of(pid, mount)) and Path(found).name not in {unit(marker), f"{unit(marker)}.scope"}:
        if time.monotonic() >= until:
            return ""
        await asyncio.sleep(_PAUSE_SECONDS)
    return found


def end(place: Path, mount: Path = MOUNT) -> None:
    """Kill everything in the cgroup and remove it; do nothing if it is gone. Waits up to 2 s.

    It never kills its caller: the caller's own cgroup and those above it stay untouched, whatever was recorded.
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
            time.sleep(_PAUSE_SECONDS)  # the killed processes have not left yet


def _path_of(pid: str) -> str | None:
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
