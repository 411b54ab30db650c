"""A session's own cgroup, where one is delegated to this user: the kernel ends all that is in it at once."""

from __future__ import annotations

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
_EMPTY_SECONDS = 2.0
_KILL = "cgroup.kill"


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


def end(place: Path) -> None:
    """Kill all that is in the cgroup, and remove it; nothing happens if it is gone. Waits up to 2 s."""
    until = time.monotonic() + _EMPTY_SECONDS
    with suppress(OSError):
        (place / _KILL).write_text("1")
    while place.exists() and time.monotonic() < until:
        try:
            place.rmdir()
        except OSError:
            time.sleep(0.005)  # the dead have not left yet


def _path_of(pid: str) -> str | None:
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
