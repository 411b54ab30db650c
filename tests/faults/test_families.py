"""Families of real `claude` programs: a tree whose daemon dies, a stop that reaches everyone, and priorities."""

from __future__ import annotations

import os
import signal
from itertools import product
from pathlib import Path

import pytest

from orchestrator.supervision import leftovers
from tests.faults.test_recovery import Scene, staged
from tests.fixtures.daemon import wait_until

SCRIPT = Path(__file__).with_name("families.yaml")
TREE_SECONDS = 400.0
ENDED = {"complete", "failed", "interrupted"}
pytestmark = pytest.mark.timeout(900)


def write_lead(scene: Scene) -> None:
    scene.define("lead", tools="Read, Grep, Glob, Bash", children=5)
    scene.define("chief", tools="Read, Grep, Glob", children=3, fans_out="plan")


def status(scene: Scene, name: str) -> str:
    """The agent's status, '' if there is none."""
    agents = scene.place.ask("GET", "/v1/agents")["agents"]
    return next((str(agent["status"]) for agent in agents if agent["name"] == name), "")


def session(scene: Scene, name: str) -> str:
    return str(scene.place.ask("GET", f"/v1/agents/{name}")["session_id"])


def tree() -> list[str]:
    """The names of the forty: a root, and three below each but the leaves."""
    ways = [way for depth in range(4) for way in product("123", repeat=depth)]
    return ["-".join(("tree", *way)) for way in ways]


def murder_in_the_tool_of(scene: Scene, names: set[str]) -> str:
    """Kill the daemon while the first of these agents to come so far is in its tool; return which one it was."""

    def begun() -> list[str]:
        return [name for name in sorted(names) if (scene.project / f"{name}.began").exists()]

    wait_until(begun, f"one of {sorted(names)} in its tool", seconds=TREE_SECONDS)
    [name] = begun()
    scene.daemon.stop(signal.SIGKILL)
    (scene.project / f"{name}.go").touch()
    scene.start()
    scene.place.ask("GET", "/v1/agents")  # who calls brings the account, which only the dead daemon knew
    return name


@pytest.mark.requirement(
    "family:fan-out:limit-of-one-never-deadlocks",
    "family:tree:forty-nodes-one-slot",
    "family:children:deterministic-ids",
    "recovery:restart:nothing-respawned",
    "wait:anything:no-process",
)
def test_a_tree_of_forty_real_agents_with_one_slot_ends_though_its_daemon_is_killed_twice(tmp_path: Path) -> None:
    with staged(tmp_path, SCRIPT, AGENT_MAX_CONCURRENT="1", FLEET_REST_SECONDS="0") as scene:
        write_lead(scene)
        made = scene.place.ask("POST", "/v1/agents", {"name": "tree", "task": "find all", "persona": "lead"})
        held = {"tree-1-2-2", "tree-3-2-2"}
        while held:
            held.remove(murder_in_the_tool_of(scene, held))
        wait_until(lambda: status(scene, "tree") in ENDED, "the end of the tree", seconds=TREE_SECONDS)

        agents = {agent["name"]: agent for agent in scene.place.ask("GET", "/v1/agents")["agents"]}
        assert sorted(agents) == sorted(tree())
        assert {agent["status"] for agent in agents.values()} == {"complete"}
        root = made["agent"]["id"]
        assert agents["tree-2-1"]["id"] == f"{root}_child_1_child_0"
        turns = {name: scene.place.ask("GET", f"/v1/agents/{name}")["turns"] for name in agents}
        for branch in ("tree-1", "tree-2", "tree-3"):
            assert f"| {branch} joined 3" in turns["tree"][-1]["result"]
        assert {len(done) for done in turns.values()} == {1}
        for name in agents:
            scene.ended_once(name)
            wait_until(lambda name=name: scene.programs(name) == [], f"the end of {name}'s program")
        assert {record["task"] for record in scene.calls("tree-1-1-1")} == {"find part 1"}


@pytest.mark.requirement(
    "family:fan-out:limit-of-one-never-deadlocks",
    "family:plan:fans-out-from-schema",
    "recovery:restart:nothing-respawned",
    "wait:anything:no-process",
)
def test_a_plan_of_a_real_agent_creates_each_child_once_and_joins_them_though_its_daemon_is_killed_twice(
    tmp_path: Path,
) -> None:
    with staged(tmp_path, SCRIPT, AGENT_MAX_CONCURRENT="1", FLEET_REST_SECONDS="0") as scene:
        write_lead(scene)
        made = scene.place.ask("POST", "/v1/agents", {"name": "chief", "task": "find all", "persona": "chief"})
        wait_until(lambda: '"type":"user"' in scene.transcript(), "the prompt")
        os.kill(scene.daemon.pid, signal.SIGSTOP)
        wait_until(lambda: "end_turn" in scene.transcript(), "a plan that no daemon has read")
        scene.murder()
        wait_until(lambda: status(scene, "chief-2") in {"working", "complete"}, "child 2", seconds=TREE_SECONDS)
        assert status(scene, "chief") == "waiting"
        assert scene.programs("chief") == []
        scene.murder()
        digest = scene.place.ask("POST", "/v1/wait", {"agents": ["chief"], "timeout_seconds": 120})

        assert digest["timed_out"] is False, digest["text"]
        root = made["agent"]["id"]
        ids = {agent["name"]: agent["id"] for agent in scene.place.ask("GET", "/v1/agents")["agents"]}
        assert ids == {"chief": root, **{f"chief-{index + 1}": f"{root}_child_{index}" for index in range(3)}}
        [turn] = scene.place.ask("GET", "/v1/agents/chief")["turns"]
        assert (turn["status"], turn["model_calls"]) == ("complete", 2)
        assert turn["result"] == "joined:\n| found by chief-1\n| found by chief-2\n| found by chief-3"
        assert len(scene.calls("chief")) == 2
        for name in ids:
            scene.ended_once(name)
            wait_until(lambda name=name: scene.programs(name) == [], f"the end of {name}'s program")
            assert scene.kinds(name).count("agent.created") == 1


@pytest.mark.requirement("family:abort:whole-subtree", "guarantee:processes:none-left-after-stop")
def test_a_stop_of_a_real_parent_reaches_the_programs_of_all_below_it_and_what_they_left(tmp_path: Path) -> None:
    with staged(tmp_path, SCRIPT, AGENT_MAX_CONCURRENT="4", FLEET_REST_SECONDS="0") as scene:
        write_lead(scene)
        scene.place.ask("POST", "/v1/agents", {"name": "boss", "task": "lead", "persona": "lead"})
        wait_until((scene.project / "grandkid.began").exists, "the grandchild's shell", seconds=60)
        family = ("boss", "kid-1", "kid-2", "grandkid")
        sessions = {name: session(scene, name) for name in family}
        assert leftovers.find_processes(sessions["grandkid"])
        scene.place.ask("POST", "/v1/agents/boss/interrupt")
        for name in family:
            wait_until(lambda name=name: status(scene, name) == "interrupted", f"{name} interrupted")
            scene.ended_once(name)
        wait_until(
            lambda: not any(leftovers.find_processes(one) for one in sessions.values()),
            "the end of all programs",
            seconds=10,
        )


@pytest.mark.requirement(
    "limit:admission:sessions-depth-children-retries", "limit:admission:in-the-claiming-transaction"
)
def test_of_real_agents_in_the_queue_the_higher_priority_goes_first(tmp_path: Path) -> None:
    with staged(tmp_path, SCRIPT, AGENT_MAX_CONCURRENT="1", FLEET_REST_SECONDS="0") as scene:
        scene.place.ask("POST", "/v1/agents", {"name": "first", "task": "t", "persona": "scout"})
        for name, priority in (("low", -1), ("plain", 0), ("high", 5)):
            body = {"name": name, "task": "t", "persona": "scout", "priority": priority}
            scene.place.ask("POST", "/v1/agents", body)
        digest = scene.place.ask("POST", "/v1/wait", {"agents": [], "timeout_seconds": 90})

        assert digest["timed_out"] is False, digest["text"]
        assert [record["agent"] for record in scene.model.log()] == ["first", "high", "plain", "low"]
