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
MAX_REFERENCES = 1000
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
    found = _living(connection, caller.project, asked)
    missing = [one for one in asked if one not in found]
    found |= {agent.name: agent for agent in agent_queries.last_deleted(connection, missing, caller.project)}
    agents = [found.get(one) or _by_id(connection, caller.project, one) for one in asked]
    if gone := next((agent for agent in agents if agent.deleted_at is not None and not deleted), None):
        raise ConflictError(
            f"{gone.name} ({gone.id}) is deleted",
            hint="its results stay readable with get_agent_output; create a new agent for new work",
        )
    return list({agent.id: agent for agent in agents}.values())


def find_living(connection: Connection, caller: Caller, references: Sequence[str]) -> list[AgentRow]:
    """Find the living agents among these references; one that names none, or several, is left out.

    Raises:
        InvalidError: one cannot be a reference, or there are too many.
    """
    asked = _checked(references)
    found = _living(connection, caller.project, asked)
    fitting = [_fitting(connection, caller.project, one) for one in asked if one not in found]
    agents = [*found.values(), *(agents[0] for agents in fitting if len(agents) == 1)]
    return list({agent.id: agent for agent in agents if agent.deleted_at is None}.values())


def _living(connection: Connection, project: str, references: Sequence[str]) -> dict[str, AgentRow]:
    """Find the living agents with these names, by name."""
    return {agent.name: agent for agent in agent_queries.called(connection, references, project)}


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


def _by_id(connection: Connection, project: str, reference: str) -> AgentRow:
    fitting = _fitting(connection, project, reference)
    if not fitting:
        names = agent_queries.living_names(connection, project)
        raise _unknown(reference, names, agent_queries.living(connection, project, SHOWN_NAMES))
    if len(fitting) > 1:
        ids = ", ".join(agent.id for agent in fitting[:SHOWN_NAMES])
        raise ConflictError(f"{reference!r} fits several agents: {ids}", hint="give more of the id")
    return fitting[0]


def _fitting(connection: Connection, project: str, reference: str) -> Sequence[AgentRow]:
    """Find the agent with this id, or the living agents whose id starts so, or the deleted ones if none lives.

    The agent with a whole id may be of a project that no longer exists: it may have been moved to the caller's.
    """
    if _WHOLE_ID.fullmatch(reference):
        found = agent_queries.by_ids(connection, {reference})
        return [agent for agent in found if agent.project == project or not Path(agent.project).is_dir()]
    if not _ID_PREFIX.fullmatch(reference):
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
