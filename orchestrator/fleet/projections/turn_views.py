"""Turns turned into views: how each ran, how it ended, what it changed and which checks it passed."""

from __future__ import annotations

from typing import TypedDict

from orchestrator.domain.check import CheckRound, check_of, round_of
from orchestrator.domain.text import NO_TEXT, ForeignText
from orchestrator.domain.turn import TURN_OPEN, TurnStatus
from orchestrator.fleet.digest_views import OpenTurnView, OutcomeView
from orchestrator.fleet.projections.agent_views import iso, place_of
from orchestrator.fleet.views import (
    AttemptView,
    Changes,
    CheckView,
    TurnView,
)
from orchestrator.store.queries.outcomes import LatestTurns
from orchestrator.store.schema.rows import AgentRow, TurnRow

NEVER_BEGAN = "before it began"
"""the reason of a turn that was cancelled while queued"""


def turn_view(turn: TurnRow) -> TurnView:
    """Return the turn as readers see it."""
    ended = turn.status not in TURN_OPEN
    known = not turn.cost_unknown and (ended or turn.model_calls > 0)
    return TurnView(
        id=turn.id,
        turn=turn.ordinal,
        status=turn.status,
        reason=turn.reason,
        detail=ForeignText(turn.detail),
        task=ForeignText(turn.prompt),
        result=ForeignText(turn.result),
        created_at=iso(turn.created_at),
        started_at=iso(turn.started_at) if turn.started_at else None,
        ended_at=iso(turn.ended_at) if turn.ended_at else None,
        input_tokens=turn.input_tokens,
        output_tokens=turn.output_tokens,
        cache_read_tokens=turn.cache_read_tokens,
        cache_write_tokens=turn.cache_write_tokens,
        model_calls=turn.model_calls,
        cost_usd=turn.cost_usd if known else None,
        changes=changes_of(turn),
        changes_unknown=ForeignText(turn.changes_unknown),
        checks=tuple(ForeignText(check_of(one).title) for one in turn.checks or ()),
        checked=tuple(_attempt_view(round_of(row)) for row in turn.checked or ()),
    )


def _attempt_view(attempt: CheckRound) -> AttemptView:
    checks = tuple(CheckView.model_validate(vars(receipt)) for receipt in attempt.receipts)
    return AttemptView(attempt=attempt.number, at=iso(attempt.at), passed=attempt.passed, checks=checks)


def outcome_view(
    agent: AgentRow,
    turn: TurnRow,
    now: float,
    *,
    changes: Changes | None,
    handed_on: bool,
    latest: LatestTurns | None,
) -> OutcomeView:
    """Return the outcome of the turn for its orchestrator; a turn that never began has neither changes nor result."""
    started, ended = turn.started_at, turn.ended_at or now
    ahead = latest.open if latest is not None else None
    return OutcomeView(
        name=agent.name,
        id=agent.id,
        status=TurnStatus.INTERRUPTED if turn.status == TurnStatus.CANCELLED else turn.status,
        **_why_ended(turn),
        turn=turn.ordinal,
        is_latest=latest is None or latest.ended_id in {None, turn.id},
        open_turn=None if ahead is None else OpenTurnView(turn=ahead.ordinal, status=ahead.status),
        text=ForeignText(turn.result),
        cost_usd=None if turn.cost_unknown else turn.cost_usd,
        changes=changes,
        changes_unknown=ForeignText(turn.changes_unknown),
        age_seconds=max(0.0, now - ended),
        elapsed_seconds=None if started is None else max(0.0, ended - started),
        checks=checks_of(turn),
        handed_on=handed_on,
        place=place_of(agent),
    )


class _Why(TypedDict):
    reason: str
    detail: ForeignText
    hint: ForeignText


def _why_ended(turn: TurnRow) -> _Why:
    if turn.status == TurnStatus.CANCELLED:
        return {"reason": NEVER_BEGAN, "detail": NO_TEXT, "hint": NO_TEXT}
    if turn.status == TurnStatus.COMPLETE:
        return {"reason": "", "detail": NO_TEXT, "hint": NO_TEXT}
    return {"reason": turn.reason, "detail": ForeignText(turn.detail), "hint": ForeignText(turn.hint)}


def checks_of(turn: TurnRow | None) -> tuple[CheckView, ...]:
    """Return how the last attempt at the turn's checks ended."""
    rows = (turn.checked or []) if turn is not None else []
    return _attempt_view(round_of(rows[-1])).checks if rows else ()


def changes_of(turn: TurnRow, where: str = "") -> Changes | None:
    """Return what the turn changed; None if git could not tell."""
    if turn.changes is None:
        return None
    return Changes.model_validate({**turn.changes, "where": where})
