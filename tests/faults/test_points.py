"""Faults of the model's API at every later point of a turn; `test_table.py` has those at its first call.

One daemon and one rehearsal carry all of them, a few at a time: each pair of a point and a fault is an agent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.places import KEY, Place
from tests.faults.test_recovery import TERMINAL, Scene, staged
from tests.fixtures.daemon import wait_until

pytestmark = pytest.mark.timeout(600)
ALL_SECONDS = 400.0
REFUSED = ("waiting", "quota until")
Json = dict[str, Any]

FAULTS: dict[str, tuple[Json, tuple[str, str]]] = {
    "401": ({"status": 401, "message": "invalid x-api-key"}, ("failed", "auth")),
    "403": ({"status": 403, "message": "this key may not"}, ("failed", "auth")),
    "404": ({"status": 404, "message": "no such model"}, ("failed", "not_found")),
    "429": ({"status": 429, "message": "slow down"}, REFUSED),
    "500": ({"status": 500, "message": "internal"}, ("failed", "overloaded")),
    "529": ({"status": 529, "message": "overloaded"}, ("failed", "overloaded")),
    "silence": ({"kind": "silence"}, ("failed", "silence")),
    "ping": ({"kind": "ping"}, ("failed", "silence")),
    "silence_mid": ({"kind": "silence_mid"}, ("failed", "silence")),
    "cut": ({"kind": "cut"}, ("failed", "api")),
    "cut_mid": ({"kind": "cut_mid"}, ("failed", "api")),
    "garbage": ({"kind": "garbage"}, ("failed", "api")),
    "error_mid": ({"kind": "error_mid"}, ("failed", "overloaded")),
    "html": ({"kind": "html"}, ("failed", "api")),
    "empty": ({"kind": "empty"}, ("failed", "api")),
}
"""each fault, and the status and reason that must come of it, wherever it strikes"""
POINTS: dict[str, tuple[str, ...]] = {
    "tool": tuple(FAULTS),
    "call": ("silence_mid", "cut_mid", "garbage", "error_mid"),
    "answer": ("401", "429", "500", "silence", "cut_mid"),
    "steer": ("429", "500", "silence_mid", "cut"),
    "check": ("401", "429", "529", "silence", "error_mid"),
}
"""after a tool; in the middle of the stream of a tool call; after the answer to a deferred call; in the call that
brings a steer; in the one that brings a failed check"""


@dataclass(frozen=True)
class Struck:
    """An agent that meets its fault at its point."""

    point: str
    fault: str

    @property
    def name(self) -> str:
        return f"{self.point}-{self.fault.replace('_', '-')}"

    @property
    def expected(self) -> tuple[str, str]:
        return FAULTS[self.fault][1]

    def parts(self) -> Iterator[Json]:
        """What the model plays for it."""
        fault = {"fault": FAULTS[self.fault][0], "say": "half of an answer"}
        ran = f"echo ran >> {self.name}.log"
        hold = f"{ran}; until test -e {self.name}.go; do sleep 0.1; done"
        match self.point:
            case "tool" | "steer":
                command = hold if self.point == "steer" else ran
                replies = [{"calls": [{"tool": "Bash", "input": {"command": command}}]}, fault]
            case "call":
                replies = [{"calls": [{"tool": "Bash", "input": {"command": ran}}], "fault": fault["fault"]}]
            case "answer":
                asks = {"tool": "mcp__crew__ask_orchestrator", "input": {"question": "Which?"}}
                replies = [{"calls": [asks]}, fault]
            case _:
                yield {"part": f"{self.name} told", "match": {"agent": self.name, "task": "failed"}, "replies": [fault]}
                replies = [{"say": "done, it says"}]
        yield {"part": self.name, "match": {"agent": self.name}, "replies": replies}


STRUCK = [Struck(point, fault) for point, faults in POINTS.items() for fault in faults]


def begin(scene: Scene, one: Struck) -> None:
    """Create the agent; one whose account will be refused has its own."""
    place = scene.place
    account = {**place.account, **({"ANTHROPIC_API_KEY": f"{KEY}-{one.name}"} if one.expected == REFUSED else {})}
    more: Json = {"checks": ["test -e never"], "check_retries": 1} if one.point == "check" else {}
    Place(place.daemon, place.project, account, place.environment).create(one.name, persona="reader", **more)


def lead_to_its_point(scene: Scene, one: Struck) -> None:
    """Give the agent what its point needs: an answer, or a steer while it is in its tool."""
    agent = f"/v1/agents/{one.name}"
    if one.point == "answer":
        wait_until(lambda: "turn.waiting" in scene.kinds(one.name), f"the question of {one.name}", seconds=ALL_SECONDS)
        scene.place.ask("POST", f"{agent}/answer", {"text": "the left one"})
    elif one.point == "steer":
        wait_until((scene.project / f"{one.name}.log").exists, f"the tool of {one.name}", seconds=ALL_SECONDS)
        scene.place.ask("POST", f"{agent}/turns", {"task": "mind the gap", "mode": "steer"})
        (scene.project / f"{one.name}.go").touch()


def outcome(scene: Scene, one: Struck) -> tuple[str, str]:
    """What became of the turn: its status and reason once it ended, or those of its agent."""
    seen = scene.place.ask("GET", f"/v1/agents/{one.name}")
    turn = seen["turns"][0]
    if turn["status"] in {"complete", "failed", "interrupted", "cancelled"}:
        return turn["status"], turn["reason"]
    view = scene.place.ask("GET", f"/v1/agents?agent={one.name}")["agents"][0]
    return view["status"], view["reason"]


def is_over(told: tuple[str, str]) -> bool:
    return told[0] not in {"queued", "working"} and (told[0] != "waiting" or told[1].startswith("quota"))


def faults_of(scene: Scene, one: Struck, told: tuple[str, str]) -> Iterator[str]:
    """What is not as it must be."""
    status, reason = one.expected
    if told[0] != status or not told[1].startswith(reason):
        yield f"{told}"
    ends = [event["kind"] for event in scene.events(one.name) if event["kind"] in TERMINAL and event["turn"] == 1]
    if ends != ([] if one.expected == REFUSED else [f"turn.{status}"]):
        yield f"ends {ends}"
    log = scene.project / f"{one.name}.log"
    runs = log.read_text().split() if log.exists() else []
    if runs != (["ran"] if one.point in {"tool", "steer"} else []):
        yield f"its tool: {runs}"


@pytest.mark.requirement("status:faults:right-state-in-bound", "guarantee:outcome:exactly-one-and-true")
def test_each_fault_ends_in_its_state_once_at_every_point_of_a_turn(tmp_path: Path) -> None:
    script = tmp_path / "points.yaml"
    parts = [part for one in STRUCK for part in one.parts()]
    script.write_text(json.dumps({"name": "points", "parts": parts}))
    settings = {"AGENT_MAX_CONCURRENT": "4", "FLEET_REST_SECONDS": "0", "FLEET_MAX_RESUMES": "0"}
    settings |= {"FLEET_TURN_RETRIES": "0", "FLEET_STALL_SECONDS": "2", "FLEET_SILENCE_SECONDS": "12"}
    with staged(tmp_path / "scene", script, **settings) as scene:
        scene.define("reader", tools="Read, Bash")
        for one in STRUCK:
            begin(scene, one)
        for one in STRUCK:
            lead_to_its_point(scene, one)
        for one in STRUCK:
            wait_until(lambda one=one: is_over(outcome(scene, one)), f"the end of {one.name}", seconds=ALL_SECONDS)
        wrong = {one.name: list(faults_of(scene, one, outcome(scene, one))) for one in STRUCK}
        assert {name: what for name, what in wrong.items() if what} == {}
