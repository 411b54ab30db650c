"""Several tasks for one agent, of which one fails: the others are held or told, and nobody builds on the failure."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.supervision import leftovers
from tests.faults.places import Place, placed
from tests.fixtures.daemon import clean_env, wait_until
from tests.fixtures.fleet_command import Command

SCRIPT = Path(__file__).parent / "queues.yaml"
TASKS = ("first", "second", "third")
CHECK = "grep -q green state.txt || { echo the state is $(cat state.txt); exit 4; }"
pytestmark = pytest.mark.timeout(180)


@dataclass(frozen=True)
class Desk:
    """A fleet with the real program, seen over HTTP and by the command line."""

    place: Place
    fleet: Command

    def queue(self, name: str, **more: object) -> None:
        """Give an agent three tasks, of which the first ends only after all of them are there."""
        self.place.ask("POST", "/v1/agents", {"name": name, "task": TASKS[0], **more})
        self.place.ask("POST", "/v1/agents", {"name": f"behind-{name}", "task": "go on", "inputs": [name]})
        for task in TASKS[1:]:
            self.place.ask("POST", f"/v1/agents/{name}/turns", {"task": task})
        (self.place.project / "queued").touch()

    def view(self, name: str) -> dict[str, Any]:
        """What the daemon says about the agent."""
        return self.place.ask("GET", f"/v1/agents/{name}")["agent"]

    def standing(self, name: str) -> tuple[str, str]:
        """Its status, and why."""
        view = self.view(name)
        return view["status"], view["reason"]

    def turns(self, name: str) -> list[tuple[str, str]]:
        """How each of its turns stands, and why."""
        return [(turn["status"], turn["reason"]) for turn in self.place.ask("GET", f"/v1/agents/{name}")["turns"]]


@contextmanager
def opened(root: Path) -> Generator[Desk]:
    """A desk at which nothing is tried again by itself."""
    settings = {"FLEET_MAX_RETRIES": "1", "FLEET_TURN_RETRIES": "0", "FLEET_MAX_RESUMES": "0"}
    with placed(root, SCRIPT, **settings) as (place, _):
        yield Desk(place, Command(place.project, clean_env(root / "home", place.daemon.state)))


@pytest.mark.requirement(
    "turn:queue:held-after-failure", "inputs:start:not-after-failed-turn", "error:model-api:401", "error:program:killed"
)
@pytest.mark.parametrize(("name", "reason"), [("refused", "auth"), ("killed", "process")])
def test_a_failure_that_the_next_task_would_meet_holds_it_and_the_call_that_goes_on_runs_it(
    name: str, reason: str, tmp_path: Path
) -> None:
    with opened(tmp_path) as desk:
        desk.queue(name)
        if name == "killed":
            wait_until((desk.place.project / "began").exists, "the agent's shell")
            session = desk.place.ask("GET", "/v1/agents/killed")["session_id"]
            processes = map(psutil.Process, leftovers.find_processes(session))
            [claude] = [process for process in processes if process.name() == "claude"]
            claude.kill()
        waited = desk.fleet("wait", name)

        assert waited.code != 0
        held = f"held: 2 tasks after {reason} failure"
        assert f"NEEDS YOU {name}: {held} -> " in waited.out
        assert f"[{name} failed ({reason}" in waited.out
        assert desk.standing(name) == ("waiting", held)
        assert desk.turns(name) == [("failed", reason), ("queued", ""), ("queued", "")]
        assert desk.standing(f"behind-{name}") == ("queued", f"its input {name} failed in an earlier turn")

        desk.place.ask("POST", f"/v1/agents/{name}/turns", {"task": "once more"})
        wait_until(lambda: desk.view(f"behind-{name}")["status"] == "complete", "the agents behind it", seconds=60)
        assert [status for status, _ in desk.turns(name)] == ["failed", "complete", "complete", "complete"]


@pytest.mark.requirement(
    "inputs:start:not-after-failed-turn", "wait:digest:every-turn-once", "check:verdict:decides-outcome"
)
def test_of_three_tasks_the_one_that_fails_its_check_is_told_and_nobody_starts_behind_it(tmp_path: Path) -> None:
    with opened(tmp_path) as desk:
        desk.queue("three", checks=[CHECK], check_retries=0)
        wait_until(lambda: desk.view("three")["status"] == "complete", "the end of all three", seconds=60)
        waited = desk.fleet("wait", "three")

        assert waited.code != 0
        told = re.findall(r"^\[three (\w+)(?: \((\w+).*?\))? · turn (\d)", waited.out, re.MULTILINE)
        assert told == [("complete", "", "1"), ("failed", "checks", "2"), ("complete", "", "3")]
        assert 'exit 4 "the state is red"' in waited.out
        for part in TASKS:
            assert f"| the {part} part is done" in waited.out
        assert desk.standing("behind-three") == ("queued", "its input three failed in an earlier turn")
        assert desk.turns("behind-three") == [("queued", "")]
