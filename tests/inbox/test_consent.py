"""Late answers and long permissions through the real doors, with the real `claude`."""

from __future__ import annotations

import pytest

from tests.fixtures.door import asked, refused, through_door
from tests.inbox.conftest import Office

pytestmark = [pytest.mark.timeout(180), pytest.mark.anyio]
LONG = "echo ran >> ran.txt; : " + " ".join(f"word-{number}" for number in range(1000)) + " ; echo the end"


@pytest.mark.slow
@pytest.mark.requirement("question:answer:closed-is-no-task", "guarantee:consent:to-what-was-shown")
async def test_the_second_of_two_answers_is_refused_at_every_door_and_hides_no_result(office: Office) -> None:
    daemon = office.house.daemon
    assert daemon is not None
    fleet = office.fleet()
    async with through_door(daemon, office.project, **office.account, CLAUDE_CODE_SESSION_ID="one") as one:
        await asked(one, "create_agent", name="a", task="ask", persona="asker")
        assert '(options: 1 "red", 2 "blue")' in await asked(one, "wait_for_agents")
        assert "asks:" in fleet("show", "a").out or "question" in fleet("show", "a").out
        assert fleet("answer", "a", "2").code == 0
        told = await refused(one, "command_agent", agent="a", task="no")
        assert 'nothing was queued: a\'s question "Which colour?" was answered "blue" by a person' in told
        again = fleet("answer", "a", "red")
        assert again.code != 0
        assert 'was answered "blue" by a person' in again.err
        digest = await asked(one, "wait_for_agents")
        assert "| answer: blue" in digest
    assert len(office.detail("a")["turns"]) == 1


@pytest.mark.slow
@pytest.mark.requirement("permission:allow:only-what-was-shown", "guarantee:consent:to-what-was-shown")
async def test_a_long_command_runs_only_after_it_was_read_whole_at_that_door(office: Office) -> None:
    daemon = office.house.daemon
    assert daemon is not None
    fleet = office.fleet()
    async with through_door(daemon, office.project, **office.account, CLAUDE_CODE_SESSION_ID="one") as one:
        await asked(one, "create_agent", name="a", task=f"run {LONG}", persona="careful")
        digest = await asked(one, "wait_for_agents")
        assert 'get_agent_output(agent="a") shows it whole; then command_agent(agent="a"' in digest
        assert "nothing was allowed" in await refused(one, "command_agent", agent="a", task="allow")
        by_person = fleet("answer", "a", "allow")
        assert by_person.code != 0
        assert "fleet output a" in by_person.err
        assert not (office.project / "ran.txt").exists()
        first = await asked(one, "get_agent_output", agent="a")
        assert "asks to use Bash" in first
        assert "more at offset=6000" in first
        assert "nothing was allowed" in await refused(one, "command_agent", agent="a", task="always")
        await asked(one, "get_agent_output", agent="a", offset=6000)
        assert LONG in fleet("output", "a").out
        assert "answered" in await asked(one, "command_agent", agent="a", task="allow")
    assert office.result("a") == "first: the end"
    assert (office.project / "ran.txt").read_text() == "ran\n"
