"""Decides from recorded tool calls whose a changed file is: the turn's own, shared, or somebody else's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from orchestrator.domain.event import TERMINAL, EventKind
from orchestrator.domain.question import DENY
from orchestrator.domain.turn import DAEMON

EARLY_SECONDS = 5.0
"""how long before its event a call may have begun: a busy machine reports late, and a lone agent's own work must not
then seem to be the user's"""
LATE_SECONDS = 1.0
"""how long after the event of its end a call's files may be dated; that event is never early, but clocks differ"""
READING_TOOLS = frozenset(
    {"Read", "Grep", "Glob", "LS", "NotebookRead", "TodoWrite", "WebFetch", "WebSearch", "ToolSearch", "BashOutput"}
)
EDITING_TOOLS = frozenset({"Write", "Edit", "MultiEdit", "NotebookEdit"})
"""tools that name the files that they write"""
_CUTS = TERMINAL | {EventKind.WAITING, EventKind.LOST}


class Origin(StrEnum):
    """Who changed a file during a turn."""

    OWN = "own"
    SHARED = "shared"
    """perhaps the turn, perhaps somebody else"""
    OTHERS = "others"


class CallEvent(NamedTuple):
    """An event of a turn, as stored, that says when its tools or checks ran."""

    kind: str
    at: float
    body: Mapping[str, object]


CALL_EVENTS = TERMINAL | {
    EventKind.TOOL,
    EventKind.TOOL_ENDED,
    EventKind.CHECKING,
    EventKind.CHECKED,
    EventKind.WAITING,
    EventKind.ANSWERED,
    EventKind.RESUMED,
    EventKind.LOST,
}


def writing_spans(events: Iterable[CallEvent], now: float) -> Sequence[tuple[float, float]]:
    """Return when the turn ran tools that may write anything, or Fleet ran its checks; an open call lasts until `now`.

    A call that needs permission starts when it is allowed. A wait, a crash or the end of the turn ends the calls that
    still run. After a crash of the daemon they end with the last event, because the time of the crash is unknown.
    """
    running: dict[str, float] = {}
    asked: set[str] = set()
    spans: list[tuple[float, float]] = []
    seen_at = 0.0
    for kind, at, body in events:
        call = str(body.get("call_id", ""))
        if kind == EventKind.CHECKING or (kind == EventKind.TOOL and may_write_anything(str(body.get("tool")))):
            running.setdefault(call, at)
        elif kind in {EventKind.TOOL_ENDED, EventKind.CHECKED} and call in running:
            spans.append((running.pop(call), at))
        elif kind == EventKind.ANSWERED and str(body.get("answer")).startswith(DENY):
            asked.discard(call)
        elif kind == EventKind.RESUMED:
            running |= dict.fromkeys(asked, at)
            asked.clear()
        elif kind in _CUTS:
            if "call_id" in body and running.pop(call, None) is not None:
                asked.add(call)
            is_unknown = kind == EventKind.LOST and body.get("reason") == DAEMON
            spans += [(begun, seen_at if is_unknown else at) for begun in running.values()]
            running.clear()
        seen_at = at
    return [*spans, *((begun, now) for begun in running.values())]


def may_write_anything(tool: str) -> bool:
    """Whether a call of the tool may write files that it does not name: a shell, a sub-agent, a foreign tool."""
    return tool not in READING_TOOLS | EDITING_TOOLS and not tool.startswith(("mcp__crew__", "mcp__fleet"))


@dataclass(frozen=True, kw_only=True)
class WriteEvidence:
    """What the tool calls during a turn say about who wrote."""

    own: frozenset[str] = frozenset()
    """absolute paths that the turn's editing tools wrote"""
    spans: Sequence[tuple[float, float]] = ()
    """when the turn ran tools that may write anything: beginnings and ends"""
    others: Mapping[str, str] = field(default_factory=dict[str, str])
    """absolute paths that editing tools of other agents wrote meanwhile, with the agent's name"""
    writers: Sequence[str] = ()
    """other agents that worked in the same place meanwhile with tools that may write anything"""
    worktree_writers: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    """such agents in linked worktrees inside that place, by worktree: they count only for what is in there"""

    def origin(self, path: str, changed_at: float | None) -> Origin:
        """Return who changed the file; `changed_at` is None if that is unknown, as for a file that is gone."""
        if path in self.own:
            return Origin.SHARED if path in self.others else Origin.OWN
        return Origin.OTHERS if path in self.others else self.origin_by_time(changed_at)

    def origin_by_time(self, at: float | None, *, unit_seconds: float = 0.0) -> Origin:
        """Return who made a change that no editing tool recorded, such as a commit.

        It was made within `unit_seconds` from `at`, which is None if the time is unknown.
        """
        if not self.spans:
            return Origin.OTHERS
        return Origin.SHARED if self.writers or not self._ran_in(at, unit_seconds) else Origin.OWN

    def inside(self, repository: str) -> WriteEvidence:
        """Return the evidence for changes in this repository, which lies inside the turn's place."""
        near = [
            name
            for place, names in self.worktree_writers.items()
            if f"{place}/".startswith(f"{repository}/")
            for name in names
        ]
        return replace(self, writers=[*dict.fromkeys([*self.writers, *near])])

    def _ran_in(self, at: float | None, unit_seconds: float) -> bool:
        return at is None or any(
            begun - EARLY_SECONDS <= at + unit_seconds and at <= ended + LATE_SECONDS for begun, ended in self.spans
        )
