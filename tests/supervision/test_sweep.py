"""What a sweep kills, and above all what it does not: a stranger who has the process id now."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.supervision import sweep
from orchestrator.supervision.sweep import Trace
from orchestrator.supervision.tiers import MARKER
from tests.fixtures.daemon import wait_until
from tests.fixtures.leavers import Leavers
from tests.supervision.leaver import KINDS, ROOTLESS

pytestmark = [
    pytest.mark.requirement("I4-reap-orphans"),
    pytest.mark.skipif(sys.platform != "linux", reason="a sweep needs /proc"),
]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing, with a marker in its environment."""
    with subprocess.Popen(["sleep", "300"], env={MARKER: "word", "PATH": os.environ["PATH"]}) as process:
        wait_until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n", "the sleeper")
        yield process
        process.kill()


def test_a_process_is_known_by_its_id_and_its_start(sleeper: subprocess.Popen[bytes]) -> None:
    started = sweep.started(sleeper.pid, parent=os.getpid())
    assert int(started) > 0
    assert sweep.started(sleeper.pid, parent=1) == ""
    assert sweep.sweep([Trace(pid=sleeper.pid, started=started)]) == 1
    assert sleeper.wait(10) < 0
    assert sweep.started(sleeper.pid, parent=os.getpid()) == ""


def test_a_stranger_who_has_the_id_now_is_not_touched(sleeper: subprocess.Popen[bytes]) -> None:
    started = sweep.started(sleeper.pid, parent=os.getpid())
    before = str(int(started) - 1)
    assert sweep.sweep([Trace(pid=sleeper.pid, started=before), Trace(pid=sleeper.pid), Trace(marker="wor")]) == 0
    assert sleeper.poll() is None


def test_what_lost_its_ancestors_is_found_by_its_marker(sleeper: subprocess.Popen[bytes]) -> None:
    assert sweep.sweep([Trace(pid=4_000_000, started="1", marker="word")]) == 1
    assert sleeper.wait(10) < 0


def test_all_that_descends_from_an_orphan_ends_with_it(leavers: Leavers) -> None:
    command = ["sh", "-c", f"{leavers.command}; sleep 300"]
    with subprocess.Popen(command, env={MARKER: "word", "PATH": os.environ["PATH"]}) as process:
        leavers.wait_all()
        started = sweep.started(process.pid, parent=os.getpid())
        killed = sweep.sweep([Trace(pid=process.pid, started=started, marker="word")])
        leavers.wait_gone(but=ROOTLESS)  # without a shim nobody can find these
        assert killed >= len(KINDS) - len(ROOTLESS)


def test_nothing_to_sweep_takes_no_time_and_kills_nobody() -> None:
    assert sweep.sweep([]) == 0
    assert sweep.boot() == sweep.boot() != ""


def test_descent_is_told_by_the_kernel(sleeper: subprocess.Popen[bytes]) -> None:
    assert sweep.is_below(sleeper.pid, os.getpid()) is True
    assert sweep.is_below(sleeper.pid, sleeper.pid) is False
    assert sweep.is_below(os.getpid(), sleeper.pid) is False
    sleeper.kill()
    sleeper.wait()
    assert sweep.is_below(sleeper.pid, os.getpid()) is None
