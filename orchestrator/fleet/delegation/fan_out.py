"""Carries out the plan at the end of a turn: creates all of its children in one transaction, or refuses the plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from orchestrator.domain.agent import MAX_NAME_CHARACTERS, AgentSpec
from orchestrator.domain.question import AnsweredBy, NewQuestion
from orchestrator.domain.text import named, storable
from orchestrator.domain.tool import Json, ToolCall
from orchestrator.domain.usage import RunUsage
from orchestrator.errors import ConflictError, InvalidError, NotFoundError, RefusedError
from orchestrator.fleet.context import FleetContext
from orchestrator.fleet.verbs.children import new_child, parent_of
from orchestrator.fleet.verbs.create import checked, limits_of
from orchestrator.store.agents import plans
from orchestrator.store.schema.rows import QuestionRow
from orchestrator.store.schema.transitions import StaleOwnerError
from orchestrator.store.turns.cancellation import unless_cancelled
from orchestrator.store.turns.turns import Claim

MAX_REFUSED = 2
"""how often in a row a plan is sent back to its agent; the next one ends the turn"""
MAX_PROBLEM_CHARACTERS = 4000
WRONG = (NotFoundError, InvalidError, ConflictError, RefusedError)


async def fan_out(context: FleetContext, claim: Claim, call: ToolCall, asked: NewQuestion, usage: RunUsage) -> str:
    """Create what the plan asks for, or send it back, and suspend the turn. Returns '' or why the turn fails.

    Raises:
        StaleOwnerError: the claim is over; nothing is written.
        StoreError: the database cannot be written.
    """
    before = await context.work.store.read(partial(plans.of_turn, agent_id=claim.agent_id, turn=claim.turn))
    asked = replace(asked, input={**call.input, "number": len(before) + 1})
    problem = storable(str(call.input.get("problem", "")))
    problem = problem or await _create(context, claim, call.input.get("plan", ()), asked, usage)
    problem = problem[:MAX_PROBLEM_CHARACTERS]
    if not problem or _refused(before) >= MAX_REFUSED:
        return problem
    now = context.work.clock()
    await context.work.commit(unless_cancelled, plans.send_back, claim, now, asked, problem, usage, now)
    return ""


def _refused(before: Sequence[QuestionRow]) -> int:
    """How many of the last plans were refused in a row."""
    accepted = [index for index, row in enumerate(before, 1) if row.answered_by == AnsweredBy.CHILDREN]
    return len(before) - max(accepted, default=0)


async def _create(
    context: FleetContext, claim: Claim, entries: Sequence[Json], asked: NewQuestion, usage: RunUsage
) -> str:
    """Suspend the turn until its children have ended; returns '' or what is wrong, entry by entry."""
    parent = await parent_of(context.work, claim)
    planned: dict[str, AgentSpec] = {}
    wrong: list[str] = []
    for index, entry in enumerate(entries):
        name, key = str(entry["name"]), f"{claim.turn_id}/plan {asked.input['number']}/{index}"
        try:
            one = await checked(context, parent.call(key), new_child(parent, entry), parent)
            if name in planned:
                raise InvalidError("the plan uses this name twice", hint="give each agent a different name")
            planned[name] = one
        except WRONG as error:
            wrong.append(f"- {named(name, MAX_NAME_CHARACTERS)}: {error}")
    if wrong:
        return storable("\n".join(wrong))
    now, limits = context.work.clock(), parent.limits(limits_of(context))
    try:
        await context.work.commit(
            unless_cancelled, plans.fan_out, claim, now, list(planned.values()), asked, usage, now, limits=limits
        )
    except StaleOwnerError:
        raise
    except WRONG as error:
        return storable(f"- {error}")
    return ""
