"""Builds a parent's digest of its children: how each one ended, with the child's own words fenced as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from orchestrator.domain.text import ForeignText, margin, named
from orchestrator.domain.turn import TurnStatus
from orchestrator.domain.usage import shown_cost
from orchestrator.fleet.briefing import system_prompt
from orchestrator.fleet.briefing.personas import persona_of
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.fleet.projections import agent_views
from orchestrator.fleet.projections.outcome_lines import with_detail
from orchestrator.store.engine.connection import Connection
from orchestrator.store.queries import agents as agent_queries
from orchestrator.store.queries import outcomes
from orchestrator.store.schema.rows import AgentRow, TurnRow

TOLD_CHARACTERS = 8000
"""limit for the digest of all children; the full texts are in their desks"""
MIN_SHARE_CHARACTERS = 200


async def children_digest(work: UnitOfWork, parent_id: str) -> str:
    """Return an entry per child: its status, cost and the beginning of its result, within `TOLD_CHARACTERS` in all.

    Turns of a child before its last one are told in one line each.
    """

    def ends(connection: Connection) -> tuple[Sequence[AgentRow], Mapping[str, Sequence[TurnRow]]]:
        found = agent_queries.children(connection, parent_id)
        return found, outcomes.ended(connection, [child.id for child in found])

    found, turns = await work.store.read(ends)
    if not found:
        return "you have no children"
    share = max(MIN_SHARE_CHARACTERS, TOLD_CHARACTERS // len(found))
    return "\n".join(line for child in found for line in _child_lines(child, turns.get(child.id, ()), share))


def _child_lines(child: AgentRow, turns: Sequence[TurnRow], share: int) -> Sequence[str]:
    turn = turns[-1] if turns else None
    text = (turn.result or turn.detail) if turn else ""
    words = agent_views.words_of(child)
    reason = f" ({words})" if words else ""
    path = system_prompt.desk_path(child.project, child.id) / persona_of(child).produces
    cut = f" · the rest: {named(str(path), len(str(path)))}" if len(text) > share else ""
    head = f"[{child.name} {child.status}{reason} · {shown_cost(agent_views.cost_of(child))}{cut}]"
    return [*map(partial(_earlier_line, child), turns[:-1]), head, *margin(text[:share])]


def _earlier_line(child: AgentRow, turn: TurnRow) -> str:
    reason = "" if turn.status == TurnStatus.COMPLETE else with_detail(turn.reason, ForeignText(turn.detail))
    cost = shown_cost(None if turn.cost_unknown else turn.cost_usd)
    return f"[{child.name} turn {turn.ordinal} {turn.status}{f' ({reason})' if reason else ''} · {cost}]"
