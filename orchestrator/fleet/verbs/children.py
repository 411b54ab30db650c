"""Creates agents for agents: a child stays within its parent's clearance and budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from orchestrator import paths
from orchestrator.domain.agent import OPEN, NewAgent
from orchestrator.domain.clearance import Right, beyond
from orchestrator.domain.persona import Persona
from orchestrator.domain.text import listed, named
from orchestrator.domain.tool import CallContext, Caller, CallingTurn, Json
from orchestrator.errors import RefusedError
from orchestrator.fleet.briefing.personas import persona_of
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.store.families import children
from orchestrator.store.queries import agents as agent_queries
from orchestrator.store.schema.rows import AgentRow
from orchestrator.store.turns.turns import Claim


@dataclass(frozen=True, kw_only=True)
class Parent:
    """The agent that creates, in the middle of its run."""

    agent: AgentRow
    epoch: int

    @property
    def run(self) -> CallingTurn:
        """The run in which it creates."""
        return CallingTurn(agent_id=self.agent.id, epoch=self.epoch)

    @property
    def persona(self) -> Persona:
        """The parent's persona as it was when the parent was created."""
        return persona_of(self.agent)

    def call(self, key: str | None) -> CallContext:
        """Return a call by the parent under this key, as an orchestrator's: in its project, with its environment."""
        agent = self.agent
        environment = {name: value for name, value in agent.environment.items() if name != paths.SSH_AGENT}
        caller = Caller(project=agent.project, orchestrator=agent.id, cwd=agent.cwd, environment=environment)
        return CallContext(caller=caller, key=f"{agent.id}/{key}" if key else None)

    def limits(self, limits: children.ChildLimits) -> children.ChildLimits:
        """Return the limits with the number of children that its persona may have.

        An orchestrator may have as many as the fleet allows, and a root one at least one level of them.
        """
        if not self.persona.orchestrates:
            allowed = min(limits.children, self.persona.children)
            return children.ChildLimits(agents=limits.agents, depth=limits.depth, children=allowed)
        depth = max(1, limits.depth) if self.agent.depth == 0 else limits.depth
        return children.ChildLimits(agents=limits.agents, depth=depth, children=limits.children)


async def parent_of(work: UnitOfWork, claim: Claim | CallingTurn) -> Parent:
    """Return the agent whose run this is."""
    [agent] = await work.store.read(partial(agent_queries.by_ids, ids={claim.agent_id}))
    return Parent(agent=agent, epoch=claim.epoch)


def new_child(parent: Parent, arguments: Json) -> NewAgent:
    """Return what the parent asks for, with its own directory, and its own model unless it names another."""
    given = {name: arguments[name] for name in ("persona", "model", "max_cost_usd", "max_tokens") if name in arguments}
    return NewAgent(name=arguments["name"], task=arguments["task"], cwd=parent.agent.cwd, **given)


def check_clearance(parent: Persona, child: Persona) -> None:
    """Check that the child may do nothing that its parent may not; this does not apply to an orchestrator's agents.

    Raises:
        RefusedError: it may do more; the message says what.
    """
    if parent.orchestrates:
        return
    if child.tools is None and parent.tools is not None:
        raise RefusedError(
            f"persona {named(child.name)} has every tool and you have only {listed(parent.tools, len(parent.tools))}",
            hint="choose a persona whose tools are among yours",
        )
    more = beyond(child, parent)
    denied = [tool for tool, held in more.items() if held is Right.DENIED]
    yours = "" if parent.tools is None else f": {listed(parent.tools, len(parent.tools))}"
    if denied:
        raise RefusedError(
            f"persona {named(child.name)} has tools that you do not have: {listed(denied, len(denied))}",
            hint=f"choose a persona whose tools are among yours{yours}",
        )
    if more:
        raise RefusedError(
            f"persona {named(child.name)} may use without asking what you must ask for: {listed([*more], len(more))}",
            hint="choose a persona that must ask for them, too, or that does not have them",
        )


def askers(
    orchestrator: str, found: Sequence[AgentRow], asking: Sequence[AgentRow], below: Sequence[AgentRow]
) -> list[AgentRow]:
    """Return the agents below `found` that ask this orchestrator; an agent asks the next one above it."""
    known = {agent.id: agent for agent in [*found, *below]}
    return [agent for agent in asking if _director(agent, known) in {None, orchestrator}]


def _director(agent: AgentRow, known: Mapping[str, AgentRow]) -> str | None:
    """Return the id of the next orchestrator above the agent that Fleet runs and that is not over, or None."""
    above = known.get(agent.parent or "")
    while above is not None and not (persona_of(above).orchestrates and above.status in OPEN):
        above = known.get(above.parent or "")
    return None if above is None else above.id
