"""The main job through every layer: the real `claude`, plugin, door, daemon and agents, on unknown repositories."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator import paths, rehearsal
from orchestrator.cli.demo.sandbox import Stage, git, rehearsal_environment
from orchestrator.cli.programs import claude_program
from tests.fixtures.daemon import ROOT, Daemon, wait_until
from tests.journeys.repository import Repository, generate, write

SCRIPT = ROOT / "examples" / "scout-plan-build.yaml"
LIMIT_SECONDS = 300.0
TOOL = "mcp__plugin_fleet_fleet__"
pytestmark = pytest.mark.timeout(400)


@dataclass(frozen=True)
class Played:
    """A session of the real `claude` that has ended."""

    stage: Stage
    messages: list[dict[str, Any]]

    @property
    def result(self) -> dict[str, Any]:
        """Its last message."""
        return self.messages[-1]

    def calls(self) -> list[list[dict[str, Any]]]:
        """The fleet's tools that the orchestrator called, message by message."""
        found: dict[str, list[dict[str, Any]]] = {}
        for message in self.messages:
            if message["type"] == "assistant":
                content = message["message"]["content"]
                uses = [part for part in content if part["type"] == "tool_use" and part["name"].startswith(TOOL)]
                found.setdefault(message["message"]["id"], []).extend(uses)
        return [uses for uses in found.values() if uses]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of the store."""
        connection = sqlite3.connect(f"file:{paths.database_path(self.stage.state)}?mode=ro", uri=True)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def tree(self) -> dict[str, str]:
        """The repository's files, without Fleet's and git's own."""
        files = (path for path in self.stage.repository.rglob("*") if path.is_file() and path.suffix != ".pyc")
        texts = {path.relative_to(self.stage.repository).as_posix(): path for path in files}
        return {name: path.read_text() for name, path in texts.items() if not name.startswith((".fleet/", ".git/"))}


@contextmanager
def staged(root: Path, repository: Repository) -> Generator[Stage]:
    """The repository under git, with the rehearsal behind it, and no daemon left at the end."""
    for name in ("home", "state", "work"):
        (root / name).mkdir(mode=0o700)
    write(repository.before, root / "work")
    git(root / "work", "init", "--quiet")
    git(root / "work", "add", "--all")
    who = ("-c", "user.name=t", "-c", "user.email=t@example.com")
    git(root / "work", *who, "commit", "--quiet", "--message", "begin")
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


def play(stage: Stage, *words: str) -> Played:
    """Run `claude -p` with the plugin and no permission flag to its end."""
    done = subprocess.run(
        [
            str(claude_program(stage.environment)),
            "-p",
            *words,
            "--plugin-dir",
            str(ROOT),
            "--output-format",
            "stream-json",
            "--verbose",
        ],
        cwd=stage.repository,
        env=dict(stage.environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert messages, done.stderr
    assert messages[-1]["type"] == "result", done.stderr
    return Played(stage, messages)


def passes(stage: Stage, check: str) -> bool:
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(check, shell=True, cwd=stage.repository, env=environment, check=False).returncode == 0


@pytest.mark.requirement(
    "demo:random:any-repository",
    "demo:journey:files-diff-rows-transcript",
    "wait:orchestrator:spends-no-tokens",
    "workflow:planner:reads-only-relevant-files",
    "workflow:builder:implements-and-tests",
    "inputs:start:when-completed",
    "inputs:handover:one-named-file",
    "demo:plugin:slash-command",
    "workflow:context:single-purpose-agents",
    "workflow:context:planner-reads-fraction",
)
@pytest.mark.parametrize("seed", [11, 12])
def test_the_slash_command_migrates_a_repository_that_the_script_cannot_know(seed: int, tmp_path: Path) -> None:
    repository = generate(seed)
    with staged(tmp_path, repository) as stage:
        assert passes(stage, repository.check)
        played = play(stage, f"/fleet:scout-plan-build {repository.task}")

        assert played.result["is_error"] is False, played.result
        assert played.tree() == dict(repository.after)
        assert passes(stage, repository.check)
        changed = git(stage.repository, "diff", "--name-only").split()
        assert set(changed) == {path for path, text in repository.before.items() if repository.after[path] != text}

        chain, *rest = played.calls()
        names = [call["name"].removeprefix(TOOL) for call in chain]
        assert names == ["create_agent"] * 6 + ["wait_for_agents"]
        assert rest[-1][0]["name"].removeprefix(TOOL) in {"delete_agent", "delete_all_agents"}
        rows = played.rows("SELECT persona, status, deleted_at IS NOT NULL FROM agent ORDER BY created_at")
        assert rows == [(persona, "deleted", 1) for persona in ["scout"] * 4 + ["planner", "builder"]]
        assert played.rows("SELECT count(*) FROM turn WHERE status = 'complete'") == [(6,)]
        ends = "SELECT count(*) FROM event WHERE kind IN ('turn.complete', 'turn.failed', 'turn.interrupted')"
        assert played.rows(ends) == [(6,)]
        read = (
            "SELECT DISTINCT path FROM artifact JOIN agent ON agent.id = agent_id WHERE persona = '{}' AND kind = '{}'"
        )
        assert [Path(path).name for (path,) in played.rows(read.format("planner", "consumed"))] == ["relevant-files.md"]
        made = {os.path.relpath(path, stage.repository) for (path,) in played.rows(read.format("builder", "produced"))}
        assert made == set(changed)
        assert played.rows("SELECT count(*) FROM lease WHERE released_at IS NULL") == [(0,)]


@pytest.mark.requirement(
    "demo:sub-agent:does-the-job", "demo:journey:files-diff-rows-transcript", "plugin:orchestrator:tools-and-sleep"
)
def test_an_orchestrator_session_of_the_plugins_own_agent_does_the_whole_job(tmp_path: Path) -> None:
    repository = generate(21)
    with staged(tmp_path, repository) as stage:
        played = play(stage, f"Scout, plan and build: {repository.task}", "--agent", "fleet:orchestrator")

        assert played.result["is_error"] is False, played.result
        assert played.tree() == dict(repository.after)
        offered = next(message for message in played.messages if message["type"] == "system")["tools"]
        assert {tool for tool in offered if not tool.startswith(TOOL)} == set()
        assert played.rows("SELECT count(*) FROM agent WHERE deleted_at IS NOT NULL") == [(6,)]


@pytest.mark.requirement(
    "question:answer:survives-daemon",
    "handshake:restart:waits-for-account",
    "wait:answer:no-process",
    "question:route:orchestrator-never-user",
)
def test_a_question_survives_a_killed_daemon_while_the_orchestrator_sleeps(tmp_path: Path) -> None:
    repository = generate(31)
    with staged(tmp_path, repository) as stage:
        daemon = Daemon(stage.state, stage.environment)
        killed: list[int] = []

        def kill_while_it_asks() -> None:
            def asks() -> bool:
                database = paths.database_path(stage.state)
                if not database.exists():
                    return False
                connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
                try:
                    query = "SELECT 1 FROM event WHERE kind = 'turn.waiting'"
                    return bool(connection.execute(query).fetchone())
                except sqlite3.OperationalError:
                    return False  # the tables are not there yet
                finally:
                    connection.close()

            wait_until(asks, "a question", seconds=120)
            killed.append(daemon.pid)
            daemon.stop(9)

        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as pool:
            murder = pool.submit(kill_while_it_asks)
            played = play(stage, f"/fleet:scout-plan-build {repository.task}")
            murder.result()
        assert daemon.pid not in killed
        assert played.tree() == dict(repository.after)
        answers = "SELECT count(*) FROM event WHERE kind IN ('turn.waiting', 'turn.answered', 'turn.resumed')"
        assert played.rows(answers + " AND json_extract(body, '$.reason') IS NOT 'account'")[0][0] >= 3
        assert played.rows("SELECT count(*) FROM turn WHERE status != 'complete'") == [(0,)]
