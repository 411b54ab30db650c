"""Builds a parent's digest of its children: how each one ended, with the child's own words fenced as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.domain.text import clean, one_line
from orchestrator.domain.usage import shown_cost
from orchestrator.fleet.briefing import system_prompt
from orchestrator.fleet.briefing.personas import persona_of
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.fleet.projections import agent_views
from orchestrator.store.engine.connection import Connection
from orchestrator.store.queries import agents as agent_queries
from orchestrator.store.queries import outcomes
from orchestrator.store.schema.rows import AgentRow, TurnRow

TOLD_CHARACTERS = 8000
"""limit for the digest of all children; the full texts are in their desks"""
MIN_SHARE_CHARACTERS = 200


async def children_digest(work: UnitOfWork, parent_id: str) -> str:
    """Return an entry per child: its status, cost and the beginning of its result, within `TOLD_CHARACTERS` in all."""

    def ends(connection: Connection) -> tuple[Sequence[AgentRow], Mapping[str, TurnRow]]:
        found = agent_queries.children(connection, parent_id)
        return found, outcomes.last(connection, [child.id for child in found])

    found, turns = await work.store.read(ends)
    if not found:
        return "you have no children"
    share = max(MIN_SHARE_CHARACTERS, TOLD_CHARACTERS // len(found))
    return "\n".join(line for child in found for line in _child_lines(child, turns.get(child.id), share))


def _child_lines(child: AgentRow, turn: TurnRow | None, share: int) -> Sequence[str]:
    text = clean((turn.result or turn.detail) if turn else "")
    words = agent_views.words_of(child)
    reason = f" ({one_line(words, 120)})" if words else ""
    path = system_prompt.desk_path(child.project, child.id) / persona_of(child).produces
    cut = f" · the rest: {path}" if len(text) > share else ""
    head = f"[{child.name} {child.status}{reason} · {shown_cost(agent_views.cost_of(child))}{cut}]"
    return [head, *[f"| {line}" for line in text[:share].splitlines() if line.strip()]]
