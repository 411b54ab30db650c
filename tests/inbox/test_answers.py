"""Questions and permissions of agents on the real `claude`: answered through doors, across restarts, by defaults."""

from __future__ import annotations

import re

import pytest

from tests.inbox.conftest import HASTY, Office

pytestmark = [pytest.mark.timeout(180)]


@pytest.mark.requirement(
    "question:inbox:deadline-and-default",
    "permission:gate:allow-deny-always",
    "question:inbox:one-for-all-agents",
    "wait:anything:no-process",
)
def test_a_permission_is_answered_two_daemons_later_without_a_process_in_between(office: Office) -> None:
    office.create("a", "run echo ran >> ran.txt; echo it ran")
    digest = office.wait("a")
    assert 'NEEDS YOU a wants to use Bash: "echo ran >> ran.txt; echo it ran' in digest
    assert '-> fleet answer a allow | always | "deny: <why>" --question qu_' in digest
    assert (office.agent("a")["status"], office.agent("a")["reason"]) == ("waiting", "permission")
    for _ in range(2):
        assert office.processes() == []
        office.again()
    assert not (office.project / "ran.txt").exists()
    calls = len(office.model.log())
    office.answer("a", "allow")
    assert office.result("a") == "first: it ran"
    assert (office.project / "ran.txt").read_text() == "ran\n"
    assert len(office.model.log()) == calls + 1
    assert office.asked("a") == [("permission", "settled", "allow", "person")]


@pytest.mark.requirement("permission:gate:allow-deny-always")
def test_a_denied_agent_reads_why(office: Office) -> None:
    office.create("a", "run touch ran.txt")
    office.wait("a")
    office.answer("a", "deny: the release is frozen")
    assert "denied: the release is frozen" in office.result("a")
    assert not (office.project / "ran.txt").exists()


@pytest.mark.requirement("permission:gate:allow-deny-always")
def test_always_allows_the_very_command_from_now_on_and_no_other(office: Office) -> None:
    office.create("a", "run echo hi")
    office.wait("a")
    office.answer("a", "always")
    assert office.result("a") == "first: hi"
    office.again()
    office.ask("POST", "/v1/agents/a/turns", {"task": "again echo hi"})
    assert 'wants to use Bash: "echo hi; true"' in office.wait("a")
    office.answer("a", "deny: enough")
    assert office.result("a").startswith("one: hi, two: ")
    assert [one[2] for one in office.asked("a")] == ["always", "deny: enough"]


@pytest.mark.requirement("permission:gate:allow-deny-always")
@pytest.mark.parametrize("text", ["yes", "allow it", "deny", "deny: "])
def test_what_does_not_answer_a_permission_is_an_error_that_says_what_does(office: Office, text: str) -> None:
    office.create("a", "run touch ran.txt")
    office.wait("a")
    error = office.try_ask("POST", "/v1/agents/a/answer", {"text": text})
    assert error["type"] == "urn:fleet:problem:InvalidError"
    assert "allow, always, or deny: <why>" in error["hint"]
    assert office.agent("a")["status"] == "waiting"


@pytest.mark.requirement("permission:gate:allow-deny-always")
def test_of_two_permissions_in_one_message_one_waits_and_the_other_is_asked_again(office: Office) -> None:
    office.create("a", "two at once")
    office.wait("a")
    office.answer("a", "allow")
    digest = office.wait("a")
    assert "echo two" in digest
    office.answer("a", "allow")
    text = office.result("a")
    assert text.startswith("first: one second: ")
    assert "one question at a time" in text
    assert text.endswith("third: two")
    assert (office.project / "ran.txt").read_text() == "one\ntwo\n"


@pytest.mark.requirement("permission:gate:allow-deny-always")
def test_a_sub_agent_is_never_left_waiting_for_a_permission(office: Office) -> None:
    office.create("a", "delegate", persona="boss")
    text = office.result("a")
    assert "needs a permission that a sub-agent cannot wait for" in text
    assert not (office.project / "ran.txt").exists()
    assert office.asked("a") == []


@pytest.mark.requirement("question:inbox:deadline-and-default")
def test_a_deadline_that_passes_while_no_daemon_runs_is_kept_by_the_next_one(office: Office) -> None:
    office.create("a", "run touch ran.txt", persona="hasty")
    office.create("b", "ask", persona="hasty")
    office.wait("a")
    office.wait("b")
    office.end()
    office.let_deadlines_pass()
    office.begin()
    assert f"denied: nobody answered within {HASTY}" in office.result("a")
    assert office.result("b") == "answer: green"
    assert not (office.project / "ran.txt").exists()
    assert office.asked("b") == [("question", "settled", "green", "deadline")]


@pytest.mark.requirement("question:answer:every-way")
def test_a_policy_answers_at_once_and_is_recorded_as_such(office: Office) -> None:
    office.create("a", "run touch ran.txt", persona="ruled")
    office.create("b", "ask", persona="ruled")
    assert "denied: no shell on a Sunday" in office.result("a")
    assert office.result("b") == "answer: blue, says the policy"
    assert office.asked("a") == [("permission", "settled", "deny: no shell on a Sunday", "policy")]
    assert office.asked("b") == [("question", "settled", "blue, says the policy", "policy")]
    kinds = [event["kind"] for event in office.ask("GET", "/v1/events?since=0&agent=a")["events"]]
    assert "turn.answered" in kinds
    assert "turn.waiting" not in kinds


def test_a_tool_that_is_not_asked_for_runs_without_a_question(office: Office) -> None:
    office.create("a", "read")
    assert office.result("a").startswith("read ")
    assert office.asked("a") == []


@pytest.mark.requirement("question:answer:every-way")
def test_a_person_sees_what_is_asked_and_answers_with_the_command(office: Office) -> None:
    office.create("a", "run echo hi")
    office.wait("a")
    fleet = office.fleet()
    listed, shown = fleet("ps"), fleet("show", "a")
    assert "echo hi" in listed.out
    assert 'fleet answer a allow | always | "deny: why" --question qu_' in listed.out
    assert re.search(r"it wants to use Bash:\n  \| .*echo hi", shown.out)
    wrong = fleet("answer", "a", "perhaps")
    assert wrong.code == 2
    assert "allow, always, or deny" in wrong.err
    other = fleet("answer", "a", "allow", "--question", "qu_00000000")
    assert (other.code, "now wants to use Bash" in other.err) == (1, True), other.err
    (asked,) = re.findall(r"--question (qu_\w{8})$", shown.out, re.MULTILINE)
    done = fleet("answer", "a", "allow", "--question", asked)
    assert done.code == 0, done.err
    assert office.result("a") == "first: hi"
    assert "-> allow (by person)" in fleet("show", "a").out


def test_an_interrupted_permission_is_withdrawn_and_never_runs(office: Office) -> None:
    office.create("a", "run touch ran.txt")
    office.wait("a")
    office.ask("POST", "/v1/agents/a/interrupt")
    assert "interrupted" in office.wait("a")
    office.ask("POST", "/v1/agents/a/turns", {"task": "something else"})
    assert office.result("a") == "did: something else"
    assert not (office.project / "ran.txt").exists()
    assert office.asked("a") == [("permission", "dropped", None, None)]


@pytest.mark.requirement("clearance:rules:however-spelled")
def test_a_rule_holds_however_its_tool_is_spelled_and_a_misspelt_one_refuses_the_persona(office: Office) -> None:
    office.create("a", "run touch ran.txt", persona="sloppy")
    office.create("b", "delegate", persona="sloppy")
    office.create("c", "run touch ran.txt", persona="sloppily-asked")
    assert "Bash is denied to you" in office.result("a")
    assert "Agent is denied to you" in office.result("b")
    assert "wants to use Bash" in office.wait("c")
    assert not (office.project / "ran.txt").exists()
    refused = office.try_ask("POST", "/v1/agents", {"name": "d", "task": "run x", "persona": "misspelt"})
    assert "deny: Bsah (did you mean Bash?)" in str(refused)
