"""Implements the delegation port, through which running turns call verbs and orchestrators."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.domain.question import NewQuestion
from orchestrator.domain.tool import CallContext, Json, Tool, ToolCall
from orchestrator.domain.usage import RunUsage
from orchestrator.fleet.context import FleetContext
from orchestrator.fleet.delegation.fan_out import fan_out
from orchestrator.fleet.delegation.orchestrators import ManagedOrchestrators
from orchestrator.fleet.sessions.slot import AgentSlot
from orchestrator.fleet.verbs.create import create_child
from orchestrator.store.turns.turns import Claim


@dataclass(frozen=True)
class Delegates:
    """Implements `execution.delegation.Delegation`."""

    context: FleetContext
    orchestrators: ManagedOrchestrators

    def tools(self, slot: AgentSlot) -> tuple[Tool, ...]:
        """Return all fleet tools, called as the agent of this slot."""
        return self.orchestrators.tools(slot)

    async def create_child(self, claim: Claim, call: CallContext, arguments: Json) -> str:
        """Create an agent for the agent of this claim."""
        return await create_child(self.context, claim, call, arguments)

    async def fan_out(self, claim: Claim, call: ToolCall, asked: NewQuestion, usage: RunUsage) -> str:
        """Create the agents of the plan, or send the plan back to its agent."""
        return await fan_out(self.context, claim, call, asked, usage)

    async def begin_wait(self, claim: Claim, call: ToolCall, asked: NewQuestion, usage: RunUsage) -> None:
        """Suspend the turn until the agents named by this call are done."""
        await self.orchestrators.begin_wait(claim, call, asked, usage)
