"""A text for the running turn: read within it if a tool runs or follows, otherwise as the next turn; never lost."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.inbox.conftest import Office

pytestmark = [pytest.mark.timeout(180)]
Eventually = Callable[[Callable[[], object], str], None]
PART = ("status", "reason")


def turns(office: Office, name: str) -> list[tuple[str, str]]:
    """Status and reason of the agent's turns."""
    return [(turn["status"], turn["reason"]) for turn in office.detail(name)["turns"]]


def steer(office: Office, name: str, text: str) -> str:
    """Steer; what happened."""
    return office.ask("POST", f"/v1/agents/{name}/turns", {"task": text, "mode": "steer"})["happened"]


@pytest.mark.requirement("turn:steer:running", "turn:steer:receipts")
def test_a_text_is_read_in_the_middle_of_the_running_turn(office: Office, eventually: Eventually) -> None:
    office.create("a", "work on go", persona="asker")
    eventually((office.project / "go.began").exists, "the tool has begun")
    assert "handed into the running turn" in steer(office, "a", "mind the gap")
    assert "handed into the running turn" in steer(office, "a", "and the step")
    eventually(
        lambda: office.has_heard("a", "mind the gap") and office.has_heard("a", "and the step"), "both texts read"
    )
    (office.project / "go").touch()
    heard = office.result("a")
    assert "mind the gap" in heard
    assert "and the step" in heard
    assert turns(office, "a") == [("complete", ""), ("cancelled", "steered"), ("cancelled", "steered")]
    terminal = [
        (event["turn"], event["kind"])
        for event in office.ask("GET", "/v1/events?since=0&agent=a")["events"]
        if event["kind"] in {"turn.complete", "turn.cancelled", "turn.failed", "turn.interrupted"}
    ]
    assert sorted(terminal) == [(1, "turn.complete"), (2, "turn.cancelled"), (3, "turn.cancelled")]


@pytest.mark.requirement("turn:steer:running")
def test_a_text_that_comes_between_tools_is_read_after_the_next_one(office: Office, eventually: Eventually) -> None:
    office.create("a", "think", persona="asker")
    eventually(lambda: office.agent("a")["status"] == "working", "a working agent")
    assert "at its next tool call" in steer(office, "a", "mind the gap")
    assert "mind the gap" in office.result("a")
    assert turns(office, "a") == [("complete", ""), ("cancelled", "steered")]


@pytest.mark.requirement("turn:steer:running")
def test_a_text_that_no_tool_takes_in_is_the_next_turn(office: Office, eventually: Eventually) -> None:
    office.create("a", "only think", persona="asker")
    eventually(lambda: office.agent("a")["status"] == "working", "a working agent")
    steer(office, "a", "mind the gap")
    eventually(lambda: turns(office, "a") == [("complete", ""), ("complete", "")], "two turns")
    assert office.detail("a")["turns"][-1]["result"] == "did: mind the gap"


@pytest.mark.requirement("turn:steer:running")
def test_a_text_for_a_turn_that_is_interrupted_is_the_next_turn(office: Office, eventually: Eventually) -> None:
    office.create("a", "work on go", persona="asker")
    eventually((office.project / "go.began").exists, "the tool has begun")
    steer(office, "a", "mind the gap")
    office.ask("POST", "/v1/agents/a/interrupt")
    eventually(lambda: turns(office, "a")[-1][0] == "complete", "the next turn")
    assert turns(office, "a")[0][0] == "interrupted"
    assert office.detail("a")["turns"][-1]["result"] == "did: mind the gap"


@pytest.mark.requirement("turn:steer:running")
def test_a_text_that_comes_as_a_cap_is_reached_is_read_once(office: Office, eventually: Eventually) -> None:
    asked = {"name": "a", "task": "think", "persona": "asker", "max_tokens": 1}
    office.ask("POST", "/v1/agents", asked)
    eventually(lambda: office.agent("a")["status"] == "working", "a working agent")
    steer(office, "a", "mind the gap")
    eventually(lambda: office.agent("a")["status"] == "waiting", "a suspended agent")
    office.ask("PUT", "/v1/agents/a/budget", {"max_tokens": 10_000_000})
    eventually(lambda: office.agent("a")["status"] in {"complete", "failed"}, "the end")
    files = list((office.house.state / "agents" / office.agent("a")["id"]).glob("claude/projects/*/*.jsonl"))
    entries = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    prompts = [entry["message"]["content"] for entry in entries if entry.get("type") == "user"]
    taken = [entry["attachment"] for entry in entries if entry.get("type") == "attachment"]
    read = prompts.count("mind the gap") + sum(one.get("type") == "queued_command" for one in taken)
    assert read == 1, turns(office, "a")


@pytest.mark.requirement("turn:steer:running")
def test_a_resting_agent_is_not_steered_but_told_so(office: Office) -> None:
    office.create("a", "read", persona="asker")
    office.wait("a")
    assert "not steered: no turn is running" in steer(office, "a", "mind the gap")
    assert office.result("a") == "did: mind the gap"
