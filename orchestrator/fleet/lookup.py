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
MIN_PREFIX_CHARACTERS = 5
MAX_REFERENCE_CHARACTERS = 200
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
        NotFoundError, ConflictError, InvalidError: as for `FleetContext.find`.
    """
    found = [_find(connection, caller.project, reference, deleted=deleted) for reference in references]
    return list({agent.id: agent for agent in found}.values())


def _find(connection: Connection, project: str, reference: str, *, deleted: bool) -> AgentRow:
    if not reference.strip():
        raise InvalidError("an agent's name is empty", hint="give its id or name")
    if not is_plain(reference) or len(reference) > MAX_REFERENCE_CHARACTERS:
        raise InvalidError(f"{reference[:80]!a} is not an agent's name or id", hint="give its id or name")
    found = agent_queries.by_reference(connection, reference, project) or _lost(connection, reference)
    if not found:
        names = agent_queries.living_names(connection, project)
        raise _unknown(reference, names, agent_queries.living(connection, project, SHOWN_NAMES))
    return _chosen(reference, found, deleted=deleted)


def _lost(connection: Connection, reference: str) -> Sequence[AgentRow]:
    """Find the agent with this whole id if its project no longer exists: it may have been moved to the caller's."""
    found = agent_queries.by_ids(connection, {reference}) if _WHOLE_ID.fullmatch(reference) else ()
    return [agent for agent in found if not Path(agent.project).is_dir()]


def _chosen(reference: str, found: Sequence[AgentRow], *, deleted: bool) -> AgentRow:
    exact = [agent for agent in found if reference in {agent.id, agent.name}]
    candidates = exact or (list(found) if len(reference) >= MIN_PREFIX_CHARACTERS else [])
    living = [agent for agent in candidates if agent.deleted_at is None]
    if not candidates:
        raise NotFoundError(f"no agent {reference!r}", hint="give its name, its id, or more of its id")
    if not exact and len(living or candidates) > 1:
        ids = ", ".join(agent.id for agent in candidates[:SHOWN_NAMES])
        raise ConflictError(f"{reference!r} fits several agents: {ids}", hint="give more of the id")
    if living:
        return living[0]
    if deleted:
        return candidates[0]
    raise ConflictError(
        f"{candidates[0].name} ({candidates[0].id}) is deleted",
        hint="its results stay readable with get_agent_output; create a new agent for new work",
    )


def _unknown(reference: str, names: Sequence[str], oldest: Sequence[AgentRow]) -> NotFoundError:
    close = difflib.get_close_matches(reference[:MAX_NAME_CHARACTERS], sorted(names), 1)
    meant = f"did you mean {close[0]}? " if close else ""
    shown = ", ".join(f"{agent.name} ({agent.status})" for agent in oldest)
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    none = "this project has no agents, and no deleted one had this name: create one with create_agent"
    hint = f"{meant}agents here: {shown}{more}" if names else none
    return NotFoundError(f"no agent {reference[:80]!r}", hint=hint)
