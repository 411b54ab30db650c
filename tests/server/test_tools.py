"""The tools as an orchestrator uses them: through the real door, in both eras, on a real daemon and the real CLI.

The model behind the agents takes every request and says nothing, so that whoever was started stays at work.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from tests.fixtures.daemon import Daemon, clean_env, running_daemon
from tests.fixtures.door import asked, refused, through_door

pytestmark = pytest.mark.anyio
ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])
Host = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture(scope="module")
def tools_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for these tests: each works in a project of its own."""
    home, state = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("s")
    state.chmod(0o700)
    with running_daemon(state, clean_env(home, state, AGENT_MAX_CONCURRENT="3")) as daemon:
        yield daemon


@pytest.fixture
def host(tools_daemon: Daemon, project: Path, silent_model: str) -> Host:
    """Opens a host's connection through a door of its own; at its end its agents are deleted."""

    @asynccontextmanager
    async def connect(mode: str = "auto", session: str = "host-1") -> AsyncGenerator[Client]:
        account = {"ANTHROPIC_BASE_URL": silent_model, "ANTHROPIC_API_KEY": "sk-test-not-a-key"}
        env = {**account, "CLAUDE_CODE_SESSION_ID": session}
        async with through_door(tools_daemon, project, mode, **env) as client:
            yield client
            await asked(client, "delete_all_agents")

    return connect


async def eventually(look: Callable[[], Awaitable[str]], expected: str, *, seconds: float = 30) -> str:
    """The first answer that matches the expression; fails after a bounded time."""
    text = ""
    with anyio.move_on_after(seconds):
        while not re.search(expected, text):
            text = await look()
            await anyio.sleep(0.05)
        return text
    raise AssertionError(f"{expected!r} did not come; last: {text}")


@ERAS
@pytest.mark.requirement(
    "mcp:protocol:both-eras",
    "mcp:results:compact-lines",
    "inputs:start:when-completed",
    "error:agent:deleted",
    "agent:create:name-task-model-persona",
    "agent:status:progress-and-context",
    "agent:delete:one",
    "view:fleet:totals-and-waits",
)
async def test_the_life_of_a_chain_in_few_words(host: Host, mode: str) -> None:
    async with host(mode) as client:
        first = await asked(client, "create_agent", name="scout-1", task="look", persona="scout", model="haiku")
        assert re.fullmatch(r"ag_\w+ scout-1 (working|queued)[^·]* · claude/haiku · on main", first)
        second = await asked(client, "create_agent", name="plan", task="plan", persona="planner", inputs=["scout-1"])
        assert re.match(r"ag_\w+ plan queued behind 1 input · claude", second)
        whole = await eventually(lambda: asked(client, "get_agent_status"), "1 working")
        assert re.match(r"2 agents: 1 working, 1 queued · 0 tokens · cost unknown\n", whole)
        assert "plan waits for scout-1 (working" in whole
        one = await asked(client, "get_agent_status", agents=["scout-1"])
        assert re.match(r"ag_\w+ scout-1 scout working", one)
        assert one.count("\n") == 0
        assert "queued behind" in await asked(client, "command_agent", agent="scout-1", task="and then report")
        deleted = await asked(client, "delete_agent", agents=["plan", "scout-1"])
        assert re.match(r"deleted plan \(was queued\), scout-1 \(was working\)", deleted)
        assert await asked(client, "get_agent_status") == "no living agents in this project -> create_agent"
        assert "is deleted" in await refused(client, "command_agent", agent="plan", task="go on")


@pytest.mark.requirement("wait:wake:event-or-period", "wait:call:one-bounded-wait")
@ERAS
async def test_a_wait_with_a_time_out_says_that_it_was_the_time(host: Host, mode: str) -> None:
    async with host(mode) as client:
        await asked(client, "create_agent", name="w-1", task="work")
        assert "your time-out came first" in await asked(client, "wait_for_agents", timeout_seconds=0.2)


async def test_a_wait_can_be_called_off_and_harms_no_agent(host: Host) -> None:
    async with host() as client:
        await asked(client, "create_agent", name="w-1", task="work")
        with anyio.move_on_after(0.5) as scope:
            await client.call_tool("wait_for_agents", {})
        assert scope.cancelled_caught
        assert re.match(r"ag_\w+ w-1 builder (working|queued)", await asked(client, "get_agent_status", agents=["w-1"]))


@pytest.mark.requirement("door:concurrency:many-at-once", "agent:delete:all")
async def test_two_hosts_at_once_see_whose_agents_are_whose(host: Host) -> None:
    async with host(session="host-1") as one, host("legacy", session="host-2") as two:
        await asked(one, "create_agent", name="of-one", task="work")
        await asked(two, "create_agent", name="of-two", task="work")
        seen = await asked(one, "get_agent_status")
        assert "of-two builder [not yours: host-2]" in seen
        assert "of-one builder [not" not in seen
        assert re.fullmatch(r"deleted of-one \(was \w+\)", await asked(one, "delete_all_agents"))
        assert "of-two" in await asked(two, "get_agent_status")
        assert re.match(r"deleted of-two", await asked(one, "delete_all_agents", scope="project"))


@pytest.mark.requirement("error:create:sent-twice", "error:name:taken", "agent:create:idempotency-key")
async def test_the_same_call_sent_twice_makes_one_agent(host: Host) -> None:
    async with host() as client:
        first = await asked(client, "create_agent", "toolu_1", name="once", task="work")
        again = await asked(client, "create_agent", "toolu_1", name="once", task="work")
        assert first.split()[0] == again.split()[0]
        assert "this very call created it before" in again
        assert "once" in await refused(client, "create_agent", "toolu_2", name="once", task="work")


@pytest.mark.requirement("persona:discovery:name-and-capability")
async def test_the_registry_shows_agents_and_personas_that_fit(host: Host) -> None:
    async with host() as client:
        everything = await asked(client, "list_agents")
        assert {"scout", "planner", "builder", "reviewer", "shipper"} <= set(
            re.findall("^persona (.*?):", everything, re.MULTILINE)
        )
        fitting = await asked(client, "list_agents", capability="tests")
        assert "persona builder" in fitting
        assert "persona scout" not in fitting


@pytest.mark.requirement("mcp:arguments:null-and-json-text")
async def test_null_leaves_an_optional_argument_out_and_a_check_is_text_or_an_object(
    host: Host, tools_daemon: Daemon, project: Path
) -> None:
    async with host() as client:
        unset = dict.fromkeys(("persona", "model", "inputs", "cwd", "max_turns", "max_cost_usd", "max_tokens"))
        checks = ["make lint", {"exists": "a.py"}, '{"run": "make test", "timeout_seconds": 9}', "{ true; }"]
        await asked(client, "create_agent", name="nulls", task="work", checks=checks, **unset)
        await asked(client, "command_agent", agent="nulls", mode="queue", task="more", inputs=None, checks=None)
        await asked(client, "wait_for_agents", agents=["nulls"], until=None, since=None, timeout_seconds=0)
        with tools_daemon.http(project) as api:
            shown = api.get("/v1/agents/nulls").json()
        assert shown["turns"][0]["checks"] == ["make lint", "a.py exists", "make test", "{ true; }"]
        assert "'task' must be text, not null" in await refused(client, "create_agent", name="x", task=None)
        said = await refused(client, "create_agent", name="x", task="t", checks=['{"exists": "a.py"'])
        assert "it is not JSON" in said


@pytest.mark.requirement("result:bounded:400-tokens")
async def test_hundreds_of_personas_cost_no_more_than_a_few(host: Host, project: Path) -> None:
    folder = project / ".claude" / "agents"
    folder.mkdir(parents=True)
    for number in range(371):
        about = f"Writes tests of kind {number}. " + "Use it whenever there is something to do. " * 20
        (folder / f"{number}.md").write_text(f"---\nname: tester-{number}\ndescription: {about}\n---\nTest.\n")
    async with host() as client:
        everything = await asked(client, "list_agents")
        fitting = await asked(client, "list_agents", capability="tests of kind 77")
        unknown = await refused(client, "create_agent", **CREATE, persona="tester77")
    assert all(len(text.encode()) <= 4 * 400 for text in (everything, fitting, unknown))
    assert {"scout", "planner", "builder"} <= set(re.findall("^persona (.*?):", everything, re.MULTILINE))
    assert re.search(r"\d+ more personas: tester-.* and \d+ more -> list_agents with a capability", everything)
    assert fitting.startswith("persona tester-77: ")
    assert fitting.count("\npersona ") < 8
    assert "did you mean tester-77? personas here: tester-77, " in unknown
    assert re.search(r" and \d+ more", unknown)


@pytest.mark.requirement("persona:own:replaced-only-with-trust")
async def test_receipt_and_status_name_the_file_that_replaces_a_persona_of_fleet(host: Host, project: Path) -> None:
    folder = project / ".claude" / "agents"
    folder.mkdir(parents=True)
    for name in ("scout", "porter"):
        (folder / f"{name}.md").write_text(f"---\nname: {name}\ndescription: d\ntools: Read\n---\nLook little.\n")
    async with host() as client:
        replaced = await asked(client, "create_agent", name="a", task="look", persona="scout")
        added = await asked(client, "create_agent", name="b", task="look", persona="porter")
        fleets = await asked(client, "create_agent", name="c", task="look", persona="reviewer")
        everything = await asked(client, "get_agent_status")
        listed = await asked(client, "list_agents", status="working")
        named = await asked(client, "get_agent_status", agents=["a", "b", "c"])
    assert " · persona scout of .claude/agents/scout.md" in replaced
    assert " · persona porter of .claude/agents/porter.md" in added
    assert "persona" not in fleets
    for told in (everything, listed):
        assert re.findall(r"^ag_\w+ (\w) .*persona of (\S+)", told, re.MULTILINE) == [("a", ".claude/agents/scout.md")]
    assert re.findall(r"^ag_\w+ (\w) .*persona of \S+", named, re.MULTILINE) == ["a", "b"]


CREATE: dict[str, Any] = {"name": "x", "task": "t"}


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        ("create_agent", {"name": "x"}, "'task' is missing"),
        ("create_agent", {**CREATE, "colour": "red"}, "no argument 'colour'"),
        pytest.param(
            "create_agent",
            {**CREATE, "task": "  \n"},
            "task is empty",
            marks=pytest.mark.requirement("error:task:empty"),
        ),
        pytest.param(
            "create_agent",
            {**CREATE, "task": "y" * 1_000_000},
            "1000000 bytes",
            marks=pytest.mark.requirement("error:task:too-long"),
        ),
        pytest.param(
            "create_agent", {**CREATE, "task": "a\x00b"}, "NUL", marks=pytest.mark.requirement("error:text:nul")
        ),
        ("create_agent", {**CREATE, "name": "white space"}, "is not a valid agent name"),
        ("create_agent", {**CREATE, "name": "\u202egnol"}, "is not a valid agent name"),
        ("create_agent", {**CREATE, "name": "n" * 65}, "is not a valid agent name"),
        pytest.param(
            "create_agent",
            {**CREATE, "persona": "scuot"},
            "scout",
            marks=pytest.mark.requirement("error:persona:unknown"),
        ),
        ("create_agent", {**CREATE, "provider": "codex"}, "'provider' must be one of claude"),
        pytest.param(
            "create_agent",
            {**CREATE, "model": "no such model"},
            "haiku",
            marks=pytest.mark.requirement("error:model:unknown-alias"),
        ),
        pytest.param(
            "create_agent",
            {**CREATE, "cwd": "/nowhere/at/all"},
            "/nowhere/at/all",
            marks=pytest.mark.requirement("error:cwd:missing"),
        ),
        pytest.param(
            "create_agent",
            {**CREATE, "cwd": "README.md"},
            "README.md",
            marks=pytest.mark.requirement("error:cwd:file"),
        ),
        pytest.param(
            "create_agent",
            {**CREATE, "cwd": "/"},
            "outside",
            marks=pytest.mark.requirement("error:cwd:outside-project"),
        ),
        ("create_agent", {**CREATE, "max_turns": 0}, "'max_turns' must be at least 1"),
        ("create_agent", {**CREATE, "max_turns": 10**20}, "'max_turns' must be at most"),
        ("create_agent", {**CREATE, "inputs": ["nobody"]}, "nobody"),
        ("create_agent", {**CREATE, "inputs": ["x"]}, "'x'"),
        ("command_agent", {"agent": "nobody", "task": "t"}, "no agent 'nobody'"),
        (
            "command_agent",
            {"agent": "nobody", "task": "t", "mode": "whisper"},
            "'mode' must be one of queue, steer, interrupt",
        ),
        pytest.param(
            "get_agent_status",
            {"agents": ["nobody"]},
            "no agent 'nobody'",
            marks=pytest.mark.requirement("error:agent:unknown"),
        ),
        ("get_agent_output", {"agent": "nobody"}, "no agent 'nobody'"),
        pytest.param(
            "get_agent_output",
            {"agent": "nobody", "limit": 6001},
            "'limit' must be at most 6000",
            marks=pytest.mark.requirement("error:limit:out-of-range"),
        ),
        pytest.param(
            "get_agent_output",
            {"agent": "nobody", "offset": -1},
            "'offset' must be at least 0",
            marks=pytest.mark.requirement("error:limit:out-of-range"),
        ),
        ("delete_agent", {"agents": []}, "'agents' is empty"),
        ("delete_agent", {"agents": ["nobody"]}, "no agent 'nobody'"),
        ("delete_all_agents", {"scope": "world"}, "'scope' must be one of mine, project"),
        ("wait_for_agents", {"until": "some"}, "'until' must be one of all, any"),
        ("wait_for_agents", {"timeout_seconds": -1}, "'timeout_seconds' must be at least 0"),
        ("wait_for_agents", {"since": "tomorrow"}, "'tomorrow'"),
        ("wait_for_agents", {"agents": ["nobody"]}, "no agent 'nobody'"),
        ("list_agents", {"status": "happy"}, "happy"),
        ("run_playbook", {}, "no tool 'run_playbook' -> Tools: create_agent"),
    ],
)
@pytest.mark.requirement(
    "mcp:errors:what-to-do-next",
    "error:agent:unknown",
    "error:persona:unknown",
    "error:model:unknown-alias",
    "error:tool:unknown",
    "error:task:empty",
    "error:task:too-long",
    "error:text:nul",
    "error:cwd:missing",
    "error:cwd:file",
    "error:cwd:outside-project",
    "error:limit:out-of-range",
)
async def test_bad_input_is_answered_with_what_is_wrong_and_makes_no_agent(
    host: Host, tool: str, arguments: dict[str, Any], expected: str
) -> None:
    async with host() as client:
        said = await refused(client, tool, **arguments)
        assert expected in said
        assert " -> " in said
        assert len(said) < 1000
        assert "no living agents" in await asked(client, "get_agent_status")


@pytest.mark.requirement("error:text:unicode")
async def test_odd_but_lawful_text_is_taken_as_it_is(host: Host) -> None:
    async with host() as client:
        odd = "Ünï¢ødé 𝄞 \u202e \U000e0041 \t `$(touch x)` {{7*7}} @README.md /compact"
        created = await asked(client, "create_agent", name="odd", task=odd)
        assert created.startswith("ag_")
