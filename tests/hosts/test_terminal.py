"""The host table: what each kind of real Claude Code does while an orchestrator waits."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.fixtures.daemon import wait_until
from tests.fixtures.terminal import Terminal

pytestmark = pytest.mark.timeout(300)
ASLEEP = "GOING TO SLEEP"
AWAKE = "I AM AWAKE AGAIN"
POINTED = "\u276f"
"""what stands before the chosen line of a form"""


@pytest.mark.requirement("task:hosts:real-clients", "task:wait:durable")
def test_the_interactive_terminal_ends_its_turn_and_is_woken_with_the_digest(terminal: Terminal) -> None:
    terminal.overhear()
    terminal.claude("run slow")
    terminal.shows(ASLEEP)
    terminal.shows(AWAKE)
    assert "| found it" in terminal.told()
    assert declared(terminal) == {"elicitation", "roots", "io.modelcontextprotocol/tasks"}
    calls = [record["reply"] for record in terminal.playing.log() if record.get("part") == "boss"]
    assert calls == [1, 2, 3], "one model call to create and sleep, one to end its turn, one for the wake"


@pytest.mark.requirement("task:hosts:real-clients", "task:verbs:survive-restarts")
def test_a_terminal_that_was_killed_is_woken_when_it_is_continued(terminal: Terminal) -> None:
    terminal.claude("run slow")
    terminal.shows("1 MCP task still running")  # the turn is over and written down
    terminal.kill()
    calls = len(terminal.playing.log())
    terminal.claude("--continue")
    terminal.shows("completed.")
    wait_until(lambda: len(terminal.playing.log()) > calls, "the model call of the wake")
    assert "| found it" in terminal.told()


@pytest.mark.requirement("task:hosts:real-clients", "task:input:terminal-form")
def test_a_question_is_answered_in_the_terminals_form(terminal: Terminal) -> None:
    terminal.claude("run asker")
    terminal.shows("asker asks: which database?")
    terminal.shows("Accept")
    for key, shown in (
        ("Right", "sqlite"),
        ("Down", POINTED + " ◯ postgres"),
        ("Enter", "Answer: postgres"),
    ):
        terminal.keys(key)
        terminal.shows(shown)
    terminal.insist("Enter", AWAKE)
    assert "| I take postgres." in terminal.told()


@pytest.mark.requirement("task:hosts:real-clients", "task:input:terminal-form")
def test_a_form_that_is_declined_wakes_the_orchestrator_with_the_question(terminal: Terminal) -> None:
    terminal.claude("run asker")
    terminal.shows("Accept")
    for key, shown in (("Down", POINTED + " Accept"), ("Right", POINTED + " Decline")):
        terminal.keys(key)
        terminal.shows(shown)
    terminal.insist("Enter", AWAKE)
    assert "NEEDS YOU asker asks" in terminal.told()


def decide(terminal: Terminal, decision: str) -> None:
    """Choose this in the form of a permission; the next field has the focus then."""
    terminal.shows('writer wants to use Bash: "touch ran.txt; echo it ran"')
    terminal.shows("Accept")
    terminal.keys("Right")
    for option in ("allow", "always", "deny"):
        terminal.shows(f"{POINTED} ◯ {option}")
        if option == decision:
            break
        terminal.keys("Down")
    terminal.keys("Enter")
    terminal.shows(f"Decision: {decision}")


@pytest.mark.requirement("task:hosts:real-clients", "task:input:terminal-form", "permission:gate:allow-deny-always")
def test_a_permission_is_given_in_the_terminals_form(terminal: Terminal) -> None:
    terminal.claude("run writer")
    decide(terminal, "allow")
    terminal.keys("Down")
    terminal.insist("Enter", AWAKE)
    assert "| first it ran" in terminal.told()
    assert (terminal.project / "ran.txt").exists()


@pytest.mark.requirement("task:hosts:real-clients", "task:input:terminal-form", "permission:gate:allow-deny-always")
def test_a_permission_is_denied_in_the_terminals_form_with_a_reason_that_the_agent_reads(terminal: Terminal) -> None:
    terminal.claude("run writer")
    decide(terminal, "deny")
    terminal.keys("no shell on a Sunday")
    terminal.shows("Why not: no shell on a Sunday")
    terminal.keys("Down")
    terminal.insist("Enter", AWAKE)
    assert "denied: no shell on a Sunday" in terminal.told()
    assert not (terminal.project / "ran.txt").exists()


@pytest.mark.requirement("task:hosts:real-clients", "task:input:terminal-form", "permission:gate:allow-deny-always")
def test_a_permissions_form_that_is_declined_wakes_the_orchestrator_and_allows_nothing(terminal: Terminal) -> None:
    terminal.claude("run writer")
    terminal.shows("Accept")
    for key, shown in (
        ("Down", POINTED + "   Why not"),
        ("Down", POINTED + " Accept"),
        ("Right", POINTED + " Decline"),
    ):
        terminal.keys(key)
        terminal.shows(shown)
    terminal.insist("Enter", AWAKE)
    assert "NEEDS YOU writer wants to use Bash" in terminal.told()
    assert not (terminal.project / "ran.txt").exists()


@pytest.mark.requirement("task:hosts:real-clients")
def test_print_mode_declares_no_tasks_and_blocks_in_the_call(terminal: Terminal) -> None:
    terminal.overhear()
    assert "found it" in printed(terminal, "run slow")
    assert declared(terminal) == {"elicitation", "roots"}


@pytest.mark.requirement("task:hosts:real-clients", "wait:call:every-host")
def test_a_sub_agent_of_print_mode_declares_no_tasks_and_blocks_until_the_answer(terminal: Terminal) -> None:
    terminal.overhear()
    assert "SUB HEARD: 1 complete" in printed(terminal, "delegate to foreground slow")
    assert declared(terminal) == {"elicitation", "roots"}


@pytest.mark.requirement("task:hosts:real-clients", "wait:call:every-host")
def test_a_sub_agent_of_the_terminal_blocks_in_the_background_and_its_end_wakes_the_terminal(
    terminal: Terminal,
) -> None:
    terminal.overhear()
    terminal.claude("delegate to background slow")
    terminal.shows("Waiting for 1 background agent")
    terminal.shows(AWAKE)
    told = terminal.told()
    assert "SUB HEARD: 1 complete" in told
    assert "| found it" in told
    assert declared(terminal) == {"elicitation", "roots"}, "the terminal itself declares tasks, its sub-agents do not"
    calls = [record["reply"] for record in terminal.playing.log() if record.get("part") == "delegator"]
    assert calls == [1, 2, 3], "one model call to delegate, one to end its turn, one for the wake"


def printed(terminal: Terminal, task: str, **variables: str) -> str:
    """What `claude -p` says in the end."""
    ran = subprocess.run(
        terminal.command("-p", task, "--output-format", "json"),
        cwd=terminal.project,
        env={**terminal.env, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return str(json.loads(ran.stdout)["result"])


def declared(terminal: Terminal) -> set[str]:
    """What the client of the only wait declares; each capability, and each extension by its own name."""
    (call,) = terminal.calls_of("wait_for_agents")
    capabilities = call["_meta"]["io.modelcontextprotocol/clientCapabilities"]
    return {*capabilities.keys() - {"extensions"}, *capabilities.get("extensions", {})}
