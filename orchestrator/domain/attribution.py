"""Decides from recorded tool calls whose a changed file is: the turn's own, shared, or somebody else's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

SLACK_SECONDS = 1.0
"""between a call, its event, and the time of a file"""
READING_TOOLS = frozenset(
    {"Read", "Grep", "Glob", "LS", "NotebookRead", "TodoWrite", "WebFetch", "WebSearch", "ToolSearch", "BashOutput"}
)
EDITING_TOOLS = frozenset({"Write", "Edit", "MultiEdit", "NotebookEdit"})
"""tools that name the files that they write"""


class Origin(StrEnum):
    """Who changed a file during a turn."""

    OWN = "own"
    SHARED = "shared"
    """perhaps the turn, perhaps somebody else"""
    OTHERS = "others"


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

    def origin(self, path: str, changed_at: float | None) -> Origin:
        """Return who changed the file; `changed_at` is None if it is gone."""
        if path in self.own:
            return Origin.SHARED if path in self.others else Origin.OWN
        if path in self.others or not self.spans:
            return Origin.OTHERS
        return Origin.SHARED if self.writers or not self._ran_at(changed_at) else Origin.OWN

    def _ran_at(self, at: float | None) -> bool:
        return at is None or any(begun - SLACK_SECONDS <= at <= ended + SLACK_SECONDS for begun, ended in self.spans)
