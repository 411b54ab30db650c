"""A project, a daemon and a rehearsed model in a directory of their own, accessed over HTTP."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator import rehearsal
from tests.fixtures.daemon import Daemon, clean_env, running_daemon

BOUND_SECONDS = 60.0
KEY = "sk-ant-faults-secret-key"


@dataclass(frozen=True)
class Place:
    """A daemon whose agents call a model that fails, and a project."""

    daemon: Daemon
    project: Path
    account: Mapping[str, str]
    environment: Mapping[str, str]

    def create(self, name: str, **more: object) -> None:
        """Create an agent with a task of its own."""
        self.ask("POST", "/v1/agents", {"name": name, "task": f"do your part, {name}", **more})

    def ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        """What the daemon answers."""
        hello = {"account": dict(self.account), "environment": dict(self.environment)}
        with self.daemon.http(self.project, **hello) as client:
            sleeps = float(str((body or {}).get("timeout_seconds", BOUND_SECONDS)))
            answer = client.request(method, path, json=body, timeout=max(sleeps, BOUND_SECONDS) + 10)
        assert answer.is_success, answer.text
        return answer.json()

    def outcome(self, name: str) -> dict[str, Any]:
        """How the agent's turn ended; fails if it did not within the bound."""
        digest = self.ask("POST", "/v1/wait", {"agents": [name], "timeout_seconds": BOUND_SECONDS})
        assert digest["timed_out"] is False, digest["text"]
        return self.ask("GET", f"/v1/agents/{name}")["turns"][-1]


def account_of(model: rehearsal.Rehearsal) -> dict[str, str]:
    """The variables by which agents reach the model, with a key."""
    return {
        "ANTHROPIC_BASE_URL": model.url,
        "ANTHROPIC_API_KEY": KEY,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }


def environment_of(home: Path) -> dict[str, str]:
    """The other variables of whoever creates agents."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8"}


def make_folders(root: Path) -> tuple[Path, Path, Path]:
    """A home, a project and a state directory."""
    home, project, state = root / "home", root / "project", root / "state"
    for directory in (home, project, state):
        directory.mkdir(mode=0o700, parents=True)
    return home, project.resolve(), state


@contextmanager
def placed(root: Path, script: Path, **settings: str) -> Generator[tuple[Place, rehearsal.Rehearsal]]:
    """A place whose daemon runs with these settings, and its model, which plays this script, for the block."""
    home, project, state = make_folders(root)
    with rehearsal.start(script, log=root / "log.jsonl") as model:
        environment = clean_env(home, state, FLEET_REHEARSAL=script.stem, **settings)
        with running_daemon(state, environment) as daemon:
            yield Place(daemon, project, account_of(model), environment_of(home)), model
