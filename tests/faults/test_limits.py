"""Budgets and quotas with the real `claude`: a suspended turn resumes, and loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.domain.usage import Usage
from orchestrator.providers.pricing import price_of
from tests.faults.places import Place, placed
from tests.fixtures.daemon import wait_until

SCRIPT = Path(__file__).parent / "limits.yaml"
MODEL = "claude-haiku-4-5"


@pytest.fixture
def limits(tmp_path: Path) -> Iterator[Place]:
    with placed(tmp_path, SCRIPT, FLEET_MAX_RETRIES="0", AGENT_MAX_CONCURRENT="1") as (there, _):
        yield there


def status(place: Place, name: str) -> tuple[str, str]:
    view = place.ask("GET", f"/v1/agents?agent={name}")["agents"][0]
    return view["status"], view["reason"]


@pytest.mark.requirement("budget:cap:suspends-until-top-up", "guarantee:spending:one-call-beyond-cap")
def test_claude_pauses_at_its_cap_before_the_next_call_and_the_same_turn_goes_on(limits: Place) -> None:
    limits.create("spender", model=MODEL, max_cost_usd=0.15)
    wait_until(lambda: status(limits, "spender")[0] == "waiting", "the pause")
    assert status(limits, "spender")[1].startswith("budget $0.2")
    assert (limits.project / "calls").read_text() == "one\n"  # the tool behind the second call never ran
    log = (limits.project.parent / "log.jsonl").read_text().splitlines()
    assert len(log) == 2
    assert limits.ask("GET", "/v1/health")["sessions"] == 0

    digest = limits.ask("POST", "/v1/wait", {"agents": ["spender"], "timeout_seconds": 5})
    assert "NEEDS YOU spender: budget $0.20 of $0.15 -> fleet budget spender --max-cost-usd 0.4" in digest["text"]
    limits.ask("POST", "/v1/agents/spender/turns", {"max_cost_usd": 1.0})
    turn = limits.outcome("spender")
    assert (turn["turn"], turn["status"], turn["result"]) == (1, "complete", "all done after the pause")


@pytest.mark.requirement("budget:price:source-and-date")
def test_the_price_table_says_what_the_program_says(limits: Place) -> None:
    limits.create("spender", model=MODEL)
    turn = limits.outcome("spender")
    price = price_of(MODEL)
    assert price is not None
    used = Usage(
        input_tokens=turn["input_tokens"],
        output_tokens=turn["output_tokens"],
        cache_read_tokens=turn["cache_read_tokens"],
        cache_write_tokens=turn["cache_write_tokens"],
    )
    assert turn["cost_usd"] == pytest.approx(price.cost_usd(used), rel=0.01)


@pytest.mark.requirement("budget:price:source-and-date")
def test_a_cap_in_dollars_for_a_model_of_unknown_price_is_refused(limits: Place) -> None:
    with limits.daemon.http(limits.project) as client:
        body = {"name": "a", "task": "t", "model": "claude-unheard-of-1", "max_cost_usd": 1.0}
        answer = client.post("/v1/agents", json=body)
    assert answer.status_code == 422
    assert "max_tokens" in answer.json()["hint"]


@pytest.mark.requirement("quota:breaker:staggered-resume", "error:model-api:429")
def test_a_real_429_suspends_the_agent_and_its_like(limits: Place) -> None:
    limits.create("quota", model=MODEL)
    wait_until(lambda: status(limits, "quota")[1].startswith("quota until "), "the suspension")
    limits.create("late", model=MODEL)
    wait_until(lambda: status(limits, "late")[1].startswith("quota until "), "the other's suspension")
    turn = limits.ask("GET", "/v1/agents/quota")["turns"][-1]
    assert turn["status"] == "waiting"


@pytest.mark.requirement("quota:retry:jitter-and-401")
def test_a_real_529_is_repeated_after_a_pause_and_goes_through(limits: Place) -> None:
    limits.create("overloaded", model=MODEL)
    wait_until(lambda: status(limits, "overloaded") == ("waiting", "retrying 1/3"), "the pause")
    turn = limits.outcome("overloaded")
    assert (turn["status"], turn["result"]) == ("complete", "went through")


@pytest.mark.requirement("family:fan-out:limit-of-one-never-deadlocks", "family:children:deterministic-ids")
def test_a_real_parent_sleeps_on_its_children_with_one_slot_and_joins_what_they_say(limits: Place) -> None:
    personas = limits.project / ".fleet" / "agents"
    personas.mkdir(parents=True)
    (personas / "lead.md").write_text("---\nname: lead\nchildren: 3\n---\nSplit the task.\n")
    limits.create("lead", model=MODEL, persona="lead")
    turn = limits.outcome("lead")
    assert turn["status"] == "complete", turn
    assert "[kid-1 complete" in turn["result"]
    assert "| done kid-2" in turn["result"]
    family = {agent["name"]: agent for agent in limits.ask("GET", "/v1/agents")["agents"]}
    assert family["kid-2"]["id"] == f"{family['lead']['id']}_child_1"
    assert family["kid-1"]["parent"] == "lead"
