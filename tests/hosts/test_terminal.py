"""The host table: what each kind of real Claude Code does when an orchestrator sleeps."""

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


@pytest.mark.requirement("I4-tasks-hosts", "I4-tasks")
def test_the_interactive_terminal_ends_its_turn_and_is_woken_with_the_digest(terminal: Terminal) -> None:
    terminal.claude("run slow")
    terminal.shows(ASLEEP)
    terminal.shows(AWAKE)
    assert "| found it" in terminal.told()
    calls = [record["reply"] for record in terminal.playing.log() if record.get("part") == "boss"]
    assert calls == [1, 2, 3], "one model call to create and sleep, one to end its turn, one for the wake"


@pytest.mark.requirement("I4-tasks-hosts", "I4-tasks-verbs")
def test_a_terminal_that_was_killed_is_woken_when_it_is_continued(terminal: Terminal) -> None:
    terminal.claude("run slow")
    terminal.shows("1 MCP task still running")  # the turn is over and written down
    terminal.kill()
    calls = len(terminal.playing.log())
    terminal.claude("--continue")
    terminal.shows("completed.")
    wait_until(lambda: len(terminal.playing.log()) > calls, "the model call of the wake")
    assert "| found it" in terminal.told()


@pytest.mark.requirement("I4-tasks-hosts", "I4-tasks-input")
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


@pytest.mark.requirement("I4-tasks-hosts", "I4-tasks-input")
def test_a_form_that_is_declined_wakes_the_orchestrator_with_the_question(terminal: Terminal) -> None:
    terminal.claude("run asker")
    terminal.shows("Accept")
    for key, shown in (("Down", POINTED + " Accept"), ("Right", POINTED + " Decline")):
        terminal.keys(key)
        terminal.shows(shown)
    terminal.insist("Enter", AWAKE)
    assert "NEEDS YOU asker asks" in terminal.told()


@pytest.mark.requirement("I4-tasks-hosts")
def test_print_mode_blocks_in_the_call(terminal: Terminal) -> None:
    ran = subprocess.run(
        terminal.command("-p", "run slow", "--output-format", "json"),
        cwd=terminal.project,
        env=terminal.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "found it" in json.loads(ran.stdout)["result"]
    wait_until(terminal.daemon.records, "the daemon's log")
