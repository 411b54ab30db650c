"""The host table's rows without a terminal: claude-agent-sdk, and calls that the program moves to the background."""

from __future__ import annotations

import anyio
import pytest
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ResultMessage

from tests.fixtures.terminal import CLAUDE, Terminal
from tests.hosts.test_terminal import ASLEEP, AWAKE, declared, printed

pytestmark = [pytest.mark.timeout(300), pytest.mark.anyio]
AUTO = {"CLAUDE_AUTO_BACKGROUND_TASKS": "1", "CLAUDE_CODE_MCP_AUTO_BACKGROUND_MS": "3000"}
"""with these, which nobody has by default, the program waits three seconds for a call and then goes on without it"""
LIMIT_SECONDS = 120.0


async def heard(terminal: Terminal, task: str, last: str, **variables: str) -> list[str]:
    """What an application on claude-agent-sdk hears at the end of each turn that its task leads to, up to this one."""
    options = ClaudeAgentOptions(
        cli_path=CLAUDE,
        cwd=terminal.project,
        env={**terminal.env, **variables},
        mcp_servers=terminal.place / "mcp.json",
        strict_mcp_config=True,
        allowed_tools=["mcp__fleet"],
        permission_mode="default",
    )
    found: list[str] = []
    with anyio.fail_after(LIMIT_SECONDS):
        async with ClaudeSDKClient(options) as client:
            await client.query(task)
            async for message in client.receive_messages():
                if isinstance(message, ResultMessage):
                    found.append(str(message.result))
                    if last in found[-1]:
                        return found
    raise AssertionError(f"{last!r} was not said: {found}")


def calls(terminal: Terminal) -> int:
    """How often the orchestrator's model was called."""
    return sum(record.get("part") == "boss" for record in terminal.playing.log())


@pytest.mark.requirement("task:hosts:real-clients", "wait:call:every-host")
async def test_an_application_on_the_sdk_declares_no_tasks_and_blocks_in_the_call(terminal: Terminal) -> None:
    terminal.overhear()
    (said,) = await heard(terminal, "run slow", "found it")
    assert said.startswith("BLOCKED UNTIL: 1 complete")
    assert declared(terminal) == {"elicitation", "roots"}
    assert calls(terminal) == 2


@pytest.mark.requirement("task:hosts:real-clients", "wait:call:every-host")
async def test_an_application_on_the_sdk_whose_program_backgrounds_the_call_is_woken_by_a_turn_of_its_own(
    terminal: Terminal,
) -> None:
    assert await heard(terminal, "run slow", AWAKE, **AUTO) == [ASLEEP, AWAKE]
    assert "| found it" in terminal.told()


@pytest.mark.requirement("task:hosts:real-clients", "wait:call:every-host")
def test_print_mode_that_backgrounds_the_call_ends_before_anybody_could_wake_it(terminal: Terminal) -> None:
    assert printed(terminal, "run slow", **AUTO) == ASLEEP
    assert calls(terminal) == 2
