"""Caps and limits with the real `claude`: turns, seconds, the whole fleet; children, depth, living agents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.places import Place, placed
from tests.fixtures.daemon import wait_until
from tests.fixtures.personas import define

SCRIPT = Path(__file__).parent / "caps.yaml"
CALL_TOKENS = 100_000
"""what a call of the model claims to use in the script's fleet of three"""
AGENTS = 9


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A fleet of at most nine agents of one depth."""
    settings = {"FLEET_MAX_RETRIES": "0", "AGENT_MAX_CONCURRENT": "3"}
    settings |= {"AGENT_MAX_RECURSIVE_DEPTH": "1", "AGENT_MAX_SESSION": str(AGENTS)}
    with placed(tmp_path_factory.mktemp("caps"), SCRIPT, **settings) as (there, _):
        define(there.project, "lead", "tools: Read, Grep, Glob\nchildren: 2")
        yield there


def view(place: Place, name: str) -> dict[str, Any]:
    return place.ask("GET", f"/v1/agents?agent={name}")["agents"][0]


def paused(place: Place, name: str) -> str:
    """Why the agent waits, as soon as it does."""
    wait_until(lambda: view(place, name)["status"] == "waiting", f"{name}'s pause", seconds=60)
    return str(view(place, name)["reason"])


@pytest.mark.requirement("budget:cap:agent-subtree-fleet", "budget:cap:resumes-after-top-up")
def test_a_real_agent_at_its_cap_of_turns_begins_no_more_until_it_has_another(place: Place) -> None:
    place.create("turns", persona="scout", max_total_turns=1)
    assert place.outcome("turns")["status"] == "complete"
    place.ask("POST", "/v1/agents/turns/turns", {"task": "and again"})
    assert paused(place, "turns") == "budget 1 turns of 1 turns"
    place.ask("PUT", "/v1/agents/turns/budget", {"max_total_turns": 2})
    turn = place.outcome("turns")
    assert (turn["turn"], turn["status"]) == (2, "complete")


@pytest.mark.requirement("budget:cap:agent-subtree-fleet", "budget:cap:resumes-after-top-up")
def test_a_real_agent_is_stopped_when_its_seconds_are_up_and_goes_on_with_more(place: Place) -> None:
    place.create("slow", max_seconds=6)
    assert re.fullmatch(r"budget \d+s of 6s", paused(place, "slow"))
    (place.project / "enough").touch()
    place.ask("PUT", "/v1/agents/slow/budget", {"max_seconds": 600})
    turn = place.outcome("slow")
    assert (turn["turn"], turn["status"], turn["result"]) == (1, "complete", "in time at last")


@pytest.mark.requirement(
    "limit:admission:sessions-depth-children-retries",
    "limit:admission:in-the-claiming-transaction",
    "budget:cap:agent-subtree-fleet",
    "family:children:deterministic-ids",
)
def test_a_real_parent_is_refused_what_is_reserved_what_is_too_deep_and_one_child_too_many(place: Place) -> None:
    place.create("lead", persona="lead", max_tokens=100_000)
    turn = place.outcome("lead")
    assert turn["status"] == "complete", turn
    said = dict(line.split(": ", 1) for line in turn["result"].splitlines() if ": " in line)
    assert "is used or reserved: a child cannot have 60000 tokens" in said["dear"]
    assert "you have created 2 agents and may create 2" in said["third"]
    assert "AGENT_MAX_RECURSIVE_DEPTH is 1" in place.ask("GET", "/v1/agents/kid")["turns"][0]["result"]
    family = [one["name"] for one in place.ask("GET", "/v1/agents")["agents"] if one["parent"] == "lead"]
    assert sorted(family) == ["aide", "kid"]


@pytest.mark.requirement("guarantee:spending:one-call-beyond-cap", "budget:cap:agent-subtree-fleet")
def test_three_real_agents_under_one_cap_of_the_fleet_exceed_it_by_a_call_each_at_most(place: Place) -> None:
    before = sum(one["tokens"] for one in place.ask("GET", "/v1/agents")["agents"])
    cap = before + 4 * CALL_TOKENS
    place.ask("PUT", "/v1/budget", {"max_tokens": cap})
    names = [f"fleet-{number}" for number in range(3)]
    for name in names:  # each in a checkout of its own, so that all can write, and spend, at once
        (place.project / name).mkdir()
        place.create(name, cwd=str(place.project / name))
    for name in names:
        assert paused(place, name).startswith("budget of the fleet ")
    used = sum(one["tokens"] for one in place.ask("GET", "/v1/agents")["agents"])
    assert cap <= used <= cap + len(names) * CALL_TOKENS + 3 * 1000
    wait_until(lambda: place.ask("GET", "/v1/health")["sessions"] == 0, "the end of the programs")
    place.ask("PUT", "/v1/budget", {"max_tokens": 10 * cap})
    assert {place.outcome(name)["status"] for name in names} == {"complete"}


@pytest.mark.requirement(
    "limit:admission:sessions-depth-children-retries", "limit:admission:in-the-claiming-transaction"
)
def test_no_more_agents_live_than_the_setting_says_and_a_deleted_one_makes_room(place: Place) -> None:
    def living() -> int:
        return len(place.ask("GET", "/v1/agents")["agents"])

    while (alive := living()) < AGENTS:
        place.create(f"more-{alive}", persona="scout")
    with place.daemon.http(place.project) as client:
        body = {"name": "too-many", "task": "t", "persona": "scout"}
        answer = client.post("/v1/agents", json=body)
    assert answer.status_code == 409
    assert f"AGENT_MAX_SESSION is {AGENTS}" in answer.json()["detail"]
    place.ask("DELETE", "/v1/agents/turns")
    place.create("too-many", persona="scout")
