"""The environment of every measure: a clean directory, a rehearsed model, a real daemon and real doors."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator import paths, rehearsal
from orchestrator.cli.demo.sandbox import rehearsal_environment
from tests.fixtures.daemon import Daemon, running_daemon
from tests.fixtures.raw_door import Message, RawDoor, open_process, text_of

SCRIPT = Path(__file__).with_name("script.yaml")
DOOR = (sys.executable, "-I", "-m", "orchestrator", "mcp")
"""How the plugin's launcher starts the door."""


@dataclass(frozen=True)
class Sizes:
    """How often and how much is measured."""

    wakes: int = 100
    poll_seconds: float = 15.0
    """between two looks of the pattern's orchestrator"""
    polls: int = 5
    answers: int = 10
    restarts: int = 5
    starts: int = 10
    mirrored_turns: int = 10
    doors: int = 20
    cold_doors: int = 5
    helps: int = 10
    crowd: int = 8
    rounds: int = 8
    resting: tuple[int, ...] = (1_000,)
    idle_seconds: float = 10.0
    recorded_agents: int = 10_000
    recorded_events: int = 1_000_000
    looks: int = 300
    written_events: int = 120_000
    whole: bool = True
    """whether the demo is played in both its forms"""


SMOKE = Sizes(
    wakes=3,
    poll_seconds=0.5,
    polls=2,
    answers=1,
    restarts=1,
    starts=1,
    mirrored_turns=1,
    doors=2,
    cold_doors=1,
    helps=1,
    crowd=2,
    rounds=2,
    resting=(50,),
    idle_seconds=1.0,
    recorded_agents=20,
    recorded_events=400,
    looks=3,
    written_events=2_000,
    whole=False,
)


def forget_this_machine() -> None:
    """Leave this process an environment that names no account, no setting and no home of anybody."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    os.environ.clear()
    os.environ.update(kept, LANG="C.UTF-8", HOME=os.devnull)


@dataclass
class Stage:
    """A project, a state directory and the environment of whoever works there."""

    root: Path
    project: Path
    state: Path
    environment: Mapping[str, str]
    model: rehearsal.Rehearsal
    opened: list[RawDoor] = field(default_factory=list[RawDoor])

    def door(self, **more: str) -> RawDoor:
        """A door of its own; it ends with the stage."""
        self.opened.append(open_process(DOOR, {**self.environment, **more}, self.project))
        return self.opened[-1]

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of the store, read beside the daemon."""
        connection = sqlite3.connect(f"file:{paths.database_path(self.state)}?mode=ro", uri=True)
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()

    @contextmanager
    def daemon(self) -> Generator[Daemon]:
        """A daemon for the time of the block."""
        with running_daemon(self.state, self.environment, "--idle-exit", "0") as daemon:
            yield daemon


@contextmanager
def staged(slots: int = 8) -> Generator[Stage]:
    """A fresh place with a rehearsed model behind it, for at most `slots` working agents."""
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="fleet-bench-", ignore_cleanup_errors=True))
        root = Path(place).resolve()
        for name in ("home", "state", "project"):
            (root / name).mkdir(mode=0o700)
        _commit_something(root / "project")
        model = stack.enter_context(rehearsal.start(SCRIPT, log=root / "model.jsonl"))
        environment = rehearsal_environment(
            os.environ, home=root / "home", state=root / "state", url=model.url, script="bench"
        ) | {"AGENT_MAX_CONCURRENT": str(slots), "AGENT_MAX_SESSION": "20000", "FLEET_REST_SECONDS": "900"}
        stage = Stage(root, root / "project", root / "state", environment, model)
        stack.callback(_close, stage.opened)
        yield stage


def _close(doors: Sequence[RawDoor]) -> None:
    for door in doors:
        door.kill()


def _commit_something(project: Path) -> None:
    (project / "README.md").write_text("A project.\n" * 20, encoding="utf-8")
    git = ("git", "-c", "user.name=bench", "-c", "user.email=bench@example.com", "-c", "init.defaultBranch=main")
    for arguments in (("init", "-q"), ("add", "."), ("commit", "-qm", "begin")):
        subprocess.run([*git, *arguments], cwd=project, env={**os.environ, "HOME": str(project)}, check=True)


def call_all(door: RawDoor, tool: str, calls: Sequence[Message]) -> list[str]:
    """The texts of these calls of one tool, sent at once as one message's calls are."""
    asked = [door.post_tool(tool, arguments) for arguments in calls]
    answers: dict[int, str] = {}
    while len(answers) < len(asked):
        message = door.receive()
        if "method" not in message:
            answers[message["id"]] = text_of(message)
    return [answers[number] for number in asked]


def create_all(door: RawDoor, names: Sequence[str], task: str) -> None:
    """Create these scouts; they only read, so that none waits for another."""
    told = call_all(door, "create_agent", [{"name": name, "persona": "scout", "task": task} for name in names])
    assert all(f" {name} " in line for name, line in zip(names, told, strict=True)), told


def command_all(door: RawDoor, names: Sequence[str], task: str) -> None:
    """Give each of these agents its next task."""
    call_all(door, "command_agent", [{"agent": name, "task": task} for name in names])


def wait(door: RawDoor, names: Sequence[str]) -> str:
    """Sleep until all of them are done; the digest."""
    return door.tool("wait_for_agents", {"agents": list(names)})


def records(stage: Stage) -> list[dict[str, Any]]:
    """What the rehearsed model was asked so far."""
    whole, _, _ = (stage.root / "model.jsonl").read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]
