"""A session's process is recorded before it starts, starts on the right thread, and not too many start at once."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from orchestrator import paths
from orchestrator.supervision import reaper
from orchestrator.supervision.tiers import MARKER
from tests.fixtures.daemon import wait_until
from tests.fixtures.leavers import Leavers
from tests.fixtures.outpost import outpost

LOOK = """
import json, os, sqlite3, sys
rows = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True).execute(
    "SELECT p.epoch, a.epoch, p.pid, p.tier, p.started_at, p.ended_at FROM process p JOIN agent a ON a.id = p.agent_id"
    " WHERE marker = ?", (os.environ["FLEET_PROCESS"],)).fetchall()
open(sys.argv[2], "w").write(json.dumps(rows))
"""


def install(place: Path, body: str) -> str:
    program = place / "claude"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o700)
    return str(program)


@pytest.mark.requirement("process:orphans:die-at-start")
def test_intent_and_epoch_are_durable_before_the_process_exists(tmp_path: Path, state: Path) -> None:
    look, seen = tmp_path / "look.py", tmp_path / "seen.json"
    look.write_text(LOOK)
    words = shlex.join([sys.executable, "-S", str(look), str(paths.database_path(state)), str(seen)])
    program = install(tmp_path, f"{words}\nexit 3")
    with outpost(tmp_path, state, "C", CLAUDE_CODE_PATH=program) as own:
        agent = own.create("early", "say nothing")
        assert own.outcome("early")["reason"] == "start"
        ((epoch, valid, *then),) = json.loads(seen.read_text())
        assert epoch == valid > 0
        assert then == [None, "C", None, None]
        rows = own.rows("SELECT pid, ended_at IS NOT NULL FROM process WHERE agent_id = ?", agent)
        assert rows == [(None, 1)]


@pytest.mark.requirement("process:spawn:throttled")
def test_sessions_start_on_the_daemons_own_thread(tmp_path: Path, state: Path) -> None:
    with outpost(tmp_path, state) as own:
        agent = own.create("worker", "run sleep 300")
        row = "SELECT pid, started, boot FROM process WHERE agent_id = ? AND started_at IS NOT NULL"
        wait_until(lambda: own.rows(row, agent), "the session's process")
        ((pid, started, boot),) = own.rows(row, agent)
        daemon = own.daemon.pid
        assert started == reaper.start_time(pid, parent=daemon)
        assert boot == reaper.pid_scope()
        assert str(pid) in Path(f"/proc/{daemon}/task/{daemon}/children").read_text().split()


@pytest.mark.requirement("process:spawn:throttled")
def test_no_more_sessions_start_at_once_than_there_are_cores(tmp_path: Path, state: Path) -> None:
    said = tmp_path / "said"
    cores = os.cpu_count() or 1
    together = min(2, cores)  # the first waits for the next one, however long a busy machine takes to start it
    meet = f"for i in $(seq 200); do [ $(grep -cx 1 {said}) -lt {together} ] || break; sleep 0.1; done"
    program = install(tmp_path, f"echo 1 >> {said}\n{meet}\nsleep 0.2\necho -1 >> {said}\nexit 3")
    with outpost(tmp_path, state, "C", CLAUDE_CODE_PATH=program, AGENT_MAX_CONCURRENT="50") as own:
        names = [f"scout-{number}" for number in range(2 * cores + 2)]
        for name in names:
            own.ask("POST", "/v1/agents", {"name": name, "task": "look", "persona": "scout"})
        for name in names:
            own.outcome(name)
    steps = [int(line) for line in said.read_text().split()]
    at_once = [sum(steps[: index + 1]) for index in range(len(steps))]
    assert len(steps) == 2 * len(names)
    assert together <= max(at_once) <= cores


@pytest.mark.parametrize("how", ["delete", "interrupt", "stop"])
def test_a_program_that_hangs_at_its_start_holds_nobody_up(tmp_path: Path, state: Path, how: str) -> None:
    began = tmp_path / "began"
    program = install(tmp_path, f"echo $$ > {began}\nexec sleep 300")
    with outpost(tmp_path, state, "C", CLAUDE_CODE_PATH=program) as own:
        own.create("hangs", "say nothing")
        wait_until(lambda: began.exists() and began.read_text().strip(), "its program runs")
        if how == "delete":
            assert own.ask("DELETE", "/v1/agents/hangs", {})
        elif how == "interrupt":
            own.ask("POST", "/v1/agents/hangs/interrupt", {})
            assert own.outcome("hangs")["status"] == "interrupted"
        else:
            own.daemon.stop()
        assert not psutil.pid_exists(int(began.read_text()))
        assert own.rows("SELECT count(*) FROM process WHERE ended_at IS NULL") == [(0,)]
        assert "session_does_not_end" not in own.daemon.log.read_text()  # nobody's patience was tried


@pytest.mark.requirement("process:orphans:die-at-start")
def test_an_orphan_whose_process_was_never_written_is_found_by_its_marker(
    tmp_path: Path, state: Path, leavers: Leavers
) -> None:
    """The daemon dies between the start and the writing of the id; the shim dies with it."""
    shim = tmp_path / "shim"
    body = f"echo $PPID > {shim}\n{leavers.command}\nwhile :; do sleep 300; done"
    with outpost(tmp_path, state, "C", CLAUDE_CODE_PATH=install(tmp_path, body)) as own:
        own.create("slow", "never mind")
        leavers.wait_all()
        assert own.rows("SELECT pid FROM process") == [(None,)]
        process = own.daemon.process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        os.kill(int(shim.read_text()), signal.SIGKILL)
        own.daemon.stop(signal.SIGKILL)
        assert "child" in leavers.alive()
        own.start()
        assert not {"child", "group", "session", "daemon", "nohup"} & leavers.alive()


@pytest.mark.requirement("process:orphans:die-at-start")
def test_rows_of_another_boot_and_of_reused_ids_kill_nobody(tmp_path: Path, state: Path) -> None:
    with outpost(tmp_path, state) as own, subprocess.Popen(["sleep", "300"], env={MARKER: "mine"}) as stranger:
        own.daemon.stop(signal.SIGKILL)
        started = reaper.start_time(stranger.pid, parent=os.getpid())
        old = [("mine", stranger.pid, started, "another boot"), ("reused", stranger.pid, "1", reaper.pid_scope())]
        connection = sqlite3.connect(paths.database_path(state))
        with connection:
            connection.executemany(
                "INSERT INTO process (marker, agent_id, epoch, tier, boot, intended_at, pid, started, cgroup)"
                " VALUES (?1, 'ag_x', 1, 'C', ?4, 0, ?2, ?3, '')",
                old,
            )
        connection.close()
        own.start()
        assert own.rows("SELECT count(*) FROM process WHERE ended_at IS NULL") == [(0,)]
        assert stranger.poll() is None
        stranger.kill()
