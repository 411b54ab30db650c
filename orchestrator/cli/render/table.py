"""Renders the fleet as a table: Needs you, Working, Queued, Done. Pure: takes views, returns renderables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from orchestrator.domain.duration import format_age
from orchestrator.domain.text import named, one_line, quantity
from orchestrator.domain.usage import shown_cost, shown_tokens
from orchestrator.domain.wait import NEEDS_ACTION, ON_OTHERS

if TYPE_CHECKING:
    from orchestrator.fleet.views import AgentView, FleetView, Totals

GROUPS = ("Needs you", "Working", "Queued", "Done")
_STYLES = {"Needs you": "bold yellow", "Working": "bold green", "Queued": "bold blue", "Done": "bold"}
_COLUMNS = ("name", "status", "persona", "model", "context", "tokens", "cost", "last tool", "waits for")
_RIGHT = {"tokens", "cost"}
_BAR_CELLS = 6


def group_of(agent: AgentView) -> str:
    """Return the agent's group; a wait that ends on its own, such as for a quota's reset, counts as queued."""
    wait = agent.wait
    if wait is not None and wait.kind in ON_OTHERS:
        return "Working"  # other agents work for it
    if wait is not None and (wait.kind in NEEDS_ACTION or wait.blocked):
        return "Needs you"
    if agent.status in {"creating", "working"}:
        return "Working"
    return "Queued" if agent.status in {"queued", "waiting"} else "Done"


def fleet_table(view: FleetView, *, projects: bool = False) -> Table:
    """Build one table with a heading row per non-empty group; within a group, the oldest agent comes first.

    `projects` adds a column with the project.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    columns = (*_COLUMNS, "project") if projects else _COLUMNS
    for name in columns:
        table.add_column(name, justify="right" if name in _RIGHT else "left", no_wrap=True, overflow="ellipsis")
    for group in GROUPS:
        members = sorted((a for a in view.agents if group_of(a) == group), key=lambda a: (a.created_at, a.id))
        if members:
            table.add_row(Text(f"{group} ({len(members)})", style=_STYLES[group]))
        for agent in members:
            table.add_row(*_cells(agent), *([Text(named(agent.project, 60))] if projects else []))
    return table


def _cells(agent: AgentView) -> Iterable[Text]:
    name = f"  {agent.name}" if agent.own else f"  {agent.name} (of {named(agent.orchestrator, 40)})"
    cost = shown_cost(agent.cost_usd) if agent.cost_usd is not None else "unknown"
    cells = (
        name,
        status_words(agent),
        named(agent.persona),
        named(agent.model) if agent.model else "?",
        context_bar(agent.context_tokens, agent.context_window_tokens),
        shown_tokens(agent.tokens),
        f"{cost}*" if agent.rehearsal else cost,
        named(agent.last_tool, 70) if agent.last_tool else "",
        ", ".join(agent.waits_for),
    )
    return (Text(one_line(cell, 72) if index else name) for index, cell in enumerate(cells))


def status_words(agent: AgentView) -> str:
    """The status with its reason and age in brackets: `waiting (question, 12s)`."""
    age = format_age(agent.age_seconds)
    inside = f"{agent.reason}, {age}" if agent.reason else age
    return f"{agent.status} ({inside})"


def context_bar(tokens: int | None, window: int | None) -> str:
    """Context use as a bar and per cent; ? if used or available tokens are unknown."""
    if tokens is None or not window:
        return "?"
    part = min(1.0, tokens / window)
    full = round(part * _BAR_CELLS)
    return f"{'█' * full}{'░' * (_BAR_CELLS - full)} {part:.0%}"


def totals_line(totals: Totals) -> str:
    """Return the totals in one line: agents by status, slots if all are taken, tokens, cost, rehearsal."""
    states = ", ".join(f"{count} {status}" for status, count in totals.by_status.items())
    cost = shown_cost(totals.cost_usd)
    if totals.cost_usd is None and totals.known_cost_usd:
        cost = f"{shown_cost(totals.known_cost_usd)} + unknown"
    parts = [
        quantity(totals.agents, "agent") + (f" ({states})" if states else ""),
        *([f"all {totals.slots} slots at work"] if totals.working >= totals.slots else []),
        f"{shown_tokens(totals.tokens)} tokens",
        cost,
    ]
    return " · ".join(parts) + (" · * rehearsal: nothing was paid" if totals.rehearsal else "")
