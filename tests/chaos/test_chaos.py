"""A short chaos run in every test run; `make chaos` runs longer."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.fixtures.daemon import ROOT

LINE = re.compile(
    r"chaos: kills=(\d+) accepted=(\d+) finished=(\d+) lost=0 double=0 processes_left=0 leases_left=0 untrue_status=0"
)


@pytest.mark.requirement(
    "fault:chaos:nothing-lost",
    "turn:outcome:one-notice-per-turn",
    "guarantee:durability:ok-survives-any-crash",
    "guarantee:session:one-live-per-agent",
)
@pytest.mark.timeout(360)
def test_a_few_kills_at_random_lose_nothing_and_leave_nothing() -> None:
    command = [sys.executable, "-m", "tests.chaos", "--kills", "5", "--seed", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=340, check=False)

    found = LINE.fullmatch(done.stdout.splitlines()[-1])
    assert found is not None, done.stdout[-2_000:] + done.stderr[-1_000:]
    kills, accepted, finished = map(int, found.groups())
    assert (kills, finished) == (5, accepted)
    assert accepted >= 4
    assert done.returncode == 0
