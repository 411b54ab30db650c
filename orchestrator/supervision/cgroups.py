"""A cgroup per session, where one is delegated to this user: the kernel kills everything in it at once."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
JOIN_SCRIPT = (
    'PATH=/usr/bin:/bin; mkdir -p "$0/$1" && echo $$ > "$0/$1/cgroup.procs" && shift && exec "$@"; '
    'echo "fleet: cannot join the cgroup $0/$1" >&2; exit 126'
)
"""script for `sh -c`: enters the named cgroup below the delegated one, then execs the program"""
JOIN_SECONDS = 1.0
"""how long a launcher may take to join; a shell takes milliseconds, systemd tens of milliseconds"""
_EMPTY_SECONDS = 2.0
_PAUSE_SECONDS = 0.005
_KILL = "cgroup.kill"


def unit_name(marker: str) -> str:
    """The name of a session's cgroup; systemd appends `.scope`."""
    return f"fleet-{marker}"


def delegated_cgroup(mount: Path = MOUNT) -> Path | None:
    """The cgroup of this process, if it can create child cgroups that the kernel can kill (Linux 5.14); else None."""
    own_cgroup = _path_of("self")
    if own_cgroup is None or not (mount / "cgroup.controllers").exists():
        return None
    cgroup = mount / own_cgroup.lstrip("/")
    if not os.access(cgroup / "cgroup.procs", os.W_OK):
        return None
    probe_cgroup = cgroup / f"fleet-probe-{os.getpid()}"
    try:
        probe_cgroup.mkdir()
    except OSError:
        return None
    can_kill = os.access(probe_cgroup / _KILL, os.W_OK)
    probe_cgroup.rmdir()
    return cgroup if can_kill else None


def cgroup_of(pid: int, mount: Path = MOUNT) -> str:
    """The directory of the cgroup that this process is in; '' outside of the unified hierarchy."""
    own_cgroup = _path_of(str(pid))
    return (
        str(mount / own_cgroup.lstrip("/"))
        if own_cgroup is not None and (mount / "cgroup.controllers").exists()
        else ""
    )


async def wait_joined(pid: int, marker: str, mount: Path = MOUNT, seconds: float = JOIN_SECONDS) -> str:
    """The directory of the session's own cgroup, once its first process has joined it; never another cgroup.

    A process starts in the cgroup of its parent, the daemon. '' if the process has ended, does not join in time, or is
    outside of the unified hierarchy.
    """
    deadline = time.monotonic() + seconds
    while (path := cgroup_of(pid, mount)) and Path(path).name not in {unit_name(marker), f"{unit_name(marker)}.scope"}:
        if time.monotonic() >= deadline:
            return ""
        await asyncio.sleep(_PAUSE_SECONDS)
    return path


def kill(cgroup: Path, mount: Path = MOUNT) -> None:
    """Kill everything in the cgroup and remove it, waiting up to 2 s; do nothing if it does not exist.

    Never kills the caller: the caller's own cgroup and its ancestors stay untouched, whatever was recorded.
    """
    own_cgroup = _path_of("self")
    if own_cgroup is None or (mount / own_cgroup.lstrip("/")).is_relative_to(cgroup):
        return
    deadline = time.monotonic() + _EMPTY_SECONDS
    with suppress(OSError):
        (cgroup / _KILL).write_text("1")
    while cgroup.exists() and time.monotonic() < deadline:
        try:
            cgroup.rmdir()
        except OSError:
            time.sleep(_PAUSE_SECONDS)  # the killed processes have not exited yet


def _path_of(pid: str) -> str | None:
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
