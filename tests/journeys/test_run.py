"""`fleet run`: an orchestrator that Fleet runs, with the real `claude`, real agents and a real repository."""

from __future__ import annotations

import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator import paths, rehearsal
from orchestrator.cli.demo.sandbox import Stage, git, rehearsal_environment
from tests.fixtures.daemon import ROOT, Daemon, wait_until
from tests.fixtures.fleet_command import Command, Ran
from tests.journeys.repository import generate
from tests.journeys.test_through_fleet import Played, passes, staged

SCRIPT = Path(__file__).with_name("run.yaml")
LIMIT_SECONDS = 240.0
pytestmark = pytest.mark.timeout(300)


def fleet(stage: Stage, **more: str) -> Command:
    return Command(stage.repository, {**stage.environment, "PYTHONPATH": str(ROOT), **more})


@contextmanager
def small(root: Path) -> Generator[Stage]:
    """A repository of one file, the script of this module behind it, and no daemon left at the end."""
    for name in ("home", "state", "work"):
        (root / name).mkdir(mode=0o700)
    git(root / "work", "init", "--quiet")
    with rehearsal.start(SCRIPT, log=root / "rehearsal.jsonl") as playing:
        environment = rehearsal_environment(
            os.environ, home=root / "home", state=root / "state", url=playing.url, script=SCRIPT.stem
        )
        stage = Stage(root=root, repository=root / "work", state=root / "state", environment=environment)
        try:
            yield stage
        finally:
            daemon = Daemon(stage.state, environment)
            if paths.lock_path(stage.state).exists() and daemon.is_alive():
                daemon.stop()


def rows(stage: Stage, query: str) -> list[tuple[Any, ...]]:
    """Rows of the store; none while it is not there yet."""
    database = paths.database_path(stage.state)
    if not database.exists():
        return []
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        try:
            return connection.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []


def director(stage: Stage) -> str:
    """The id of the orchestrator that Fleet runs."""
    return str(rows(stage, "SELECT id FROM agent WHERE persona = 'orchestrator'")[0][0])


def asleep(stage: Stage) -> bool:
    """Whether it sleeps on its agents, by its row."""
    found = rows(stage, "SELECT status, wait_kind FROM agent WHERE persona = 'orchestrator'")
    return found == [("waiting", "agents")]


def processes(stage: Stage) -> list[int]:
    """The processes of the orchestrator's session: everything that carries its configuration directory."""
    config = str(stage.state / "agents" / director(stage)) + "/"
    found: list[int] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("CLAUDE_CONFIG_DIR", "").startswith(config):
                found.append(process.pid)
    return found


def model_calls(stage: Stage) -> list[dict[str, Any]]:
    """What the orchestrator's session asked the model, from the endpoint's own log."""
    records = map(json.loads, (stage.root / "rehearsal.jsonl").read_text().splitlines())
    return [record for record in records if record["persona"] == "orchestrator" and record["path"] == "/v1/messages"]


def old_name(task: str) -> str:
    """The function that the task renames."""
    return task.split()[1].partition("(")[0].rpartition(".")[2]


@contextmanager
def started(stage: Stage, *arguments: str) -> Generator[subprocess.Popen[str]]:
    """`fleet run` under way; killed at the end of the block if it still is."""
    with fleet(stage).start("run", *arguments) as running:
        try:
            yield running
        finally:
            if running.poll() is None:
                running.kill()


def ended(running: subprocess.Popen[str]) -> Ran:
    out, err = running.communicate(timeout=LIMIT_SECONDS)
    return Ran(running.returncode, out, err)


@pytest.mark.requirement("run:orchestrator:streams-the-fleet", "run:orchestrator:no-process-while-waiting")
def test_it_does_the_main_job_with_one_slot_and_reports(tmp_path: Path) -> None:
    repository = generate(41)
    with staged(tmp_path, repository) as stage:
        ran = fleet(stage, AGENT_MAX_CONCURRENT="1")("run", repository.task, "--json", "--name", "boss")

        assert ran.code == 0, ran.err
        assert ran.json["ok"] is True
        assert ran.json["report"].startswith(
            f"{repository.task.split()[1].partition('(')[0].rpartition('.')[2]} is now"
        )
        assert "| " in ran.json["report"]
        assert Played(stage, []).tree() == dict(repository.after)
        assert passes(stage, repository.check)
        crew = rows(stage, "SELECT persona, parent, status FROM agent WHERE name != 'boss' ORDER BY created_at")
        boss = director(stage)
        assert crew == [(persona, boss, "deleted") for persona in ["scout"] * 4 + ["planner", "builder"]]
        for shown in ("boss", "calls create_agent", "sleeps", "woken", "scout-1", "complete", "runs Bash"):
            assert shown in ran.err
        assert 0 < len(model_calls(stage)) <= 4
        _spent_nothing_while_asleep(stage)
        assert rows(stage, "SELECT count(*) FROM lease WHERE released_at IS NULL AND kind != 'desk'") == [(0,)]


def _spent_nothing_while_asleep(stage: Stage) -> None:
    """No call of the model began between falling asleep and being woken, by the endpoint's clock and the store's."""
    query = "SELECT kind, at FROM event WHERE agent_id = '{}' AND kind IN ('turn.waiting', 'turn.resumed') ORDER BY seq"
    moments = rows(stage, query.format(director(stage)))
    naps = [(begun[1], over[1]) for begun, over in zip(moments[::2], moments[1::2], strict=True)]
    assert len(naps) >= 1
    assert all(over > begun for begun, over in naps)
    spent = [call["time"] for call in model_calls(stage)]
    assert not [at for at in spent for begun, over in naps if begun < at < over]


@pytest.mark.requirement("run:orchestrator:no-process-while-waiting", "wait:anything:no-process")
def test_asleep_it_has_no_process_and_a_killed_daemon_costs_it_nothing(tmp_path: Path) -> None:
    repository = generate(42)
    with staged(tmp_path, repository) as stage:
        with started(stage, repository.task) as running:
            wait_until(lambda: rows(stage, "SELECT 1 FROM agent") and processes(stage), "its process", seconds=60)
            wait_until(lambda: asleep(stage), "its sleep", seconds=60)
            assert processes(stage) == []
            said = len(model_calls(stage))
            killed = Daemon(stage.state, stage.environment).pid
            os.kill(killed, signal.SIGKILL)
            ran = ended(running)
        assert ran.code == 0, ran.err
        assert Daemon(stage.state, stage.environment).pid != killed
        assert ran.out.startswith(f"{old_name(repository.task)} is now")
        assert Played(stage, []).tree() == dict(repository.after)
        assert said == 1
        assert len(model_calls(stage)) <= 4
        assert rows(stage, "SELECT count(*) FROM turn WHERE status != 'complete'") == [(0,)]
        ends = f"SELECT count(*) FROM event WHERE agent_id = '{director(stage)}' AND kind = 'turn.complete'"
        assert rows(stage, ends) == [(1,)]


@pytest.mark.requirement("run:orchestrator:streams-the-fleet")
def test_ctrl_c_says_what_goes_on_and_interrupting_it_reaches_all_its_agents(tmp_path: Path) -> None:
    with small(tmp_path) as stage, started(stage, "take long", "--name", "boss") as running:
        wait_until(lambda: asleep(stage), "its sleep", seconds=60)
        busy = "SELECT count(*) FROM agent WHERE name LIKE 'slow%' AND status = 'working'"
        wait_until(lambda: rows(stage, busy) == [(2,)], "its agents at work", seconds=60)
        running.send_signal(signal.SIGINT)
        left = ended(running)
        assert left.code == 130
        for words in ("boss (waiting)", "slow-1 (working)", "slow-2 (working)", "wait boss", "interrupt boss"):
            assert words in left.err
        assert left.out == ""
        assert rows(stage, busy) == [(2,)]

        assert fleet(stage)("interrupt", "boss").code == 0
        over = "SELECT count(*) FROM agent WHERE status = 'interrupted'"
        wait_until(lambda: rows(stage, over) == [(3,)], "the end of all of them", seconds=60)
        assert "Too early" not in fleet(stage)("show", "boss").out


@pytest.mark.requirement("run:orchestrator:streams-the-fleet")
def test_one_that_fails_ends_with_1_and_says_why(tmp_path: Path) -> None:
    with small(tmp_path) as stage:
        ran = fleet(stage)("run", "be refused", "--name", "boss")
        assert (ran.code, ran.out) == (1, "")
        assert "boss did not finish: failed" in ran.err
        assert "no such thing" in ran.err
        slow = fleet(stage)("run", "take long", "--timeout", "0.5", "--json")
        assert slow.code == 4
        assert "still running" in slow.json["error"]["message"]
        wrong = fleet(stage)("run", "anything", "--persona", "scout")
        assert wrong.code == 2
        assert "none of the fleet's tools" in wrong.err


@pytest.mark.requirement("run:orchestrator:streams-the-fleet")
def test_its_own_question_waits_for_the_person_and_the_answer_reaches_the_call(tmp_path: Path) -> None:
    with small(tmp_path) as stage, started(stage, "ask the person", "--name", "boss") as running:
        assert running.stderr is not None
        said = ""
        while "-> fleet answer boss" not in said:
            said += (line := running.stderr.readline())
            assert line, said
        assert 'boss asks you: Which colour?\n  options: 1 "red", 2 "blue"\n' in said
        wait_until(lambda: processes(stage) == [], "the end of its process", seconds=30)
        assert fleet(stage)("answer", "boss", "blue").code == 0
        ran = ended(running)
        assert ran.code == 0, ran.err
        assert ran.out == "The person says blue.\n"


@pytest.mark.requirement("run:orchestrator:streams-the-fleet")
def test_on_a_terminal_the_person_types_the_answer(tmp_path: Path) -> None:
    with small(tmp_path) as stage:
        command = fleet(stage)
        ours, theirs = pty.openpty()
        running = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "run", "ask the person"],
            cwd=command.cwd,
            env=dict(command.env),
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
            start_new_session=True,
        )
        os.close(theirs)
        shown = bytearray()
        reader = threading.Thread(target=_drain, args=(ours, shown), daemon=True)
        reader.start()
        wait_until(lambda: b"type the answer here" in shown, "the prompt", seconds=60)
        os.write(ours, b"red\n")
        out, _ = running.communicate(timeout=LIMIT_SECONDS)
        reader.join(10)
        os.close(ours)
        assert (running.returncode, out) == (0, "The person says red.\n"), shown.decode()


def _drain(terminal: int, into: bytearray) -> None:
    with suppress(OSError):  # the other end is closed
        while data := os.read(terminal, 4096):
            into.extend(data)


@pytest.mark.requirement("run:orchestrator:streams-the-fleet")
def test_a_budget_is_that_of_the_whole_run_and_a_raise_lets_it_go_on(tmp_path: Path) -> None:
    words = ("spend tokens", "--name", "boss", "--max-tokens", "50000")
    with small(tmp_path) as stage, started(stage, *words) as running:
        paused = "SELECT name FROM agent WHERE status = 'waiting' AND wait_kind = 'budget' ORDER BY name"
        wait_until(lambda: rows(stage, paused) == [("boss",), ("eager",)], "the pause of both", seconds=60)
        assert len(model_calls(stage)) == 1
        assert fleet(stage)("budget", "boss", "--subtree", "--max-tokens", "1000000").code == 0
        ran = ended(running)
        assert ran.code == 0, ran.err
        assert "| spent enough" in ran.out
        assert "boss waits: budget" in ran.err
        assert "fleet budget boss --subtree --max-tokens" in ran.err
