"""The official suite passes as the baseline says; `make conformance` installs it and prints the same figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance import run


@pytest.mark.requirement("mcp:conformance:both-wires")
@pytest.mark.parametrize("kind", run.KINDS)
@pytest.mark.parametrize("wire", run.WIRES)
def test_the_official_suite_finds_what_the_baseline_says(kind: str, wire: str) -> None:
    command = run.suite()
    if command is None:
        pytest.skip("the suite is not installed: make conformance")
    with run.server(kind) as url:
        found = run.play(command, url, wire)
    assert found
    assert run.judge(found, run.expected(kind)) == []


def test_with_the_fixtures_every_scenario_that_the_suite_can_play_passes() -> None:
    """The baseline of the fixtures excuses nothing but what the suite itself leaves out."""
    assert run.expected("fixtures") == {"tasks-status-notifications": frozenset({"tasks-status-notifications"})}


def test_without_npm_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run, "TOOLS", tmp_path / "tools")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="make conformance needs npm on PATH: install Node"):
        run.install()
    assert not (tmp_path / "tools").exists()


def test_what_differs_from_the_baseline_is_told_check_by_check() -> None:
    found = {
        "known": run.Scenario(3, frozenset({"a", "new"})),
        "mended": run.Scenario(1, frozenset()),
        "fine": run.Scenario(2, frozenset()),
    }
    known = {"known": frozenset({"a"}), "mended": frozenset({"b"}), "elsewhere": frozenset({"c"})}
    differs = ["known: new fails", "mended: b passes, take it out of the baseline"]
    assert run.judge(found, known) == differs
