"""Ends what is left of a session whose supervisor is gone: by process id *and* start time, never by name.

A process id alone proves nothing: it may belong to another program by now. A session's processes are its first one
(known by id and start time), its descendants, and all that carry its marker, a random word, in their environment. Each
is killed through a pidfd, which cannot be reused. Without /proc (macOS), nothing is found and nothing is killed.
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

SECONDS = 8.0
"""the longest time for one sweep"""
POLITE_SECONDS = 2.0
"""how long a living shim has to end its own processes; only it reaches those without a marker"""
_EMPTY_ROUNDS = 3
_WALKS = 5
_PAUSE_SECONDS = 0.005
_DEAD = frozenset("ZXx")


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What identifies a session's processes; unknown parts are None or ''."""

    pid: int | None = None
    started: str = ""
    marker: str = ""
    cgroup: str = ""


@dataclass(frozen=True)
class _Seen:
    """A living process as /proc shows it; `started` is in clock ticks after the boot."""

    pid: int
    parent: int
    started: str


def boot() -> str:
    """The scope of process ids: this boot and this pid namespace; '' where /proc does not tell."""
    try:
        identity = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{identity} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def started(pid: int, *, parent: int) -> str:
    """When this child of `parent` started; '' if it has ended, because its id may be reused."""
    found = _seen(pid)
    return found.started if found and found.parent == parent else ""


def is_below(pid: int, ancestor: int) -> bool | None:
    """Whether the process descends from `ancestor`; None if unknown, because it or one in between has ended.

    A process that lost its parent during the walk has a new one, so the walk starts again, but not forever: making
    processes come and go must gain nothing.
    """
    for _ in range(_WALKS):
        told = _walked(pid, ancestor)
        if told is not None:
            return told
    return None


def _walked(pid: int, ancestor: int) -> bool | None:
    """One walk from parent to parent; None if one was not visible."""
    found = _seen(pid)
    while found is not None and found.parent != ancestor:
        if found.parent <= 1:
            return False
        found = _seen(found.parent)
    return None if found is None else True


def sweep(traces: Iterable[Trace], seconds: float = SECONDS) -> int:
    """End everything left of these sessions; return how many processes were killed.

    Blocks until nothing is left or the time is over. Never kills a process that reused an id.
    """
    traces = list(traces)
    for trace in traces:
        if trace.cgroup:
            cgroups.end(Path(trace.cgroup))
    markers = [f"{MARKER}={trace.marker}".encode() for trace in traces if trace.marker]
    hunt = _Hunt(traces, markers)
    until, empty = time.monotonic() + seconds, 0
    polite = time.monotonic() + min(POLITE_SECONDS, seconds / 2)
    while empty < _EMPTY_ROUNDS and time.monotonic() < until:
        empty = 0 if hunt.round(spare_roots=time.monotonic() < polite) else empty + 1
        time.sleep(_PAUSE_SECONDS)
    return len(hunt.killed)


class _Hunt:
    """Scan and kill in rounds: a moving target needs several."""

    def __init__(self, traces: Sequence[Trace], markers: Sequence[bytes]) -> None:
        self._roots = {trace.pid: trace.started for trace in traces if trace.pid and trace.started}
        self._markers = markers
        self._asked: set[int] = set()
        self.killed: set[tuple[int, str]] = set()

    def round(self, *, spare_roots: bool) -> bool:
        """Scan once and kill what is found; return whether anything was. A spared root is asked to end by itself."""
        table = _table()
        roots = {pid for pid, when in self._roots.items() if pid in table and table[pid].started == when}
        marked = {pid for pid in table if self._markers and self._is_marked(pid)}
        below = _below(table, roots | marked)
        for pid in (below | marked) - roots:
            self._kill(table[pid], signal.SIGKILL)
        for pid in roots:
            if not spare_roots:
                self._kill(table[pid], signal.SIGKILL)
            elif pid not in self._asked:
                self._asked.add(pid)
                self._kill(table[pid], signal.SIGTERM)
        return bool(roots or marked or below)

    def _is_marked(self, pid: int) -> bool:
        try:
            held = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False
        return any(marker in held for marker in self._markers)

    def _kill(self, found: _Seen, number: int) -> None:
        with suppress(OSError):
            handle = os.pidfd_open(found.pid)
            try:
                now = _seen(found.pid)
                if now is not None and now.started == found.started:
                    signal.pidfd_send_signal(handle, number)
                    self.killed.add((found.pid, found.started))
            finally:
                os.close(handle)


def _below(table: dict[int, _Seen], roots: set[int]) -> set[int]:
    """All descendants of the roots."""
    children: dict[int, list[int]] = {}
    for one in table.values():
        children.setdefault(one.parent, []).append(one.pid)
    found: set[int] = set()
    unseen = list(roots)
    while unseen:
        fresh = [pid for pid in children.get(unseen.pop(), []) if pid not in found]
        found.update(fresh)
        unseen += fresh
    return found - {os.getpid()}


def _table() -> dict[int, _Seen]:
    """Every living process."""
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - names only, of which there are hundreds
    except OSError:
        return {}
    found = [_seen(int(name)) for name in names if name.isdigit()]
    return {one.pid: one for one in found if one is not None}


def _seen(pid: int) -> _Seen | None:
    """The process, None if it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, parent, *rest = text.rpartition(")")[2].split()
    return None if state in _DEAD else _Seen(pid, int(parent), rest[17])
