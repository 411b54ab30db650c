"""Builds views of agents from rows; pure, with the time as a parameter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

from orchestrator.domain.activity import ActivityKind, Patience, activity_words
from orchestrator.domain.agent import OPEN, Status
from orchestrator.domain.budget import Headroom
from orchestrator.domain.check import check_of
from orchestrator.domain.question import QuestionKind, shown_text
from orchestrator.domain.text import NO_TEXT, ForeignText, storable_value
from orchestrator.domain.tool import Caller
from orchestrator.domain.wait import wait_words
from orchestrator.fleet.projections import budget_views
from orchestrator.fleet.state_views import ActivityView, PastQuestionView, ProgressView, QuestionView, WaitView
from orchestrator.fleet.views import (
    AgentView,
    Bottleneck,
    ChangesAsked,
    Totals,
)
from orchestrator.provisioning import worktrees
from orchestrator.provisioning.checkouts import checkout_of
from orchestrator.store.engine.connection import Connection
from orchestrator.store.queries import agents as agent_queries
from orchestrator.store.queries import outcomes
from orchestrator.store.queries.agents import Span
from orchestrator.store.queries.totals import Block, Sum
from orchestrator.store.schema.rows import AgentRow, InputRow, QuestionRow
from orchestrator.store.schema.states import activity_of, wait_of


def iso(at: float) -> str:
    """Return the time as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows and figures that the views of some agents are built from."""

    agents: Sequence[AgentRow]
    spans: Mapping[str, Span]
    inputs: Sequence[InputRow]
    names: Mapping[str, str]
    changes: Mapping[str, ChangesAsked]
    """the changes that a blocking input asks for, by its id"""
    files: Mapping[tuple[str, str], int]
    written: Mapping[str, int] = field(default_factory=dict[str, int])
    """files that each working agent wrote since its last sign of progress"""
    check_seconds: Mapping[str, float] = field(default_factory=dict[str, float])
    """how long one check of each agent that is being checked may take"""
    unread: Mapping[str, int] = field(default_factory=dict[str, int])
    """how many ended turns of each agent have not been delivered"""
    rooms: Mapping[str, Sequence[Headroom]] = field(default_factory=dict[str, "Sequence[Headroom]"])


def rows_of(connection: Connection, agents: Sequence[AgentRow], *, files: bool = True) -> Rows:
    """Read what the views of these agents need; without `files`, the files that they touched are not counted."""
    ids = [agent.id for agent in agents]
    inputs = agent_queries.inputs(connection, ids)
    fixers = outcomes.fixers(connection, {row.source_id for row in inputs if row.blocked})
    reviewed = agent_queries.inputs(connection, [reviewer for reviewer, fixer in fixers.items() if not fixer])
    known = {agent.id: agent.name for agent in agents}
    others = {row.source_id for row in (*inputs, *reviewed)} | {
        agent.parent for agent in agents if agent.parent is not None
    }
    names = known | agent_queries.names(connection, others - known.keys())
    return Rows(
        agents=agents,
        spans=agent_queries.spans(connection, ids),
        inputs=inputs,
        names=names,
        changes={one: _changes(names, one, fixer, reviewed) for one, fixer in fixers.items()},
        files=agent_queries.file_counts(connection, ids) if files else {},
        written=agent_queries.written_since(
            connection, {a.id: _since(a) for a in agents if a.status == Status.WORKING}
        ),
        check_seconds=_check_seconds(connection, [a.id for a in agents if a.activity == ActivityKind.CHECKING]),
        unread=outcomes.unread_counts(connection, ids),
        rooms=budget_views.rooms_of(connection, agents),
    )


def _changes(names: Mapping[str, str], reviewer: str, fixer: str, reviewed: Sequence[InputRow]) -> ChangesAsked:
    """Say who makes the changes: the fixer, or the one agent that had to complete before the review."""
    mine = [row for row in reviewed if row.agent_id == reviewer]
    last = max((row.turn for row in mine), default=0)
    builders = [names[row.source_id] for row in mine if row.turn == last and not row.any_end]
    builder = fixer or (builders[0] if len(builders) == 1 else "")
    return ChangesAsked(reviewer=names[reviewer], builder=builder, is_commanded=bool(fixer))


def _check_seconds(connection: Connection, ids: Sequence[str]) -> dict[str, float]:
    checks = agent_queries.running_checks(connection, ids)
    return {key: max((check_of(row).timeout_seconds for row in rows), default=0.0) for key, rows in checks.items()}


def counted(unread: Mapping[str, int]) -> list[str]:
    """Return the names of these agents, with the number of unread turns if it is more than one."""
    return [f"{name} ({count})" if count > 1 else name for name, count in unread.items()]


def place_of(agent: AgentRow) -> str:
    """Return where the agent works, with the branch, if that is not the directory of its project; otherwise ''."""
    return worktrees.place_of(Path(agent.project), Path(agent.cwd))


def branch_at(cwd: str) -> ForeignText:
    """Return what is checked out there: a branch, or the beginning of a commit; empty if nothing is known."""
    checkout = checkout_of(Path(cwd))
    return ForeignText(worktrees.branch_of(checkout)) if checkout else NO_TEXT


def with_branches(agents: Sequence[AgentView]) -> tuple[AgentView, ...]:
    """Return the agents with what is checked out where they work."""
    branches = {cwd: branch_at(cwd) for cwd in {agent.cwd for agent in agents}}
    return tuple(agent.model_copy(update={"branch": branches[agent.cwd]}) for agent in agents)


def views(rows: Rows, caller: Caller, now: float, patience: Patience) -> tuple[AgentView, ...]:
    """Return the agents as their caller sees them; an activity is `unknown` if the last sign of life is too old."""
    return tuple(_view(rows, agent, caller, now, patience) for agent in rows.agents)


def _view(rows: Rows, agent: AgentRow, caller: Caller, now: float, patience: Patience) -> AgentView:
    return AgentView(
        id=agent.id,
        name=agent.name,
        persona=agent.persona,
        persona_origin=ForeignText(str(agent.persona_body.get("origin", ""))),
        provider=agent.provider,
        model=agent.model,
        status=agent.status,
        **_state(agent, now, patience, rows.check_seconds.get(agent.id, 0.0)),
        age_seconds=max(0.0, now - agent.changed_at),
        own=agent.orchestrator == caller.orchestrator,
        orchestrator=agent.orchestrator,
        project=agent.project,
        cwd=agent.cwd,
        place=place_of(agent),
        turn=agent.turns,
        elapsed_seconds=_elapsed(rows.spans.get(agent.id), now),
        progress=ForeignText(agent.progress),
        last_tool=ForeignText(agent.last_tool),
        last_event_age_seconds=None if agent.last_event_at is None else max(0.0, now - agent.last_event_at),
        evidence=_evidence(rows, agent, now),
        tool_calls=agent.tool_calls,
        **_figures(agent),
        **_inputs(rows, agent),
        briefs_of=tuple(brief["of"] for brief in agent.briefs or ()),
        question=question_of(agent, now),
        parent=rows.names.get(agent.parent) if agent.parent else None,
        **budget_views.columns_of(agent, rows.rooms.get(agent.id, ())),
        unread=rows.unread.get(agent.id, 0),
        files_consumed=rows.files.get((agent.id, "consumed"), 0),
        files_produced=rows.files.get((agent.id, "produced"), 0),
        created_at=iso(agent.created_at),
        rehearsal=agent.rehearsal,
    )


class _Figures(TypedDict):
    context_tokens: int | None
    context_window_tokens: int | None
    tokens: int
    cost_usd: float | None
    cost_unknown: bool


def _figures(agent: AgentRow) -> _Figures:
    """Return what it has used so far; None means unknown."""
    return {
        "context_tokens": agent.context_tokens,
        "context_window_tokens": agent.context_window_tokens,
        "tokens": agent.tokens + agent.live_tokens,
        "cost_usd": cost_of(agent),
        "cost_unknown": cost_of(agent) is None,
    }


class _Inputs(TypedDict):
    waits_for: tuple[str, ...]
    blocked_by: tuple[str, ...]
    changes: tuple[ChangesAsked, ...]
    inputs: tuple[str, ...]


def _inputs(rows: Rows, agent: AgentRow) -> _Inputs:
    """Return the names of the agents whose results it takes, and which of them it waits for."""
    mine = [row for row in rows.inputs if row.agent_id == agent.id]
    unsettled = [row for row in mine if not row.settled and _open(agent)]
    turn = unsettled[0].turn if unsettled else max((row.turn for row in mine), default=0)
    return {
        "waits_for": tuple(rows.names[row.source_id] for row in unsettled),
        "blocked_by": tuple(rows.names[row.source_id] for row in unsettled if row.blocked),
        "changes": tuple(
            rows.changes[row.source_id] for row in unsettled if row.blocked and row.source_id in rows.changes
        ),
        "inputs": tuple(rows.names[row.source_id] for row in mine if row.turn == turn),
    }


class _State(TypedDict):
    """Return the fields of a view that say why an agent waits, what it does, or why it ended."""

    wait: WaitView | None
    activity: ActivityView | None
    reason: str


def _state(agent: AgentRow, now: float, patience: Patience, check_seconds: float) -> _State:
    if (wait := wait_of(agent)) is not None:
        until = None if wait.until is None else iso(wait.until)
        told = WaitView(kind=wait.kind, on=wait.on, until=until, detail=ForeignText(wait.detail), blocked=wait.blocked)
        return {"wait": told, "activity": None, "reason": wait_words(wait)}
    if agent.status is not Status.WORKING:
        return {"wait": None, "activity": None, "reason": agent.reason}
    quiet = now - max(agent.changed_at, agent.last_event_at or 0.0)
    found = patience.staleness(activity_of(agent), quiet, in_tool=agent.open_tools > 0, check_seconds=check_seconds)
    shown = (
        ActivityView(kind=found.kind, detail=ForeignText(found.detail), seconds=found.seconds) if found.kind else None
    )
    return {"wait": None, "activity": shown, "reason": activity_words(found)}


def words_of(agent: AgentRow) -> str:
    """Return the agent's wait, activity or end in words; '' if there is none."""
    wait = wait_of(agent)
    if wait is not None:
        return wait_words(wait)
    return activity_words(activity_of(agent)) or agent.reason


def _since(agent: AgentRow) -> float:
    """The time from which its progress is measured."""
    return max(agent.progress_at or 0.0, agent.running_since or 0.0)


def _evidence(rows: Rows, agent: AgentRow, now: float) -> ProgressView | None:
    if agent.status is not Status.WORKING:
        return None
    used = agent.tokens + agent.live_tokens
    return ProgressView(
        progress_age_seconds=None if agent.progress_at is None else max(0.0, now - agent.progress_at),
        tool_age_seconds=None if agent.tool_at is None else max(0.0, now - agent.tool_at),
        in_tool=agent.open_tools > 0,
        tokens_since_progress=max(0, used - agent.progress_tokens),
        tokens_since_tool=max(0, used - agent.tool_tokens),
        files_since_progress=rows.written.get(agent.id, 0),
        same_calls=agent.same_calls,
    )


def cost_of(agent: AgentRow) -> float | None:
    """Return the agent's cost with its turn at work; None while unknown (the store's totals do the same in SQL)."""
    untold = agent.running_since is not None and agent.live_cost_usd == 0 and (agent.live_tokens or not agent.tokens)
    return None if agent.cost_unknown or untold else agent.cost_usd + agent.live_cost_usd


def _open(agent: AgentRow) -> bool:
    return agent.status in OPEN


def _elapsed(turn: Span | None, now: float) -> float | None:
    if turn is None or turn.started_at is None:
        return None
    return max(0.0, (turn.ended_at or now) - turn.started_at)


def question_of(agent: AgentRow, now: float) -> QuestionView | None:
    """Return the agent's open question or permission."""
    pending = agent.pending
    if agent.status is not Status.WAITING or not pending:
        return None
    deadline = pending["deadline_at"]
    is_permission = pending["kind"] == QuestionKind.PERMISSION
    return QuestionView(
        text=ForeignText(shown_text(pending["tool"], pending["input"]) if is_permission else pending["text"]),
        options=tuple(map(ForeignText, pending["options"])),
        age_seconds=max(0.0, now - pending["asked_at"]),
        id=pending["id"],
        kind=pending["kind"],
        tool=ForeignText(pending["tool"]),
        deadline_seconds=None if deadline is None else max(0.0, deadline - now),
        fallback=ForeignText(pending["fallback"]) if deadline is not None else NO_TEXT,
    )


def asked_view(question: QuestionRow) -> PastQuestionView:
    """Return an entry of the inbox as readers see it."""
    return PastQuestionView(
        id=question.id,
        turn=question.turn,
        kind=question.kind,
        tool=ForeignText(question.tool),
        input={key: storable_value(value) for key, value in question.input.items()},
        text=ForeignText(question.text),
        state=question.state,
        asked_at=iso(question.asked_at),
        deadline_at=None if question.deadline_at is None else iso(question.deadline_at),
        answer=None if question.answer is None else ForeignText(question.answer),
        answered_at=None if question.answered_at is None else iso(question.answered_at),
        answered_by=question.answered_by,
    )


def totals(agents: Iterable[AgentView], slots: int) -> Totals:
    """Return the sum over these agents; a cost is unknown as soon as one agent's is."""
    all_agents = list(agents)
    by_status = _in_order(Counter(agent.status for agent in all_agents))
    costs = [agent.cost_usd for agent in all_agents]
    known = [cost for cost in costs if cost is not None]
    return Totals(
        agents=len(all_agents),
        by_status=by_status,
        tokens=sum(agent.tokens for agent in all_agents),
        context_tokens=sum(agent.context_tokens or 0 for agent in all_agents),
        cost_usd=None if None in costs else sum(known),
        known_cost_usd=sum(known),
        working=by_status.get(Status.WORKING, 0),
        slots=slots,
        rehearsal=any(agent.rehearsal for agent in all_agents),
    )


def summed(sums: Sequence[Sum], slots: int) -> Totals:
    """Return the totals of agents that the store has added up."""
    cost = sum(one.known_cost_usd for one in sums)
    counts = Counter[str]()
    for one in sums:
        counts[one.status] += one.agents
    return Totals(
        agents=counts.total(),
        by_status=_in_order(counts),
        tokens=sum(one.tokens for one in sums),
        context_tokens=sum(one.context_tokens for one in sums),
        cost_usd=None if any(one.unknown_costs for one in sums) else cost,
        known_cost_usd=cost,
        working=counts[Status.WORKING],
        slots=slots,
        rehearsal=any(one.rehearsal for one in sums),
    )


def _in_order(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the counts by status: working and waiting agents first, then as in `Status`."""
    first = (Status.WORKING, Status.WAITING)
    order = (*first, *(status for status in Status if status not in first))
    return {str(status): counts[status] for status in order if counts.get(status)}


def bottlenecks(blocks: Iterable[Block], now: float) -> tuple[Bottleneck, ...]:
    """Return the agents that others wait for, the one that blocks most first."""
    blocked: dict[str, list[Block]] = {}
    for block in blocks:
        blocked.setdefault(block.name, []).append(block)
    found = [
        Bottleneck(
            name=name,
            status=behind[0].status,
            elapsed_seconds=_elapsed(Span(behind[0].started_at, behind[0].ended_at), now),
            blocks=tuple(block.waiter for block in behind),
        )
        for name, behind in blocked.items()
    ]
    return tuple(sorted(found, key=lambda one: -len(one.blocks)))
