"""Kills what is left of a session whose shim is gone: by process id *and* start time, never by name.

A process id alone proves nothing, because it may have been reused. A session's processes are its first one (known by
id and start time), the descendants of that, and all processes with the session's marker, a random word, in their
environment. Each is killed through a pidfd, which cannot be reused. Without /proc (macOS) nothing is found or killed.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.supervision import cgroups
from orchestrator.supervision.tiers import MARKER

REAP_SECONDS = 8.0
"""the longest time that one call of `reap` takes"""
SIGTERM_SECONDS = 2.0
"""how long a living shim has to end its own processes; only the shim reaches those without a marker"""
_EMPTY_ROUNDS = 3
_WALKS = 5
_PAUSE_SECONDS = 0.005
_DEAD = frozenset("ZXx")


@dataclass(frozen=True, kw_only=True)
class ProcessIdentity:
    """What identifies the processes of a session; unknown parts are None or ''."""

    pid: int | None = None
    start_time: str = ""
    marker: str = ""
    cgroup: str = ""


@dataclass(frozen=True)
class _Process:
    """A living process as /proc shows it; `start_time` is in clock ticks since boot."""

    pid: int
    parent: int
    start_time: str


def pid_scope() -> str:
    """The scope in which process ids are unique: this boot and this pid namespace; '' without /proc."""
    try:
        identity = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{identity} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def start_time(pid: int, *, parent: int) -> str:
    """When this child of `parent` started; '' if it has ended, because its id may have been reused."""
    process = _process(pid)
    return process.start_time if process and process.parent == parent else ""


def is_alive(pid: int) -> bool:
    """Whether a process with this id runs; a zombie does not."""
    return _process(pid) is not None


def is_descendant(pid: int, ancestor: int) -> bool | None:
    """Whether the process descends from `ancestor`; None if unknown, because it or one in between has ended.

    A process that loses its parent during the walk gets a new one, so the walk starts again, but only a few times: a
    process must not escape the answer by starting and ending others.
    """
    for _ in range(_WALKS):
        verdict = _walk_up(pid, ancestor)
        if verdict is not None:
            return verdict
    return None


def _walk_up(pid: int, ancestor: int) -> bool | None:
    """One walk from parent to parent; None if a process on the way was not visible."""
    process = _process(pid)
    while process is not None and process.parent != ancestor:
        if process.parent <= 1:
            return False
        process = _process(process.parent)
    return None if process is None else True


def reap(identities: Iterable[ProcessIdentity], seconds: float = REAP_SECONDS) -> int:
    """Kill everything that is left of these sessions; return how many processes were killed.

    Blocks until nothing is left or the time is up. Never kills a process that reused an id.
    """
    identities = list(identities)
    for identity in identities:
        if identity.cgroup:
            cgroups.kill(Path(identity.cgroup))
    markers = [f"{MARKER}={identity.marker}".encode() for identity in identities if identity.marker]
    rounds = _KillRounds(identities, markers)
    deadline, empty_rounds = time.monotonic() + seconds, 0
    sigterm_deadline = time.monotonic() + min(SIGTERM_SECONDS, seconds / 2)
    while empty_rounds < _EMPTY_ROUNDS and time.monotonic() < deadline:
        empty_rounds = 0 if rounds.run(terminate_roots=time.monotonic() < sigterm_deadline) else empty_rounds + 1
        time.sleep(_PAUSE_SECONDS)
    return len(rounds.killed)


class _KillRounds:
    """Scans and kills in rounds, because processes may fork between a scan and its kills."""

    def __init__(self, identities: Sequence[ProcessIdentity], markers: Sequence[bytes]) -> None:
        self._roots = {
            identity.pid: identity.start_time for identity in identities if identity.pid and identity.start_time
        }
        self._markers = markers
        self._terminated: set[int] = set()
        self.killed: set[tuple[int, str]] = set()

    def run(self, *, terminate_roots: bool) -> bool:
        """Scan once and kill what is found; return whether anything was. With `terminate_roots` roots get SIGTERM."""
        processes = _process_table()
        roots = {pid for pid, ticks in self._roots.items() if pid in processes and processes[pid].start_time == ticks}
        marked = {pid for pid in processes if self._markers and self._has_marker(pid)}
        descendants = _descendants(processes, roots | marked)
        for pid in (descendants | marked) - roots:
            self._kill(processes[pid], signal.SIGKILL)
        for pid in roots:
            if not terminate_roots:
                self._kill(processes[pid], signal.SIGKILL)
            elif pid not in self._terminated:
                self._terminated.add(pid)
                self._kill(processes[pid], signal.SIGTERM)
        return bool(roots or marked or descendants)

    def _has_marker(self, pid: int) -> bool:
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False
        return any(marker in variables for marker in self._markers)

    def _kill(self, process: _Process, signal_number: int) -> None:
        with suppress(OSError):
            pidfd = os.pidfd_open(process.pid)
            try:
                now = _process(process.pid)
                if now is not None and now.start_time == process.start_time:
                    signal.pidfd_send_signal(pidfd, signal_number)
                    self.killed.add((process.pid, process.start_time))
            finally:
                os.close(pidfd)


def _descendants(processes: dict[int, _Process], roots: set[int]) -> set[int]:
    """All descendants of the roots."""
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: set[int] = set()
    pending = list(roots)
    while pending:
        new_pids = [pid for pid in children.get(pending.pop(), []) if pid not in found]
        found.update(new_pids)
        pending += new_pids
    return found - {os.getpid()}


def _process_table() -> dict[int, _Process]:
    """Every living process."""
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - names only, and there are hundreds
    except OSError:
        return {}
    found = [_process(int(name)) for name in names if name.isdigit()]
    return {process.pid: process for process in found if process is not None}


def _process(pid: int) -> _Process | None:
    """The living process with this id; None if it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, parent, *rest = text.rpartition(")")[2].split()
    return None if state in _DEAD else _Process(pid, int(parent), rest[17])
