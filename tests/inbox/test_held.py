"""What a failure does to the tasks behind it, with the real `claude`: held where they would meet it, and told."""

from __future__ import annotations

import pytest

from tests.inbox.conftest import Office

pytestmark = [pytest.mark.timeout(180)]


@pytest.mark.slow
@pytest.mark.requirement(
    "turn:queue:held-after-failure", "inputs:start:not-after-failed-turn", "guarantee:turns:none-vanishes"
)
def test_of_four_tasks_for_a_model_that_is_not_there_one_fails_and_three_are_held_across_a_restart(
    office: Office,
) -> None:
    fleet = office.fleet()
    office.create("a", "lost model", persona="asker")
    office.ask("POST", "/v1/agents", {"name": "b", "task": "read", "persona": "asker", "inputs": ["a"]})
    for task in ("two", "three", "four"):
        office.ask("POST", "/v1/agents/a/turns", {"task": task, "mode": "queue"})
    waited = fleet("wait", "a")
    assert waited.code == 5, waited
    assert "NEEDS YOU a: held: 3 tasks after not found failure -> fleet command a " in waited.out
    assert "[a failed (not_found: " in waited.out
    office.again()
    assert "waiting (held: 3 tasks after not found failure" in fleet("ps").out
    turns = office.detail("a")["turns"]
    assert [one["status"] for one in turns] == ["failed", "queued", "queued", "queued"]
    assert office.agent("b")["blocked_by"] == ["a"]
    assert fleet("command", "a", "again, please").code == 0
    told = office.wait("b")
    assert "[b complete" in told, told
    results = [one["result"] for one in office.detail("a")["turns"]]
    assert results == ["", "did: two", "did: three", "did: four", "found"]
