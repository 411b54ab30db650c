"""What the reaper kills, and above all what it does not: a stranger that has reused the process id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.supervision import reaper
from orchestrator.supervision.reaper import ProcessIdentity
from orchestrator.supervision.tiers import MARKER, launcher_environment, write_launcher
from tests.fixtures.daemon import wait_until
from tests.fixtures.leavers import Leavers
from tests.supervision.leaver import KINDS, ROOTLESS

pytestmark = [
    pytest.mark.requirement("process:orphans:die-at-start"),
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
    started = reaper.start_time(sleeper.pid, parent=os.getpid())
    assert int(started) > 0
    assert reaper.start_time(sleeper.pid, parent=1) == ""
    assert reaper.reap([ProcessIdentity(pid=sleeper.pid, start_time=started)]) == 1
    assert sleeper.wait(10) < 0
    assert reaper.start_time(sleeper.pid, parent=os.getpid()) == ""


def test_a_stranger_who_has_the_id_now_is_not_touched(sleeper: subprocess.Popen[bytes]) -> None:
    started = reaper.start_time(sleeper.pid, parent=os.getpid())
    before = str(int(started) - 1)
    assert (
        reaper.reap(
            [
                ProcessIdentity(pid=sleeper.pid, start_time=before),
                ProcessIdentity(pid=sleeper.pid),
                ProcessIdentity(marker="wor"),
            ]
        )
        == 0
    )
    assert sleeper.poll() is None


def test_what_lost_its_ancestors_is_found_by_its_marker(sleeper: subprocess.Popen[bytes]) -> None:
    assert reaper.reap([ProcessIdentity(pid=4_000_000, start_time="1", marker="word")]) == 1
    assert sleeper.wait(10) < 0


def test_all_that_descends_from_an_orphan_ends_with_it(leavers: Leavers) -> None:
    command = ["sh", "-c", f"{leavers.command}; sleep 300"]
    with subprocess.Popen(command, env={MARKER: "word", "PATH": os.environ["PATH"]}) as process:
        leavers.wait_all()
        started = reaper.start_time(process.pid, parent=os.getpid())
        killed = reaper.reap([ProcessIdentity(pid=process.pid, start_time=started, marker="word")])
        leavers.wait_gone(but=ROOTLESS)  # without a shim nobody can find these
        assert killed >= len(KINDS) - len(ROOTLESS)


def test_nothing_to_sweep_takes_no_time_and_kills_nobody() -> None:
    assert reaper.reap([]) == 0
    assert reaper.pid_scope() == reaper.pid_scope() != ""


def test_descent_is_told_by_the_kernel(sleeper: subprocess.Popen[bytes]) -> None:
    assert reaper.is_descendant(sleeper.pid, os.getpid()) is True
    assert reaper.is_descendant(sleeper.pid, sleeper.pid) is False
    assert reaper.is_descendant(os.getpid(), sleeper.pid) is False
    sleeper.kill()
    sleeper.wait()
    assert reaper.is_descendant(sleeper.pid, os.getpid()) is None


@pytest.mark.requirement("agent:self:never-own-orchestrator")
def test_who_loses_a_parent_while_its_descent_is_told_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shim takes the orphan: it still descends from who started the shim."""
    told = tmp_path / "told"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\nsh -c 'sleep 300 & echo $$ $! > {told}; wait'\nsleep 300\n")
    program.chmod(0o700)
    env = {**os.environ, **launcher_environment({"PATH": os.environ["PATH"]}, marker="word")}
    with subprocess.Popen([write_launcher(tmp_path / "launchers", program)], env=env, stdin=subprocess.PIPE) as shim:
        wait_until(lambda: told.exists() and told.read_text().endswith("\n"), "the chain")
        between, peer = map(int, told.read_text().split())
        seen = reaper._process  # pyright: ignore[reportPrivateUsage] - the moment between two looks

        def seen_too_late(pid: int) -> object:
            if pid == between and Path(f"/proc/{peer}/stat").read_text().split()[3] == str(between):
                os.kill(between, signal.SIGKILL)
                wait_until(lambda: seen(between) is None, "the parent's end")
            return seen(pid)

        monkeypatch.setattr(reaper, "_process", seen_too_late)
        found = reaper.is_descendant(peer, os.getpid())
        assert shim.stdin is not None
        shim.stdin.close()
    assert found is True


def test_nobody_can_tell_the_descent_through_a_parent_that_is_not_to_be_seen(tmp_path: Path) -> None:
    """Its first thread has ended and another one has not: the kernel shows it as dead for as long as it likes."""
    told = tmp_path / "told"
    body = f"""
import ctypes, os, pathlib, subprocess, threading
child = subprocess.Popen(["sleep", "300"])
threading.Thread(target=child.wait).start()
pathlib.Path({str(told)!r}).write_text(f"{{child.pid}}\\n")
ctypes.CDLL(None).syscall({{"x86_64": 60}}.get(os.uname().machine, 93), 0)
"""
    with subprocess.Popen([sys.executable, "-c", body]) as parent:
        wait_until(lambda: told.exists() and told.read_text().endswith("\n"), "the child")
        wait_until(lambda: ") Z " in Path(f"/proc/{parent.pid}/stat").read_text(), "the end of the first thread")
        child = int(told.read_text())
        found = reaper.is_descendant(child, os.getpid())
        os.kill(child, signal.SIGKILL)
    assert found is None
