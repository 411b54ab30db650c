"""Deletes agents and their descendants: sessions end, records and results are kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from orchestrator.domain.tool import CallContext
from orchestrator.errors import InvalidError
from orchestrator.fleet.context import FleetContext
from orchestrator.fleet.sessions.slot import DELETED
from orchestrator.fleet.verbs import query
from orchestrator.fleet.views import Deleted
from orchestrator.store.agents import lifecycle
from orchestrator.store.queries import agents as agent_queries
from orchestrator.store.schema.rows import AgentRow
from orchestrator.store.waits import leases

SCOPES = ("mine", "project")


async def named(context: FleetContext, call: CallContext, references: Sequence[str]) -> list[AgentRow]:
    """Return the agents of these references, including deleted ones.

    Raises:
        InvalidError: no references are given.
        NotFoundError: one is unknown.
    """
    if not references:
        raise InvalidError("no agents are named", hint="name them, or use delete_all_agents")
    return await context.find_all(call.caller, references, deleted=True)


async def in_scope(context: FleetContext, call: CallContext, scope: str) -> list[AgentRow]:
    """Return the living agents that the caller created, or all of the project.

    A caller that is itself an agent gets neither itself nor its ancestors.

    Raises:
        InvalidError: the scope is unknown.
    """
    if scope not in SCOPES:
        raise InvalidError(f"scope is {scope!r}", hint="give mine or project")
    caller = call.caller
    mine = partial(agent_queries.living_of, project=caller.project, orchestrator=caller.orchestrator)
    found = await context.work.store.read(
        mine if scope == "mine" else partial(agent_queries.living, project=caller.project)
    )
    return list(found) if call.run is None else [agent for agent in found if not call.run.stands_under(agent.id)]


async def delete(context: FleetContext, agents: Sequence[AgentRow]) -> tuple[Deleted, ...]:
    """Delete the agents and their descendants in one transaction; return once their sessions have ended."""
    before = await context.work.commit(lifecycle.delete_families, [agent.id for agent in agents], context.work.clock())
    context.shown.forget(before)
    await asyncio.gather(*[context.slots.stop(agent_id, DELETED) for agent_id in before])
    for agent_id in before:  # only now: a session that still ran could have written in its checkout
        await context.work.commit(leases.release, agent_id, context.work.clock())
    found = await context.work.store.read(partial(agent_queries.by_ids, ids=before))
    rows = {agent.id: agent for agent in found}
    return tuple([await _receipt(context, rows[agent_id], was) for agent_id, was in before.items()])


async def _receipt(context: FleetContext, agent: AgentRow, was: str) -> Deleted:
    return Deleted(agent=agent.id, name=agent.name, was=was, work=await query.work_left(context, agent))
