"""The port through which a running turn acts on the fleet: creates agents, fans out, and waits for agents."""

from __future__ import annotations

from typing import Protocol

from orchestrator.domain.question import NewQuestion
from orchestrator.domain.tool import CallContext, Json, Tool, ToolCall
from orchestrator.domain.usage import RunUsage
from orchestrator.fleet.sessions.slot import AgentSlot
from orchestrator.store.turns.turns import Claim


class Delegation(Protocol):
    """What execution needs from the layers above it; app.py hands it to the workers."""

    def tools(self, slot: AgentSlot) -> tuple[Tool, ...]:
        """Return all fleet tools, called as the agent of this slot, in the turn that is live when it calls."""
        ...

    async def create_child(self, claim: Claim, call: CallContext, arguments: Json) -> str:
        """Create an agent for the agent of this claim; returns the line that the agent reads.

        Raises:
            FleetError: nothing was created.
        """
        ...

    async def fan_out(self, claim: Claim, call: ToolCall, asked: NewQuestion, usage: RunUsage) -> str:
        """Create the agents of the plan that the turn ended with, or send it back; returns '' or why the turn fails.

        Raises:
            StaleOwnerError: the claim is over; nothing is written.
        """
        ...

    async def begin_wait(self, claim: Claim, call: ToolCall, asked: NewQuestion, usage: RunUsage) -> None:
        """Suspend the turn until the agents named by this call are done; the same call then returns the digest.

        Raises:
            StaleOwnerError: the claim is over; nothing is written.
        """
        ...
