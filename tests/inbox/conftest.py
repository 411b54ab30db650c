"""A daemon that may be replaced, the real `claude` with a scripted model, and personas that ask."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator import paths, rehearsal
from orchestrator.rehearsal import Rehearsal
from tests.fixtures.daemon import Daemon, clean_env, spawn_daemon, wait_until
from tests.fixtures.fleet_command import Command

SCRIPT = Path(__file__).with_name("inbox.yaml")
LIMIT_SECONDS = 60.0
HASTY = "1h"
"""a deadline for answers that comes as soon as a test lets time pass"""
PERSONAS = {
    "asker": "tools: Read, Bash",
    "careful": "tools: Read\nask: [Bash]",
    "hasty": f"tools: Read\nask: Bash\nanswer_within: {HASTY}\ndefault_answer: green",
    "boss": "tools: Read, Agent\nask: [Bash]",
    "sloppy": "deny: bash, Task",
    "sloppily-asked": "tools: Read, task\nask: BASH",
    "misspelt": "deny: Bsah",
    "ruled": (
        "tools: Read, WebFetch\nask: [Bash, WebFetch]\npolicy:\n"
        '  - {tool: Bash, answer: "deny: no shell on a Sunday"}\n  - {kind: question, answer: "blue, says the policy"}'
    ),
}


@dataclass
class House:
    """A state directory, and the daemon that serves it now: one for the tests of a module."""

    state: Path
    home: Path
    model: Rehearsal
    daemon: Daemon | None = None


@dataclass(frozen=True)
class Office:
    """A project of its own in the house."""

    house: House
    project: Path

    @property
    def model(self) -> Rehearsal:
        """The scripted model."""
        return self.house.model

    @property
    def account(self) -> dict[str, str]:
        """The variables of whoever calls."""
        return {
            "ANTHROPIC_BASE_URL": self.model.url,
            "ANTHROPIC_API_KEY": "sk-ant-inbox",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }

    @property
    def environment(self) -> dict[str, str]:
        """The environment of doors and daemons."""
        return clean_env(self.house.home, self.house.state, FLEET_REHEARSAL="inbox", FLEET_REST_SECONDS="0")

    def begin(self) -> Daemon:
        """Start a daemon."""
        self.house.daemon = daemon = spawn_daemon(self.house.state, self.environment)
        wait_until(daemon.is_serving, "a serving daemon")
        return daemon

    def end(self) -> None:
        """End it, as a user does."""
        if self.house.daemon is not None:
            self.house.daemon.stop()
        self.house.daemon = None

    def let_deadlines_pass(self) -> None:
        """Let it be later than every deadline, while no daemon runs: the rows are all that there is of it."""
        assert self.house.daemon is None
        with closing(sqlite3.connect(paths.database_path(self.house.state))) as database, database:
            database.execute("UPDATE question SET deadline_at = asked_at WHERE deadline_at IS NOT NULL")

    def again(self) -> None:
        """Another daemon takes over."""
        self.end()
        self.begin()

    def fleet(self) -> Command:
        """The command of a person in this project."""
        return Command(self.project, {**self.environment, **self.account})

    def ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        """What the daemon answers over HTTP."""
        found = self.try_ask(method, path, body)
        assert not str(found.get("type")).startswith("urn:fleet:problem:"), found
        return found

    def try_ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        """The same, errors included."""
        assert self.house.daemon is not None
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.house.home), "LANG": "C.UTF-8"}
        with self.house.daemon.http(self.project, account=self.account, environment=environment) as client:
            return client.request(method, path, json=body, timeout=LIMIT_SECONDS + 10).json()

    def create(self, name: str, task: str, persona: str = "careful") -> None:
        """Create an agent."""
        self.ask("POST", "/v1/agents", {"name": name, "task": task, "persona": persona})

    def wait(self, name: str) -> str:
        """The digest that the agent's end, or its question, wakes to."""
        digest = self.ask("POST", "/v1/wait", {"agents": [name], "timeout_seconds": LIMIT_SECONDS})
        assert digest["timed_out"] is False, digest["text"]
        return digest["text"]

    def detail(self, name: str) -> dict[str, Any]:
        """All about the agent."""
        return self.ask("GET", f"/v1/agents/{name}")

    def agent(self, name: str) -> dict[str, Any]:
        """The agent, now."""
        return self.detail(name)["agent"]

    def result(self, name: str) -> str:
        """The text of the agent's last turn, which must be complete."""
        self.wait(name)
        turn = [one for one in self.detail(name)["turns"] if one["status"] != "cancelled"][-1]
        assert turn["status"] == "complete", turn
        return turn["result"]

    def answer(self, name: str, text: str) -> dict[str, Any]:
        """Answer as a person does."""
        return self.ask("POST", f"/v1/agents/{name}/answer", {"text": text})

    def has_heard(self, name: str, text: str) -> bool:
        """Whether this stands in the agent's transcript: its program writes down what it has read."""
        files = (self.house.state / "agents" / self.agent(name)["id"]).glob("claude/projects/*/*.jsonl")
        return any(text in file.read_text() for file in files)

    def asked(self, name: str) -> list[tuple[str, str, str | None, str | None]]:
        """Kind, state, answer and who answered, of all that the agent asked."""
        return [(one["kind"], one["state"], one["answer"], one["answered_by"]) for one in self.detail(name)["asked"]]

    def processes(self) -> list[str]:
        """Command lines of the programs that work for this office's agents."""
        found: list[str] = []
        for folder in Path("/proc").iterdir():
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                cwd = (folder / "cwd").readlink() if folder.name.isdigit() else None
            except OSError:
                continue
            if cwd == self.project and "pytest" not in line:
                found.append(line)
        return found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The place of a module's tests, with a scripted model."""
    home, log = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("model") / "model.jsonl"
    with (
        tempfile.TemporaryDirectory(prefix="fleet-", ignore_cleanup_errors=True) as state,
        rehearsal.start(SCRIPT, log=log) as model,
    ):
        house = House(Path(state).resolve(), home, model)
        try:
            yield house
        finally:
            if house.daemon is not None:
                house.daemon.stop()


@pytest.fixture
def office(house: House, project: Path) -> Iterator[Office]:
    """An office with its personas; a daemon serves it, its agents are deleted in the end."""
    folder = project / ".fleet" / "agents"
    folder.mkdir(parents=True)
    for name, front in PERSONAS.items():
        (folder / f"{name}.md").write_text(f"---\nname: {name}\ndescription: d\n{front}\n---\nYou are a test.\n")
    office = Office(house, project)
    if house.daemon is None:
        office.begin()
    yield office
    office.ask("DELETE", "/v1/agents?scope=project")


@pytest.fixture
def eventually() -> Callable[[Callable[[], object], str], None]:
    """Waits for a condition, at most as long as a test may."""
    return lambda condition, what: wait_until(condition, what, seconds=LIMIT_SECONDS)
