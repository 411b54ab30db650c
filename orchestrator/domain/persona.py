"""Who an agent is."""

from __future__ import annotations

from dataclasses import dataclass

WRITING_TOOLS = frozenset({"Write", "Edit", "MultiEdit", "NotebookEdit"})


@dataclass(frozen=True, kw_only=True)
class Persona:
    """A persona as its file states it; `tools` None means: every tool that the provider offers.

    `produces` is the name under which its result is handed on; `source` says which file it came from.
    """

    name: str
    description: str
    prompt: str
    source: str
    tools: tuple[str, ...] | None = None
    model: str | None = None
    produces: str = "result.md"
    max_turns: int | None = None
    children: int = 0
    """how many agents it may create itself; 0: none"""

    @property
    def writes(self) -> bool:
        """Whether it changes the checkout: such agents work there one at a time."""
        return self.tools is None or not WRITING_TOOLS.isdisjoint(self.tools)

    @property
    def may_change(self) -> bool:
        """Whether its turn can leave changes behind at all (a shell can, too)."""
        return self.writes or self.tools is None or "Bash" in self.tools
