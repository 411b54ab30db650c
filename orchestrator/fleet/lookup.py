"""How callers refer to agents and to positions in the event stream: by id, unique prefix, name, and cursor."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from orchestrator.domain.agent import MAX_NAME_CHARACTERS
from orchestrator.domain.durable_wait import MAX_CURSOR_DIGITS
from orchestrator.domain.text import is_plain
from orchestrator.domain.tool import Caller
from orchestrator.errors import ConflictError, InvalidError, NotFoundError
from orchestrator.store.engine.connection import Connection
from orchestrator.store.queries import agents as agent_queries
from orchestrator.store.schema.rows import AgentRow

SHOWN_NAMES = 12
MAX_REFERENCES = 10_000
"""as many agents as may exist by default"""
MAX_REFERENCE_CHARACTERS = 200
_ID_PREFIX = re.compile(r"ag_[0-9a-z_]{2,}")
_WHOLE_ID = re.compile(r"ag_[0-9a-f]{32}(_child_\d+)*")


def cursor_of(since: str) -> int:
    """Return the cursor of an earlier answer as a number.

    Raises:
        InvalidError: it is not a cursor.
    """
    if not (since.isascii() and since.isdigit() and len(since) <= MAX_CURSOR_DIGITS):
        raise InvalidError(f"since is {since[:40]!a}", hint="give the cursor of an earlier answer, or 0")
    return int(since)


def find_all(
    connection: Connection, caller: Caller, references: Sequence[str], deleted: bool = False
) -> list[AgentRow]:
    """Find the agents of these references in the caller's project, without duplicates, in order.

    Raises:
        NotFoundError, ConflictError, InvalidError: as for `FleetContext.find`, or there are too many references.
    """
    asked = _checked(references)
    found = _exact(connection, caller.project, asked)
    agents = [found.get(one) or _other(connection, caller.project, one) for one in asked]
    if gone := next((agent for agent in agents if agent.deleted_at is not None and not deleted), None):
        raise ConflictError(
            f"{gone.name} ({gone.id}) is deleted",
            hint="its results stay readable with get_agent_output; create a new agent for new work",
        )
    return list({agent.id: agent for agent in agents}.values())


def find_living(connection: Connection, caller: Caller, references: Sequence[str]) -> list[AgentRow]:
    """Find the living agents among these references, in order; one that names none, or several, is left out.

    Raises:
        InvalidError: one cannot be a reference, or there are too many.
    """
    asked = _checked(references)
    found = _exact(connection, caller.project, asked)
    fitting = [[found[one]] if one in found else _starting(connection, caller.project, one) for one in asked]
    agents = [agents[0] for agents in fitting if len(agents) == 1]
    return list({agent.id: agent for agent in agents if agent.deleted_at is None}.values())


def _checked(references: Sequence[str]) -> list[str]:
    """Return the references, each once."""
    asked = list(dict.fromkeys(references))
    if len(asked) > MAX_REFERENCES:
        raise InvalidError(f"{len(asked)} agents are named; at most {MAX_REFERENCES} are allowed", hint="name fewer")
    for one in asked:
        if not one.strip():
            raise InvalidError("an agent's name is empty", hint="give its id or name")
        if not is_plain(one) or len(one) > MAX_REFERENCE_CHARACTERS:
            raise InvalidError(f"{one[:80]!a} is not an agent's name or id", hint="give its id or name")
    return asked


def _exact(connection: Connection, project: str, references: Sequence[str]) -> dict[str, AgentRow]:
    """Find the agents with these ids, and the living agents with these names, by reference: two statements.

    An id may be that of an agent whose project no longer exists: it may have been moved to the caller's.
    """
    ids = {one for one in references if _WHOLE_ID.fullmatch(one)}
    found = [
        agent
        for agent in agent_queries.by_ids(connection, ids)
        if agent.project == project or not Path(agent.project).is_dir()
    ]
    named = agent_queries.living_by_names(connection, [one for one in references if one not in ids], project)
    return {agent.id: agent for agent in found} | {agent.name: agent for agent in named}


def _other(connection: Connection, project: str, reference: str) -> AgentRow:
    """Find the newest deleted agent of this name, or the one agent whose id starts so."""
    if (gone := agent_queries.last_deleted(connection, reference, project)) is not None:
        return gone
    fitting = _starting(connection, project, reference)
    if not fitting:
        names = agent_queries.living_names(connection, project)
        raise _unknown(reference, names, agent_queries.living(connection, project, SHOWN_NAMES))
    if len(fitting) > 1:
        ids = ", ".join(agent.id for agent in fitting[:SHOWN_NAMES])
        raise ConflictError(f"{reference!r} fits several agents: {ids}", hint="give more of the id")
    return fitting[0]


def _starting(connection: Connection, project: str, reference: str) -> Sequence[AgentRow]:
    """Find the living agents whose id starts so, or the deleted ones if none lives."""
    if _WHOLE_ID.fullmatch(reference) or not _ID_PREFIX.fullmatch(reference):
        return ()
    fitting = agent_queries.with_prefix(connection, reference, project, SHOWN_NAMES + 1)
    return [agent for agent in fitting if agent.deleted_at is None] or fitting


def _unknown(reference: str, names: Sequence[str], oldest: Sequence[AgentRow]) -> NotFoundError:
    close = difflib.get_close_matches(reference[:MAX_NAME_CHARACTERS], sorted(names), 1)
    meant = f"did you mean {close[0]}? " if close else ""
    shown = ", ".join(f"{agent.name} ({agent.status})" for agent in oldest)
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    none = "this project has no agents, and no deleted one had this name: create one with create_agent"
    hint = f"{meant}agents here: {shown}{more}" if names else none
    return NotFoundError(f"no agent {reference[:80]!r}", hint=hint)
