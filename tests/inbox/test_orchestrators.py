"""The inbox as orchestrators see it: through the real door, across sessions, on the real `claude`."""

from __future__ import annotations

import pytest

from tests.fixtures.door import asked, refused, through_door
from tests.inbox.conftest import Office

pytestmark = [pytest.mark.timeout(180), pytest.mark.anyio]


@pytest.mark.requirement(
    "question:inbox:told-to-new-session", "question:answer:every-way", "permission:gate:allow-deny-always"
)
async def test_the_next_session_is_told_what_the_last_one_left_and_answers_it(office: Office) -> None:
    daemon = office.house.daemon
    assert daemon is not None
    async with through_door(daemon, office.project, **office.account, CLAUDE_CODE_SESSION_ID="first") as first:
        task = "run echo ran >> ran.txt; echo it ran"
        await asked(first, "create_agent", name="left", task=task, persona="careful")
        assert 'NEEDS YOU left wants to use Bash: "echo ran' in await asked(first, "wait_for_agents")
    async with through_door(daemon, office.project, **office.account, CLAUDE_CODE_SESSION_ID="second") as second:
        made = await asked(second, "create_agent", name="mine", task="read", persona="asker")
        assert "\nleft by ended sessions: left waits for an answer -> name them in wait_for_agents" in made
        status = await asked(second, "get_agent_status", agents=["left"])
        assert "left by" not in status
        assert '-> command_agent(agent="left", task="allow" or "always" or "deny: <why>")' in status
        wrong = await refused(second, "command_agent", agent="left", task="of course")
        assert "answer allow, always, or deny: <why>" in wrong
        assert "answered" in await asked(second, "command_agent", agent="left", task="allow")
        digest = await asked(second, "wait_for_agents", agents=["left", "mine"])
        assert "[left complete" in digest
    assert office.asked("left") == [("permission", "settled", "allow", "orchestrator")]
    assert (office.project / "ran.txt").read_text() == "ran\n"


@pytest.mark.parametrize("persona", ["patterned", "endless", "wishful"])
def test_a_rule_that_cannot_be_kept_is_refused_with_its_place(office: Office, persona: str) -> None:
    front, words = {
        "patterned": ('tools: Read\nask: ["Bash(git push:*)"]', "patterns over commands are easily evaded"),
        "endless": ("answer_within: some day", "not a duration such as 30s"),
        "wishful": ("policy:\n  - {tool: Bash, answer: perhaps}", "answer allow, always, or deny: <why>"),
    }[persona]
    file = office.project / ".fleet" / "agents" / f"{persona}.md"
    file.write_text(f"---\nname: {persona}\ndescription: d\n{front}\n---\nYou are a test.\n")
    said = office.try_ask("POST", "/v1/agents", {"name": "a", "task": "t", "persona": persona})
    assert said["type"] == "urn:fleet:problem:InvalidError"
    assert str(file) in said["detail"]
    assert words in said["detail"]
    assert said["hint"]
