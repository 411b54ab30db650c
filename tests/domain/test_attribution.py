"""Whose a changed file is, by tool calls."""

from __future__ import annotations

import pytest

from orchestrator.domain.attribution import Origin, WriteEvidence, may_write_anything


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
