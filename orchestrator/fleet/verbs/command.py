"""Commands an agent: gives it its next task, answers its question, or stops it."""

from __future__ import annotations

from orchestrator.domain.tool import Call
from orchestrator.fleet.context import FleetContext
from orchestrator.fleet.views import Receipt
from orchestrator.store.agents.commands import Command, command
from orchestrator.store.waits.questions import OtherQuestionError


async def send(context: FleetContext, call: Call, name: str, asked: Command) -> Receipt:
    """Apply the command in its transaction, then stop or steer the session concerned.

    Raises:
        FleetError: nothing was changed.
    """
    try:
        done = await context.work.commit(command, asked, context.work.clock())
    except OtherQuestionError as error:
        context.shown.refused(call, asked.agent_id, asked.question_id, error.question_id)
        raise
    for agent_id, turn_id in done.running.items():
        context.slots.interrupt(agent_id, "interrupted", turn_id)
    happened = done.happened
    if done.steer and done.turn_id is not None:
        happened = await context.slots.steer(asked.agent_id, done.turn_id, asked.text) or happened
    return Receipt(agent=asked.agent_id, name=name, turn_id=done.turn_id, happened=happened)
