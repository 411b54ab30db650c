"""Interrupts an agent and all its descendants."""

from __future__ import annotations

from orchestrator.domain.command import interrupt_receipt_text
from orchestrator.fleet.context import FleetContext
from orchestrator.fleet.views import Receipt
from orchestrator.store.agents import commands
from orchestrator.store.schema.rows import AgentRow


async def interrupt(context: FleetContext, agent: AgentRow) -> Receipt:
    """Interrupt the agent and its descendants; running sessions are stopped after the change is committed.

    Raises:
        ConflictError: none of them has an open turn.
    """
    running = await context.work.commit(commands.interrupt, agent.id, context.work.clock())
    for agent_id, turn_id in running.items():
        context.slots.interrupt(agent_id, "interrupted", turn_id)
    happened = interrupt_receipt_text(ends_running=bool(running))
    return Receipt(agent=agent.id, name=agent.name, turn_id=None, happened=happened)
