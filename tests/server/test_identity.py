"""Whose agents a client commands: a session's, a door's own, or those that an ended session left and it adopted."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from mcp import Client

from tests.fixtures.daemon import Daemon, clean_env, running_daemon
from tests.fixtures.door import asked, through_door
from tests.fixtures.fleet_command import Command
from tests.fixtures.raw_door import RawDoors

pytestmark = pytest.mark.anyio
Window = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for these tests, each in a project of its own; one agent has its only slot, so all others wait."""
    home, state = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("s")
    state.chmod(0o700)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a model that never answers
        account = {"ANTHROPIC_BASE_URL": f"http://127.0.0.1:{silent.getsockname()[1]}", "ANTHROPIC_API_KEY": "sk-test"}
        with running_daemon(state, clean_env(home, state, AGENT_MAX_CONCURRENT="1")) as daemon:
            with daemon.http(home, account=account, environment=dict(daemon.env)) as rest:
                rest.post("/v1/agents", json={"name": "holder", "task": "wait", "persona": "scout"}).raise_for_status()
            yield daemon


@pytest.fixture
def window(shared: Daemon, project: Path, silent_model: str) -> Window:
    """Opens a window of a host that sends no session id, unless one is given."""

    @asynccontextmanager
    async def opened(**env: str) -> AsyncGenerator[Client]:
        account = {"ANTHROPIC_BASE_URL": silent_model, "ANTHROPIC_API_KEY": "sk-test-not-a-key"}
        async with through_door(shared, project, **account, **env) as client:
            yield client

    return opened


@pytest.fixture
def terminal(shared: Daemon, project: Path) -> Command:
    """`fleet` in the project."""
    return Command(project, shared.env)


async def create(client: Client, name: str) -> str:
    return await asked(client, "create_agent", name=name, task="look", persona="scout")


@pytest.mark.requirement("session:identity:one-per-door", "guarantee:identity:own-agents-only")
async def test_two_windows_of_a_host_without_session_ids_have_their_own_agents(window: Window) -> None:
    async with window() as one, window() as two:
        await create(one, "first")
        assert "left by" not in await create(two, "second")  # the other window is there: nothing is left
        deleted = await asked(two, "delete_all_agents")
        assert "second" in deleted
        assert "first" not in deleted
        status = await asked(two, "get_agent_status")
        assert "first" in status
        assert "not yours: mcp-" in status
        assert "yours now" not in await asked(two, "command_agent", agent="first", task="more")
        assert "first" in await asked(one, "delete_all_agents")


@pytest.mark.requirement("session:identity:sent-by-the-host")
async def test_a_host_that_sends_an_id_finds_its_agents_again_in_its_next_process(window: Window) -> None:
    async with window(FLEET_SESSION="mine") as one:
        await create(one, "kept")
    async with window(FLEET_SESSION="mine", CLAUDE_CODE_SESSION_ID="other") as again:
        assert "left by" not in await asked(again, "get_agent_status")
        assert "kept" in await asked(again, "delete_all_agents")


@pytest.mark.requirement("session:adopt:by-name", "guarantee:identity:own-agents-only")
async def test_what_an_ended_window_left_is_offered_once_and_belongs_to_who_names_it(window: Window) -> None:
    async with window() as one:
        await create(one, "first")
        await create(one, "other")
    async with window() as two:
        told = await create(two, "mine")
        assert "\nleft by ended sessions: first, other work -> name them in wait_for_agents or command_agent" in told
        assert "left by" not in await asked(two, "get_agent_status")
        digest = await asked(two, "wait_for_agents", agents=["first"], timeout_seconds=0)
        assert digest.endswith("\nyours now, as the session that created them has ended: first")
        receipt = await asked(two, "command_agent", agent="other", task="also this")
        assert "yours now, as the session that created them has ended: other" in receipt
        deleted = await asked(two, "delete_all_agents")
        assert all(name in deleted for name in ("first", "other", "mine"))


@pytest.mark.requirement("session:adopt:command-line")
async def test_fleet_adopt_lists_what_is_left_and_gives_it_to_the_session_that_is_there(
    window: Window, terminal: Command, shared: Daemon, project: Path
) -> None:
    with shared.http(project) as rest:
        async with window() as one:
            await create(one, "left")
            assert rest.get("/v1/orphans").json()["agents"] == []
            taken = rest.post("/v1/adoptions", json={"agents": ["left"], "to": "me"})
            assert taken.status_code == 409
            assert "which is connected" in taken.text
        assert "left ag_" in terminal("adopt").out
        async with window() as two, window() as three:
            assert "say which, with --to" in rest.post("/v1/adoptions", json={"everything": True}).text
            heirs = rest.get("/v1/orphans").json()["sessions"]
            assert len(heirs) == 2
            adopted = terminal("adopt", "--all", "--to", heirs[0], "--json").json["adopted"]
            assert [(one["name"], one["orchestrator"]) for one in adopted] == [("left", heirs[0])]
            gone = [await asked(client, "delete_all_agents") for client in (two, three)]
            assert sum("left" in text for text in gone) == 1


@pytest.mark.requirement("session:adopt:command-line")
async def test_agents_are_adopted_by_the_terminal_if_no_session_is_there(
    window: Window, shared: Daemon, project: Path
) -> None:
    async with window() as one:
        await create(one, "left")
    with shared.http(project) as rest:
        assert rest.post("/v1/adoptions", json={"agents": ["left"]}).json()["adopted"][0]["orchestrator"] == "cli"
        assert rest.delete("/v1/agents").json()["deleted"][0]["name"] == "left"
        assert rest.post("/v1/adoptions", json={"agents": ["nobody"]}).status_code == 404
        assert rest.post("/v1/adoptions", json={}).status_code == 422


@pytest.mark.requirement("session:identity:one-per-door", "guarantee:identity:own-agents-only")
def test_a_door_stays_who_it_is_when_the_daemon_is_killed_and_idle_ones_have_not_left(
    open_door: RawDoors,
) -> None:
    nothing_starts = {"CLAUDE_CODE_PATH": "/nonexistent"}
    one, two = open_door(**nothing_starts), open_door(**nothing_starts)
    one.tool("create_agent", {"name": "first", "task": "look", "persona": "scout"})
    two.tool("get_agent_status")
    os.kill(open_door.daemon.pid, signal.SIGKILL)
    receipt = two.tool("command_agent", {"agent": "first", "task": "more"})  # the idle door has not come back yet
    assert "yours now" not in receipt
    assert "left by" not in two.tool("get_agent_status")
    assert "first" not in two.tool("delete_all_agents")
    assert "first" in one.tool("delete_all_agents")


@pytest.mark.requirement("session:adopt:moved-project")
async def test_agents_of_a_moved_project_are_found_by_id_and_work_again_once_they_are_adopted(
    window: Window, terminal: Command, project: Path, shared: Daemon
) -> None:
    async with window() as one:
        await create(one, "walker")
    with shared.http(project) as rest:
        agent = rest.get("/v1/agents/walker").json()["agent"]["id"]
    new = project.rename(project.with_name("moved"))
    with shared.http(new) as rest:
        assert rest.get(f"/v1/agents/{agent}").status_code == 200
        lost = rest.post(f"/v1/agents/{agent}/turns", json={"task": "go on"}).json()
        assert f"its project {project} no longer exists" in lost["detail"]
        assert f"fleet adopt {agent}" in lost["hint"]
        assert rest.post("/v1/adoptions", json={"everything": True}).json()["adopted"] == []  # each by its id
        moved = replace(terminal, cwd=new)("adopt", agent)
        assert (moved.code, moved.err) == (0, "")
        shown = rest.get("/v1/agents/walker").json()
        assert (shown["agent"]["project"], shown["agent"]["cwd"]) == (str(new), str(new))
        assert shown["desk"].startswith(str(new))
        assert rest.post("/v1/agents/walker/turns", json={"task": "go on"}).status_code == 200
        assert rest.delete("/v1/agents/walker").status_code == 200


@pytest.mark.requirement("session:adopt:moved-project")
async def test_an_agent_whose_project_is_where_it_was_is_not_taken_to_another(
    window: Window, shared: Daemon, project: Path, tmp_path: Path
) -> None:
    async with window() as one:
        await create(one, "settled")
        with shared.http(project) as rest:
            agent = rest.get("/v1/agents/settled").json()["agent"]["id"]
        with shared.http(tmp_path) as rest:
            assert rest.post("/v1/adoptions", json={"agents": [agent]}).status_code == 404
        await asked(one, "delete_all_agents")
