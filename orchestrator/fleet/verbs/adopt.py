"""Gives agents whose session has ended to another one, and binds agents to the place that their project moved to."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from orchestrator import paths
from orchestrator.domain.text import is_plain, listed, named, named_path
from orchestrator.domain.tool import COMMAND_LINE, CallContext, Caller
from orchestrator.errors import ConflictError, InvalidError, NotFoundError
from orchestrator.fleet.context import FleetContext
from orchestrator.fleet.lookup import find_living
from orchestrator.fleet.views import Adopted, Orphan, Orphans
from orchestrator.provisioning.checkouts import write_area
from orchestrator.store.agents import adoption
from orchestrator.store.engine.connection import Connection
from orchestrator.store.queries import agents as agent_queries
from orchestrator.store.queries import left
from orchestrator.store.schema.rows import AgentRow

MAX_NAMES = 6


async def orphans(context: FleetContext, call: CallContext) -> Orphans:
    """Return the agents that can be adopted here, and the sessions of the project that could have them."""
    agents, moved = await _adoptable(context, call.caller)
    found = [_orphan(agent, is_moved=False) for agent in agents] + [_orphan(agent, is_moved=True) for agent in moved]
    return Orphans(agents=tuple(found), sessions=tuple(sorted(context.connections.in_project(call.caller.project))))


async def adopt(
    context: FleetContext, call: CallContext, references: Sequence[str], *, everything: bool, to: str | None
) -> tuple[Adopted, ...]:
    """Give these agents, or all of the project whose sessions have ended, to the session `to`.

    Without `to` that is the caller, or for a person at the command line the one session that is connected, if one is.

    Raises:
        InvalidError: several sessions are connected and none is named, or neither agents nor all are asked for.
        ConflictError: an agent's session is connected, or its project exists elsewhere; those before it were adopted.
    """
    if everything == bool(references):
        raise InvalidError("no agents are named", hint="name the agents to adopt, or ask for all")
    heir = _heir(context, call.caller, to)
    if everything:
        found, _ = await _adoptable(context, call.caller)
    else:
        found = await context.find_all(call.caller, references)
    return tuple([await _adopt(context, call.caller, agent, heir) for agent in found])


async def claim(context: FleetContext, call: CallContext, references: Sequence[str]) -> tuple[str, ...]:
    """Give the named agents whose sessions have ended to the session that names them; returns their names.

    Commands of a person or an agent claim nothing. Unknown names are ignored here.

    Raises:
        InvalidError: one cannot be a name, or there are too many.
    """
    if call.person or call.run is not None or not references:
        return ()

    def known(connection: Connection) -> list[AgentRow]:
        found = find_living(connection, call.caller, references)
        return [agent for agent in found if agent.parent is None and agent.orchestrator != call.caller.orchestrator]

    theirs = await context.work.store.read(known)
    gone = context.connections.gone(agent.orchestrator for agent in theirs)
    claimed = [agent for agent in theirs if agent.orchestrator in gone and agent.project == call.caller.project]
    for agent in claimed:
        await _give(context, agent, call.caller.orchestrator)
    return tuple(agent.name for agent in claimed)


def yours_now(names: Sequence[str]) -> str:
    """Return the line about agents that were claimed; '' if none were."""
    return f"yours now, as the session that created them has ended: {listed(names, MAX_NAMES)}" if names else ""


async def check_place(agent: AgentRow) -> None:
    """Check that the agent's project is still where it was.

    Raises:
        ConflictError: it is not; the hint says how to bind the agent to its new place.
    """
    if not await asyncio.to_thread(os.path.isdir, agent.project):
        raise ConflictError(
            f"{agent.name} cannot work: its project {named_path(agent.project)} no longer exists",
            hint=f"if it was moved, run there: fleet adopt {agent.id}",
        )


async def _adoptable(context: FleetContext, caller: Caller) -> tuple[list[AgentRow], list[AgentRow]]:
    """The agents of the project whose sessions have ended, and those of projects that no longer exist."""

    def living(connection: Connection) -> tuple[list[AgentRow], list[str]]:
        here = [agent for agent in agent_queries.living(connection, caller.project) if agent.parent is None]
        return here, list(left.projects(connection))

    here, projects = await context.work.store.read(living)
    lost = [project for project in projects if not await asyncio.to_thread(os.path.isdir, project)]

    def of_lost(connection: Connection) -> list[AgentRow]:
        found = [agent for project in lost for agent in agent_queries.living(connection, project)]
        return [agent for agent in found if agent.parent is None]

    gone = context.connections.gone(agent.orchestrator for agent in here)
    return [agent for agent in here if agent.orchestrator in gone], await context.work.store.read(of_lost)


def _heir(context: FleetContext, caller: Caller, to: str | None) -> str:
    if to is not None:
        if not to.strip() or not is_plain(to) or len(to) > paths.MAX_ORCHESTRATOR_CHARACTERS:
            raise InvalidError(f"{to[:80]!a} is not a session's id", hint="fleet adopt lists the sessions")
        return to
    if caller.orchestrator != COMMAND_LINE:
        return caller.orchestrator
    connected = sorted(context.connections.in_project(caller.project))
    if len(connected) > 1:
        raise InvalidError(
            f"several sessions of this project are connected: {listed(connected, MAX_NAMES)}",
            hint="say which, with --to",
        )
    return connected[0] if connected else COMMAND_LINE


async def _adopt(context: FleetContext, caller: Caller, agent: AgentRow, heir: str) -> Adopted:
    if agent.parent is not None:
        raise ConflictError(f"{agent.name} belongs to the agent that created it", hint="adopt that one")
    if agent.project != caller.project:
        if await asyncio.to_thread(os.path.isdir, agent.project):
            raise ConflictError(
                f"{agent.name} works in {named_path(agent.project)}, which still exists",
                hint="run fleet adopt in that directory",
            )
        await context.work.commit(adoption.rebind, agent.id, caller.project, write_area, context.work.clock())
    elif agent.orchestrator == heir != COMMAND_LINE:
        raise ConflictError(f"{agent.name} already belongs to {named(heir)}", hint="command it by its name")
    elif agent.orchestrator != COMMAND_LINE and not context.connections.gone([agent.orchestrator]):
        raise ConflictError(
            f"{agent.name} belongs to the session {named(agent.orchestrator)}, which is connected",
            hint="end that session first, or command the agent by its name",
        )
    await _give(context, agent, heir)
    return Adopted(agent=agent.id, name=agent.name, was=agent.orchestrator, orchestrator=heir, moved_from=agent.project)


async def _give(context: FleetContext, agent: AgentRow, heir: str) -> None:
    given = await context.work.commit(adoption.adopt, agent.id, agent.orchestrator, heir, context.work.clock())
    if not given:
        raise NotFoundError(f"another session has just adopted {agent.name}", hint="fleet adopt lists what is left")


def _orphan(agent: AgentRow, *, is_moved: bool) -> Orphan:
    return Orphan(
        agent=agent.id,
        name=agent.name,
        status=agent.status,
        orchestrator=agent.orchestrator,
        project=agent.project,
        is_moved=is_moved,
    )
