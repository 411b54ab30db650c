"""The official suite finds what the baseline says; `make conformance` installs it and tells the same in figures."""

from __future__ import annotations

import pytest

from tests.conformance import run


@pytest.mark.requirement("I4-conformance")
@pytest.mark.parametrize("kind", run.KINDS)
@pytest.mark.parametrize("wire", run.WIRES)
def test_the_official_suite_finds_what_the_baseline_says(kind: str, wire: str) -> None:
    if not run.TOOLS.exists():
        pytest.skip("the suite is not installed: make conformance")
    with run.server(kind) as url:
        found = run.play(run.install(), url, wire)
    assert found
    assert run.judge(found, run.expected(kind)) == []


def test_what_differs_from_the_baseline_is_told() -> None:
    found = {"known": ["a"], "mended": list[str](), "new": ["b", "c"], "fine": list[str]()}
    differs = run.judge(found, {"known": "because", "mended": "because", "elsewhere": "because"})
    assert differs == ["new fails: b, c", "mended passes now: take it out of the baseline"]
