"""Chains through an MCP client, the real door, a real daemon and real `claude` programs."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from mcp import Client

from orchestrator import rehearsal
from tests.fixtures.door import answer, asked, refused
from tests.fixtures.raw_door import end_daemon
from tests.fixtures.tasks_host import Host

pytestmark = pytest.mark.anyio
WAITER = "---\nname: waiter\ndescription: waits in a shell\ntools: Read, Bash\n---\nYou wait.\n"
SCRIPT = Path(__file__).with_name("chains.yaml")


@pytest.fixture
def host(tmp_path: Path, state: Path, project: Path) -> Iterator[Host]:
    home = tmp_path / "host-home"
    home.mkdir()
    with rehearsal.start(SCRIPT, log=tmp_path / "model.jsonl") as playing:
        host = Host(home, state, project, playing.url, "chains")
        (project / ".fleet" / "agents" / "waiter.md").write_text(WAITER)
        yield host
        end_daemon(state)


async def create(client: Client, name: str, persona: str = "scout", *inputs: str) -> str:
    given = {"inputs": list(inputs)} if inputs else {}
    return await asked(client, "create_agent", name=name, task="look", persona=persona, **given)


async def waited(client: Client, *agents: str) -> str:
    return await asked(client, "wait_for_agents", agents=list(agents), timeout_seconds=45)


@pytest.mark.requirement("inputs:handover:already-ended")
async def test_inputs_that_ended_before_one_of_them_failed_are_handed_over_as_they_are(host: Host) -> None:
    async with host.client() as client:
        await create(client, "lost")
        await create(client, "found")
        first = await waited(client, "lost", "found")
        assert "lost failed" in first
        await create(client, "plan", "planner", "lost", "found")
        await waited(client, "plan")
        text = await asked(client, "get_agent_output", agent="plan")
    assert "# lost (scout)" in text
    assert "no luck" in text
    assert "places of found: look" in text


@pytest.mark.requirement("inputs:failure:blocks-and-wakes")
async def test_an_input_that_fails_meanwhile_wakes_the_orchestrator_and_its_retry_starts_who_waited(host: Host) -> None:
    async with host.client() as client:
        await create(client, "late")
        assert "queued" in await create(client, "plan", "planner", "late")
        digest = await waited(client, "plan")
        assert "NEEDS YOU plan cannot start: its input late failed" in digest
        await asked(client, "command_agent", agent="late", task="look again")
        await waited(client, "plan")
        text = await asked(client, "get_agent_output", agent="plan")
    assert "# late (scout)" in text
    assert "places of late: look again" in text


@pytest.mark.requirement("inputs:ended:however", "create:brief:once-per-chain")
async def test_a_chain_is_briefed_once_and_an_agent_starts_because_its_input_failed(host: Host) -> None:
    async with host.client() as client:
        brief = "Mind the style.\nthe token is plum"
        first = await asked(client, "create_agent", name="late", task="look", persona="scout", brief=brief)
        assert "its brief goes to all that have it as input" in first
        mend = {"name": "told-mend", "task": "mend", "persona": "planner", "inputs": ["late:ended"]}
        assert "brief of late" in await asked(client, "create_agent", **mend)
        assert "brief of late" in await asked(client, "create_agent", name="told-side", task="look", brief="@late")
        os.kill(host.daemon.pid, signal.SIGKILL)
        digest = await waited(client, "told-mend", "told-side")
        assert digest.count("I know PLUM") == 2
        assert "the token is plum" not in digest
        files = await asked(client, "get_agent_output", agent="told-mend")
        assert "relevant-files.md" in files
        assert "no agent 'nobody'" in await refused(client, "create_agent", name="x", task="t", brief="@nobody")
    with host.daemon.http(host.project) as http:
        assert http.get("/v1/agents/told-mend").json()["briefs"] == [{"of": "late", "text": brief}]


@pytest.mark.requirement("inputs:cycle:refused")
async def test_a_circle_of_inputs_is_an_error_that_names_it_and_changes_nothing(host: Host) -> None:
    async with host.client() as client:
        await create(client, "slow", "waiter")
        await create(client, "plan", "planner", "slow")
        text = await refused(client, "command_agent", agent="slow", task="more", inputs=["plan"])
        assert "slow and plan would wait for each other" in text
        (host.project / "slow.go").touch()
        assert "plan complete" in await waited(client, "plan")
    with host.daemon.http(host.project) as http:
        assert len(http.get("/v1/agents/slow").json()["turns"]) == 1


@pytest.mark.requirement("wait:digest:delivered-once")
async def test_an_outcome_that_was_told_does_not_wake_again_also_in_the_next_daemon(host: Host) -> None:
    async with host.client() as client:
        await create(client, "lost")
        await create(client, "slow", "waiter")
        assert "lost failed" in await waited(client, "lost", "slow")
        await asked(client, "get_agent_status")  # this next call says that the digest has come
        os.kill(host.daemon.pid, signal.SIGKILL)
        (host.project / "slow.go").touch()
        second = await waited(client, "lost", "slow")
    assert "[lost" not in second
    assert "| places of slow" in second


@pytest.mark.requirement("mcp:wait:sends-progress")
async def test_a_wait_that_blocks_sends_progress_before_any_host_gives_up(host: Host) -> None:
    told: list[tuple[float, str | None]] = []
    heard = anyio.Event()

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        assert total is None
        told.append((progress, message))
        heard.set()

    async with host.client() as client, anyio.create_task_group() as group:
        await create(client, "slow", "waiter")

        async def wait() -> None:
            result = await client.call_tool("wait_for_agents", {}, progress_callback=progress)
            assert not result.is_error

        group.start_soon(wait)
        with anyio.fail_after(40):  # progress comes every 20 s, a host's idle limit is a minute at least
            await heard.wait()
        (host.project / "slow.go").touch()
    seconds, message = told[0]
    assert 0 < seconds < 30
    assert message == "1 of 1 agents at work"


@pytest.mark.requirement("turn:command:idempotency-key", "guarantee:idempotency:never-runs-twice")
async def test_a_command_sent_again_to_the_next_daemon_is_the_same_turn(host: Host) -> None:
    async with host.client() as client:
        await create(client, "slow", "waiter")
        first = await asked(client, "command_agent", "toolu_again", agent="slow", task="look once more")
        os.kill(host.daemon.pid, signal.SIGKILL)
        again = await asked(client, "command_agent", "toolu_again", agent="slow", task="look once more")
        other, is_error = await answer(client, "command_agent", "toolu_again", agent="slow", task="look elsewhere")
        (host.project / "slow.go").touch()
        await waited(client, "slow")
    assert turn_in(first) == turn_in(again) == "2"
    assert is_error or turn_in(other) == "2", other
    with host.daemon.http(host.project) as http:
        turns = http.get("/v1/agents/slow").json()["turns"]
    assert [turn["status"] for turn in turns] == ["complete", "complete"]
    assert turns[1]["result"] == "places of slow: look once more"


def turn_in(text: str) -> str:
    """The number of the turn in a receipt."""
    found = re.search(r"turn (\d+)", text)
    assert found, text
    return found[1]
