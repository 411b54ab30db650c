"""Whose a changed file is, by tool calls."""

from __future__ import annotations

import pytest

from orchestrator.domain.attribution import EARLY_SECONDS, Origin, WriteEvidence, may_write_anything


@pytest.mark.parametrize(
    ("evidence", "at", "origin"),
    [
        (WriteEvidence(own=frozenset({"/x"})), 5.0, Origin.OWN),
        (WriteEvidence(own=frozenset({"/x"}), others={"/x": "b"}), 5.0, Origin.SHARED),
        (WriteEvidence(others={"/x": "b"}, spans=[(1, 9)]), 5.0, Origin.OTHERS),
        (WriteEvidence(), 5.0, Origin.OTHERS),
        (WriteEvidence(spans=[(1, 9)]), 5.0, Origin.OWN),
        (WriteEvidence(spans=[(1, 9)]), None, Origin.OWN),
        (WriteEvidence(spans=[(1, 9)]), 50.0, Origin.SHARED),
        (WriteEvidence(spans=[(1, 9)], writers=["b"]), 5.0, Origin.SHARED),
    ],
)
@pytest.mark.requirement("checkout:changes:attributed")
def test_the_origin_follows_from_the_calls(evidence: WriteEvidence, at: float | None, origin: Origin) -> None:
    assert evidence.origin("/x", at) is origin


@pytest.mark.parametrize(
    ("tool", "may"),
    [("Bash", True), ("Agent", True), ("mcp__x__y", True), ("Read", False), ("Edit", False), ("mcp__crew__ask", False)],
)
def test_every_tool_that_is_not_known_to_be_harmless_may_write(tool: str, may: bool) -> None:
    assert may_write_anything(tool) is may


@pytest.mark.parametrize(
    ("logged_at", "origin"), [(10.0, Origin.OWN), (9.0, Origin.SHARED), (21.0, Origin.OWN), (22.0, Origin.SHARED)]
)
@pytest.mark.requirement("checkout:changes:attributed")
def test_a_time_in_whole_seconds_stands_for_all_of_its_second(logged_at: float, origin: Origin) -> None:
    evidence = WriteEvidence(spans=[(10.05 + EARLY_SECONDS, 20.0)])
    assert evidence.origin_by_time(logged_at, unit_seconds=1.0) is origin


@pytest.mark.requirement("checkout:changes:attributed")
def test_a_call_may_begin_some_seconds_before_a_busy_machine_tells_of_it() -> None:
    assert WriteEvidence(spans=[(10.0, 20.0)]).origin("/x", 6.0) is Origin.OWN
