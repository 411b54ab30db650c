"""Whether anything of a session still runs is said only where the process table shows it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

from orchestrator.supervision.settled import left_running

pytestmark = pytest.mark.requirement("turn:outcome:nothing-of-it-runs")


def test_a_living_process_that_the_table_hides_counts_as_left_running(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Callable[[str], bool] = os.path.exists

    def as_hidepid(path: str) -> bool:
        return seen(path) and str(hidden.pid) not in path

    with subprocess.Popen(["sleep", "60"]) as hidden:
        try:
            assert left_running(hidden.pid) == set(), "it is the only one of its session"
            monkeypatch.setattr(os.path, "exists", as_hidepid)
            assert left_running(hidden.pid) == {hidden.pid}
        finally:
            hidden.kill()
    assert left_running(hidden.pid) == set(), "it has ended"
