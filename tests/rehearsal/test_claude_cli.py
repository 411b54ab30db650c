"""The real Claude CLI accepts the rehearsal as a model: tools, sessions, commands and failures."""

from __future__ import annotations

import subprocess
from uuid import uuid4

import httpx
import pytest
from anyio import to_thread
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ResultMessage

from tests.rehearsal.conftest import Claude, wait_until

TOOLS = ("--allowedTools", "Read,Grep,Bash,Edit,Write")


def _parts(claude: Claude) -> list[tuple[object, object]]:
    return [(record.get("part"), record.get("reply")) for record in claude.rehearsal.log()]


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.mark.requirement("rehearsal:wire:anthropic-format", "rehearsal:templates:task-and-results")
def test_real_tools_do_what_the_script_says_and_their_results_come_back_by_name(claude: Claude) -> None:
    result = claude.ask("please rename foo to bar", *TOOLS)

    assert result["result"] == "2 files edited, 0 errors"
    assert (claude.project / "a.py").read_text() == "bar = 1\nprint(bar)\n"
    assert (claude.project / "b.py").read_text() == "from a import bar\n"
    assert (claude.project / "notes.md").read_text() == "2 files read, 2 here"
    assert _parts(claude) == [("rename", number) for number in range(1, 6)]
    edits = claude.rehearsal.log()[2]
    assert edits["calls"] == ["Edit", "Edit"]
    assert (edits["agent"], edits["persona"], edits["credential"]) == ("builder-1", "builder", "api_key")


def test_no_request_of_the_cli_falls_outside_the_script(claude: Claude) -> None:
    claude.ask("please rename foo to bar", *TOOLS)

    assert {record["path"] for record in claude.rehearsal.log()} == {"/v1/messages"}
    assert {record["auxiliary"] for record in claude.rehearsal.log()} == {None}


def test_a_resumed_session_starts_a_task_of_its_own_and_still_knows_earlier_results(claude: Claude) -> None:
    session = claude.ask("please rename foo to bar", *TOOLS)["session_id"]

    assert claude.ask("and then?", "--resume", str(session))["result"] == "before that 2 edits"


def test_a_slash_command_brings_its_arguments_and_its_text(claude: Claude) -> None:
    assert claude.ask("/hello dear World")["result"] == "Hello dear World; the command says Greet this one: dear World"


def test_a_failed_tool_is_known_as_an_error_and_conditions_follow_it(claude: Claude) -> None:
    assert claude.ask("fail in a tool", *TOOLS)["result"] == "it failed with 3"


@pytest.mark.requirement("rehearsal:faults:statuses-and-streams")
def test_a_limit_that_passes_is_overcome_by_the_cli(claude: Claude) -> None:
    result = claude.ask("too many of us")

    assert (result["result"], result["is_error"]) == ("now it works", False)
    assert [record["status"] for record in claude.rehearsal.log()] == [429, 429, 200]


def test_an_overload_that_stays_reaches_the_user(claude: Claude) -> None:
    result = claude.ask("this never works", CLAUDE_CODE_MAX_RETRIES="1")

    assert result["is_error"] is True
    assert result["api_error_status"] == 529


@pytest.mark.requirement("rehearsal:unmatched:named")
def test_an_unmatched_request_tells_the_user_what_the_script_has(claude: Claude) -> None:
    text = str(claude.ask("juggle three balls")["result"])

    assert text.startswith("API Error: 400 rehearsal 'claude-scenes'")
    assert "agent 'builder-1', persona 'builder'" in text
    assert "'juggle three balls'" in text
    assert "'again' (" in text
    assert "claude.yaml:" in text


@pytest.mark.requirement("rehearsal:faults:statuses-and-streams")
def test_a_cut_stream_is_repeated_by_the_cli(claude: Claude) -> None:
    result = claude.ask("this is cut off")

    assert result["result"] == "whole at the second attempt"
    assert [record["fault"] for record in claude.rehearsal.log()] == ["cut_mid", None]


@pytest.mark.requirement("rehearsal:faults:statuses-and-streams")
def test_silence_keeps_the_cli_waiting_and_harms_nobody_else(claude: Claude) -> None:
    process = claude.popen("say nothing")
    try:
        wait_until(lambda: _parts(claude) == [("silent", 1)])
        health = httpx.get(f"{claude.rehearsal.url}/rehearsal/health", trust_env=False)
        assert health.json()["rehearsal"] == "claude-scenes"
        assert process.poll() is None
    finally:
        _end(process)
    assert len(claude.rehearsal.log()) == 1


def _client(claude: Claude) -> ClaudeSDKClient:
    return ClaudeSDKClient(
        ClaudeAgentOptions(
            cwd=claude.project,
            env=claude.environment(),
            permission_mode="dontAsk",
            allowed_tools=["Bash"],
            setting_sources=[],
            verbatim_prompts=True,
        )
    )


def _has_read(claude: Claude, text: str) -> bool:
    """Whether the program has taken this from its input: it stands in its transcript then."""
    return any(text in file.read_text() for file in (claude.home / ".claude").glob("projects/*/*.jsonl"))


async def _result(client: ClaudeSDKClient) -> str | None:
    """What the turn that runs comes to."""
    results = [message.result async for message in client.receive_response() if isinstance(message, ResultMessage)]
    return results[-1]


@pytest.mark.anyio
async def test_a_prompt_after_an_interrupted_tool_is_a_new_task(claude: Claude) -> None:
    async with _client(claude) as client:
        await client.query("take your time")
        await to_thread.run_sync(wait_until, (claude.project / "started").exists)
        await client.interrupt()
        await _result(client)
        await client.query("what now?")
        assert await _result(client) == "task: what now?"


@pytest.mark.anyio
async def test_what_is_said_while_a_tool_runs_is_heard_within_the_same_task(claude: Claude) -> None:
    async with _client(claude) as client:
        await client.query("listen to me")
        await to_thread.run_sync(wait_until, (claude.project / "started").exists)
        await client.query("turn left")
        await to_thread.run_sync(wait_until, lambda: _has_read(claude, "turn left"))
        (claude.project / "go").touch()
        assert await _result(client) == "heard turn left"


def test_a_prompt_after_a_killed_tool_is_a_new_task(claude: Claude) -> None:
    session = str(uuid4())
    process = claude.popen("take your time", *TOOLS, "--session-id", session)
    try:
        wait_until((claude.project / "started").exists)
    finally:
        _end(process)

    assert claude.ask("what now?", "--resume", session)["result"] == "task: what now?"
