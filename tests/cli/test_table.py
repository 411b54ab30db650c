from __future__ import annotations

import pytest

from orchestrator.cli.render.table import context_bar, group_of, status_words, totals_line
from orchestrator.fleet.state_views import WaitView
from orchestrator.fleet.views import AgentView, Totals


def _agent(**facts: object) -> AgentView:
    plain: dict[str, object] = {
        "id": "ag_1",
        "name": "one",
        "persona": "scout",
        "provider": "claude",
        "model": None,
        "status": "working",
        "age_seconds": 65.0,
        "own": True,
        "orchestrator": "cli",
        "project": "/p",
        "cwd": "/p",
        "turn": 1,
        "elapsed_seconds": 65.0,
        "created_at": "2026-01-01T00:00:00+00:00",
    }
    return AgentView.model_validate(plain | facts)


@pytest.mark.parametrize(
    ("status", "wait", "group"),
    [
        ("waiting", WaitView(kind="question"), "Needs you"),
        ("waiting", WaitView(kind="account"), "Needs you"),
        ("waiting", WaitView(kind="quota"), "Queued"),
        ("waiting", WaitView(kind="overload"), "Queued"),
        ("waiting", WaitView(kind="quota", blocked=True), "Needs you"),
        ("waiting", WaitView(kind="budget"), "Needs you"),
        ("waiting", WaitView(kind="agents"), "Working"),
        ("waiting", WaitView(kind="children"), "Working"),
        ("queued", WaitView(kind="inputs", on="scout-1", blocked=True), "Needs you"),
        ("queued", WaitView(kind="inputs", on="scout-1"), "Queued"),
        ("queued", WaitView(kind="slot"), "Queued"),
        ("creating", None, "Working"),
        ("working", None, "Working"),
        ("idle", None, "Done"),
        ("complete", None, "Done"),
        ("failed", None, "Done"),
        ("interrupted", None, "Done"),
        ("deleted", None, "Done"),
    ],
)
def test_every_status_has_a_group_and_what_cannot_go_on_alone_needs_you(
    status: str, wait: WaitView | None, group: str
) -> None:
    assert group_of(_agent(status=status, wait=wait)) == group


def test_a_status_carries_its_reason_and_its_age() -> None:
    assert status_words(_agent()) == "working (1m05s)"
    assert status_words(_agent(reason="retrying 3/10")) == "working (retrying 3/10, 1m05s)"


@pytest.mark.parametrize(
    ("tokens", "window", "bar"),
    [
        (None, 200_000, "?"),
        (1000, None, "?"),
        (0, 200_000, "░░░░░░ 0%"),
        (100_000, 200_000, "███░░░ 50%"),
        (300_000, 200_000, "██████ 100%"),
    ],
)
def test_an_unknown_context_is_unknown_and_never_empty(tokens: int | None, window: int | None, bar: str) -> None:
    assert context_bar(tokens, window) == bar


def test_a_total_with_an_unknown_cost_says_so() -> None:
    known = Totals(
        agents=2,
        by_status={"working": 2},
        tokens=1500,
        context_tokens=900,
        cost_usd=0.5,
        known_cost_usd=0.5,
        working=2,
        slots=8,
        tier="B",
    )
    assert "slots" not in totals_line(known)
    assert "$0.50" in totals_line(known)
    assert "unknown" not in totals_line(known)
    assert "$0.50 + unknown" in totals_line(known.model_copy(update={"cost_usd": None}))
    nothing = totals_line(known.model_copy(update={"cost_usd": None, "known_cost_usd": 0.0}))
    assert "cost unknown" in nothing
    assert "rehearsal" in totals_line(known.model_copy(update={"rehearsal": True}))
