"""Who an agent is."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.domain.budget import Scope
from orchestrator.domain.question import Policy

FLEET = "mcp__plugin_fleet_fleet"
"""The fleet's tools as a persona names them: all of them, or with `__` and a name behind it one of them."""
BY_TOOLS, BY_PLAN = "tools", "plan"
"""the ways to fan out: a provider that takes no tools of ours leaves the second"""
WRITING_TOOLS = frozenset({"Write", "Edit", "MultiEdit", "NotebookEdit"})


@dataclass(frozen=True, kw_only=True)
class Persona:
    """A persona as its file states it; `tools` None means: every tool that the provider offers.

    `produces` is the name under which its result is handed on; `source` says which file it came from. `ask` are tools
    for which it is given a permission each time, `deny` tools that it never gets. What it asks is answered at once by
    its `policy`, else within `answer_within_seconds` (None: the fleet's setting), else by `default_answer`.
    """

    name: str
    description: str
    prompt: str
    source: str
    tools: tuple[str, ...] | None = None
    model: str | None = None
    produces: str = "result.md"
    max_turns: int | None = None
    ask: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    policy: tuple[Policy, ...] = ()
    answer_within_seconds: float | None = None
    default_answer: str = ""
    verdict: bool = False
    """it must end with one, and without `pass` nothing behind it starts"""

    @property
    def offered(self) -> tuple[str, ...] | None:
        """The whole tools that its session has, those that are asked for included; None: all of the provider's."""
        if self.tools is None:
            return None
        named = dict.fromkeys((*self.tools, *self.ask))
        return tuple(tool for tool in named if tool not in self.deny and not tool.startswith(FLEET))

    @property
    def orchestrates(self) -> bool:
        """Whether it directs agents with the fleet's own tools."""
        return any(tool.startswith(FLEET) for tool in self.tools or ())

    @property
    def cap_scope(self) -> Scope:
        """Whose use a cap bounds that it is given: an orchestrator's is that of all that it directs."""
        return Scope.SUBTREE if self.orchestrates else Scope.AGENT

    def directs_with(self, name: str) -> bool:
        """Whether it has the fleet's tool of this name."""
        full = f"{FLEET}__{name}"
        return full not in self.deny and not {FLEET, full}.isdisjoint(self.tools or ())

    children: int = 0
    """how many agents it may create itself; 0: none"""
    fans_out: str = BY_TOOLS
    """how it creates them: by the crew tools, or by a plan that its turn ends with"""

    @property
    def plans(self) -> bool:
        """Whether a turn of it may end with a plan."""
        return self.children > 0 and self.fans_out == BY_PLAN

    @property
    def writes(self) -> bool:
        """Whether it changes the checkout: such agents work there one at a time."""
        return self.offered is None or not WRITING_TOOLS.isdisjoint(self.offered)

    @property
    def may_change(self) -> bool:
        """Whether its turn can leave changes behind at all (a shell can, too)."""
        return self.writes or self.offered is None or "Bash" in self.offered
