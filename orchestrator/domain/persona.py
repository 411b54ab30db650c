"""A persona: an agent's prompt, tools, model and rules, as its file defines them."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.domain.budget import Scope
from orchestrator.domain.question import Policy
from orchestrator.domain.tool_names import is_named

FLEET = "mcp__plugin_fleet_fleet"
"""the fleet's tools in a persona: this name means all of them; with `__` and a tool's name, that tool"""
BY_TOOLS, BY_PLAN = "tools", "plan"
"""the ways to fan out; providers that accept no custom tools support only the second"""
WRITING_TOOLS = frozenset({"Write", "Edit", "MultiEdit", "NotebookEdit"})


@dataclass(frozen=True, kw_only=True)
class Persona:
    """A persona as its file defines it; `tools` None means every tool that the provider offers.

    `produces` is the name under which its result is handed on; `source` says which file it came from. `ask` lists tools
    that need permission for each call, `deny` tools that it never gets. Its questions are answered at once by
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
    """its result must end with a verdict; agents with it as input start only after `pass`"""
    commits: bool = False
    """it commits, so git must know the author before its turn begins"""

    origin: str = ""
    """the place of its file in short; empty for a persona of Fleet's own"""
    digest: str = ""
    """SHA-256 of its file"""
    is_foreign: bool = False
    """its file is Claude Code's as well, so what Fleet does not know in it is left out with one of `warnings`"""
    warnings: tuple[str, ...] = ()

    @property
    def offered(self) -> tuple[str, ...] | None:
        """The whole tools that its session has, including those that need permission; None: all of the provider's."""
        if self.tools is None:
            return None
        named = dict.fromkeys((*self.tools, *self.ask))
        return tuple(tool for tool in named if not is_named(tool, self.deny) and not tool.startswith(FLEET))

    @property
    def orchestrates(self) -> bool:
        """Whether it directs agents with the fleet's tools."""
        return any(tool.startswith(FLEET) for tool in self.tools or ())

    @property
    def cap_scope(self) -> Scope:
        """Whose use its caps count: for an orchestrator, that of all its descendants as well."""
        return Scope.SUBTREE if self.orchestrates else Scope.AGENT

    def directs_with(self, name: str) -> bool:
        """Whether it has this tool of the fleet."""
        full = f"{FLEET}__{name}"
        return not is_named(full, self.deny) and is_named(full, self.tools or ())

    children: int = 0
    """how many agents it may create itself; 0: none"""
    fans_out: str = BY_TOOLS
    """how it creates them: with the crew tools, or with a plan at the end of its turn"""

    @property
    def plans(self) -> bool:
        """Whether its turns may end with a plan."""
        return self.children > 0 and self.fans_out == BY_PLAN

    @property
    def writes(self) -> bool:
        """Whether it changes the checkout; such agents take turns in it."""
        return self.offered is None or not WRITING_TOOLS.isdisjoint(self.offered)

    @property
    def has_shell(self) -> bool:
        """Whether it can run commands, such as tests, and `git commit`."""
        return self.offered is None or "Bash" in self.offered

    @property
    def may_change(self) -> bool:
        """Whether its turns can leave changes at all; a shell can, too."""
        return self.writes or self.has_shell
