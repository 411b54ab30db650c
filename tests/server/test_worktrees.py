"""Agents work where their orchestrator's session works now: also in another worktree of the repository."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
from mcp import Client

from tests.fixtures.daemon import Daemon, clean_env, running_daemon
from tests.fixtures.door import asked, door_command, refused

pytestmark = pytest.mark.anyio
ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])
Window = Callable[..., AbstractAsyncContextManager[Client]]


def git(place: Path, *words: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@t.invalid")
    subprocess.run(["git", *identity, *words], cwd=place, check=True, capture_output=True)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon whose agents never start: their program is missing."""
    home, state = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("s")
    state.chmod(0o700)
    with running_daemon(state, clean_env(home, state, CLAUDE_CODE_PATH="/nonexistent")) as daemon:
        yield daemon


@pytest.fixture
def repository(project: Path) -> Path:
    """The project as a git repository with a worktree inside it and one beside it."""
    git(project, "init", "-q", "-b", "main")
    git(project, "commit", "-q", "--allow-empty", "-m", "first")
    git(project, "worktree", "add", "-q", "-b", "feature", ".claude/worktrees/inside")
    git(project, "worktree", "add", "-q", "-b", "fix/this", "../beside")
    return project


@pytest.fixture
def window(shared: Daemon, repository: Path) -> Window:
    """A host that tells its server where its session works; that place may change, or be unknown."""

    @asynccontextmanager
    async def opened(mode: str, places: list[str] | None) -> AsyncGenerator[Client]:
        async def roots(context: object) -> types.ListRootsResult:
            del context
            return types.ListRootsResult(roots=[types.Root(uri=place) for place in places or []])  # pyright: ignore[reportArgumentType] - pydantic parses it

        door = door_command(shared.env, repository)
        async with Client(door, mode=mode, list_roots_callback=None if places is None else roots) as client:
            yield client

    return opened


async def create(client: Client, name: str, **more: str) -> str:
    return await asked(client, "create_agent", name=name, task="look", persona="scout", **more)


@pytest.mark.requirement("agent:place:follows-the-session", "guarantee:place:named-and-followed")
@ERAS
async def test_an_agent_works_in_the_worktree_that_the_session_has_entered(
    window: Window, repository: Path, shared: Daemon, mode: str
) -> None:
    places = [repository.as_uri()]
    async with window(mode, places) as client:
        assert (await create(client, "before")).endswith(" · on main")
        places[:] = [(repository / ".claude" / "worktrees" / "inside").as_uri()]
        inside = await create(client, "inside")
        assert inside.endswith("in .claude/worktrees/inside on feature, not the project's own checkout")
        assert " · in .claude/worktrees/inside on feature" in await create(client, "relative", cwd=".")
        places[:] = [(repository.parent / "beside").as_uri()]
        assert f"in {repository.parent / 'beside'} on fix/this, not the project's" in await create(client, "beside")
        status = await asked(client, "get_agent_status", agents=["inside"])
        assert " · in .claude/worktrees/inside on feature, not the project's own checkout" in status
        assert (await create(client, "explicit", cwd=str(repository))).endswith(" · on main")
    with shared.http(repository) as rest:
        cwd = rest.get("/v1/agents/inside").json()["agent"]["cwd"]
    assert cwd == str(repository / ".claude" / "worktrees" / "inside")


@pytest.mark.requirement("agent:place:follows-the-session", "guarantee:place:named-and-followed")
@ERAS
async def test_the_digest_names_the_place_and_the_branch(window: Window, repository: Path, mode: str) -> None:
    async with window(mode, [(repository.parent / "beside").as_uri()]) as client:
        await create(client, "beside")
        digest = await asked(client, "wait_for_agents", timeout_seconds=30)
    assert f" · in {repository.parent / 'beside'} on fix/this, not the project's own checkout · " in digest


@pytest.mark.requirement("agent:place:follows-the-session")
async def test_an_agent_below_the_project_is_told_with_folder_and_branch_and_one_in_the_project_takes_no_bytes(
    window: Window, repository: Path
) -> None:
    (repository / "src").mkdir()
    async with window("auto", [repository.as_uri()]) as client:
        receipt = await create(client, "below", cwd="src")
        assert receipt.endswith(" · in src on main")
        await create(client, "plain")
        git(repository, "checkout", "-q", "-b", "later")
        assert " · in src on later" in await asked(client, "get_agent_status", agents=["below"])
        assert " · on later" in await asked(client, "get_agent_status", agents=["plain"])
        of_all = await asked(client, "get_agent_status")
        digest = await asked(client, "wait_for_agents", until="all", timeout_seconds=30)
    for text in (of_all, digest):
        assert text.count(" · in src on later") == text.count(" on later") == 1
        assert "not the project's" not in text


@pytest.mark.requirement("agent:place:worktrees-of-the-repository")
async def test_without_roots_a_worktree_can_be_named_and_what_only_claims_to_be_one_is_refused(
    window: Window, repository: Path
) -> None:
    beside, posing = repository.parent / "beside", repository.parent / "posing"
    posing.mkdir()
    (posing / ".git").write_text((beside / ".git").read_text())
    async with window("auto", None) as client:
        assert (await create(client, "default")).endswith(" · on main")
        assert "on fix/this" in await create(client, "beside", cwd="../beside")
        for place in ("../posing", ".."):
            text = await refused(client, "create_agent", name="x", task="look", persona="scout", cwd=place)
            assert "is outside the project" in text
            assert "no worktree of its repository" in text


@pytest.mark.requirement("agent:place:follows-the-session")
@ERAS
async def test_a_session_that_left_the_project_is_told_so_before_an_agent_works_in_the_wrong_one(
    window: Window, tmp_path: Path, mode: str
) -> None:
    elsewhere = tmp_path / "elsewhere %41"
    git_dir = elsewhere / ".git"
    git_dir.mkdir(parents=True)
    (git_dir / "HEAD").write_text("ref: refs/heads/main\n")
    async with window(mode, [elsewhere.as_uri()]) as client:
        text = await refused(client, "create_agent", name="x", task="look", persona="scout")
        assert f'your session works in "{elsewhere}" now, outside the project' in text
        assert (await create(client, "told", cwd=".")).endswith(" · on main")


NAMELESS = (
    "did not say in which directory the session works now (its roots/list failed) -> give cwd as an absolute path"
)


@pytest.mark.requirement("agent:place:follows-the-session")
async def test_a_host_that_does_not_say_where_its_session_works_must_name_the_directory_and_may_read(
    shared: Daemon, repository: Path
) -> None:
    async def fails(context: object) -> types.ErrorData:
        del context
        return types.ErrorData(code=-32603, message="no idea")

    async with Client(door_command(shared.env, repository), mode="legacy", list_roots_callback=fails) as client:
        for place in ({}, {"cwd": "."}):
            text = await refused(client, "create_agent", name="lost", task="look", persona="scout", **place)
            assert NAMELESS in text
        assert "lost" not in await asked(client, "get_agent_status")
        assert "on fix/this" in await create(client, "told", cwd=str(repository.parent / "beside"))


@pytest.mark.requirement("agent:place:follows-the-session")
def test_a_host_of_the_new_era_that_answers_without_its_roots_must_name_the_directory(
    shared: Daemon, repository: Path
) -> None:
    version = "2026-07-28"
    meta: dict[str, object] = {
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {"roots": {}},
    }
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": version,
        "mcp-method": "tools/call",
        "mcp-name": "create_agent",
        "host": "localhost",
    }

    def answer(**arguments: str) -> str:
        given = {"name": "lost", "task": "look", "persona": "scout", **arguments}
        params = {"name": "create_agent", "arguments": given, "inputResponses": {}, "_meta": meta}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        with shared.http(repository, orchestrator="new") as http:
            return http.post("/mcp", json=body, headers=headers).text

    assert NAMELESS in answer()
    assert "on fix/this" in answer(cwd=str(repository.parent / "beside"))


@pytest.mark.requirement("agent:place:follows-the-session")
def test_a_host_over_http_is_asked_on_the_stream_of_its_call_for_it_may_have_no_other(
    shared: Daemon, repository: Path
) -> None:
    beside = repository.parent / "beside"
    headers = {"accept": "application/json, text/event-stream", "host": "localhost"}
    about: dict[str, object] = {
        "protocolVersion": "2025-06-18",
        "capabilities": {"roots": {}},
        "clientInfo": {"name": "t", "version": "1"},
    }
    given = {"name": "over-http", "task": "look", "persona": "scout"}
    call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "create_agent", "arguments": given}}
    with shared.http(repository, orchestrator="old") as http, shared.http(repository, orchestrator="old") as other:
        begun = http.post(
            "/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": about}, headers=headers
        )
        headers |= {"mcp-session-id": begun.headers["mcp-session-id"], "mcp-protocol-version": "2025-06-18"}
        http.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=headers)
        with http.stream("POST", "/mcp", json=call, headers=headers) as answers:
            for line in answers.iter_lines():
                said: dict[str, Any] = json.loads(line.removeprefix("data: ")) if line.startswith("data: {") else {}
                if said.get("method") == "roots/list":
                    found = {"jsonrpc": "2.0", "id": said["id"], "result": {"roots": [{"uri": beside.as_uri()}]}}
                    other.post("/mcp", json=found, headers=headers)
                elif "result" in said:
                    assert f"in {beside} on fix/this" in said["result"]["content"][0]["text"]
                    return
    pytest.fail("the call had no result")


def test_a_host_whose_roots_are_no_directories_here_must_name_one(shared: Daemon, repository: Path) -> None:
    async def calls() -> None:
        async def roots(context: object) -> types.ListRootsResult:
            del context
            return types.ListRootsResult(roots=[types.Root(uri="file:///tmp/w%FF")])  # pyright: ignore[reportArgumentType] - pydantic parses it

        async with Client(door_command(shared.env, repository), mode="legacy", list_roots_callback=roots) as client:
            assert NAMELESS in await refused(client, "create_agent", name="lost", task="look", persona="scout")

    anyio.run(calls)
