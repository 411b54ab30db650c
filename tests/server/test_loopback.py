"""MCP and REST over HTTP: on the socket, and on a loopback port that only its own user can use."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import httpx
import httpx2
import psutil
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orchestrator import paths
from orchestrator.errors import StoreError
from orchestrator.server.http import guard, loopback, peers
from orchestrator.server.http.server import server
from tests.fixtures.daemon import Daemon, clean_env, running_daemon, wait_until
from tests.fixtures.door import asked, refused
from tests.fixtures.fleet_command import Command
from tests.fixtures.tasks import Tasks, ask

pytestmark = pytest.mark.anyio
ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with a free port of its own."""
    home, state = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("s")
    state.chmod(0o700)
    with running_daemon(state, clean_env(home, state, FLEET_HTTP_PORT="0")) as daemon:
        yield daemon


def address(daemon: Daemon) -> str:
    with daemon.http() as client:
        return str(client.get("/v1/health").json()["http"])


def token(daemon: Daemon) -> str:
    return (daemon.state / loopback.TOKEN_FILE).read_text().strip()


def hello(
    daemon: Daemon, project: Path, account: Mapping[str, str] | None = None, *, orchestrator: str | None = "by-http"
) -> dict[str, str]:
    about = {"account": dict(account or {}), "environment": dict(daemon.env), "orchestrator": orchestrator}
    return {"x-fleet-hello": json.dumps(daemon.hello(project, **about))}


@asynccontextmanager
async def over_http(
    daemon: Daemon, headers: Mapping[str, str], mode: str = "auto", *extensions: Tasks, port: bool = True
) -> AsyncGenerator[Client]:
    """The SDK's client on the port, with the token, or on the socket."""
    if port:
        http = httpx2.AsyncClient(headers={**headers, "authorization": f"Bearer {token(daemon)}"})
        url = f"{address(daemon)}/mcp"
    else:
        uds = str(paths.socket_path(daemon.state, "http.sock"))
        http, url = (
            httpx2.AsyncClient(headers=dict(headers), transport=httpx2.AsyncHTTPTransport(uds=uds)),
            "http://localhost/mcp",
        )
    async with http, Client(streamable_http_client(url, http_client=http), mode=mode, extensions=extensions) as client:
        yield client


@pytest.mark.requirement("http:mcp:streamable-on-loopback", "guarantee:access:no-web-page-no-other-user")
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Basic {token}"}, 401),
        ({"authorization": "Bearer {token}x"}, 401),
        ({"authorization": "Bearer {token}", "host": "evil.example:{port}"}, 421),
        ({"authorization": "Bearer {token}", "host": "127.0.0.1:1"}, 421),
        ({"authorization": "Bearer {token}", "origin": "https://evil.example"}, 403),
        ({"authorization": "Bearer {token}", "origin": "null"}, 403),
        ({"authorization": "Bearer {token}", "origin": "http://127.0.0.1:{port}"}, 200),
        ({"authorization": "Bearer {token}", "host": "localhost:{port}"}, 200),
        ({"authorization": "Bearer {token}"}, 200),
    ],
)
@pytest.mark.parametrize("path", ["/v1/health", "/mcp"])
def test_only_who_has_the_token_and_comes_to_this_very_host_is_served(
    web: Daemon, headers: dict[str, str], status: int, path: str
) -> None:
    base = address(web)
    port = base.rpartition(":")[2]
    given = {name: value.format(token=token(web), port=port) for name, value in headers.items()}
    with httpx.Client(base_url=base, trust_env=False) as client:
        found = client.get(path, headers=given)
    if status == 200:
        assert found.status_code not in {401, 403, 421}
    else:
        assert found.status_code == status
        assert set(found.json()) == {"type", "title", "status", "detail", "hint"}


@pytest.mark.requirement("http:mcp:streamable-on-loopback", "guarantee:access:no-web-page-no-other-user")
def test_the_token_is_for_this_user_only_and_stays_over_a_restart(state: Path, tmp_path: Path) -> None:
    env = clean_env(tmp_path, state, FLEET_HTTP_PORT="0")
    with running_daemon(state, env) as daemon:
        first = token(daemon)
    assert stat.S_IMODE((state / loopback.TOKEN_FILE).stat().st_mode) == 0o600
    with running_daemon(state, env) as daemon:
        assert token(daemon) == first
        assert first not in daemon.log.read_text()


NOBODY = 65534
TRIES = """
import json, os, socket, sys
if user := int(sys.argv.pop(1)):
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
def tries(path):
    try:
        if path.endswith(".sock"):
            with socket.socket(socket.AF_UNIX) as link:
                link.connect(path)
        else:
            open(path).close()
    except OSError as error:
        return type(error).__name__
    return "open"
print(json.dumps([tries(path) for path in sys.argv[1:]]))
"""


@pytest.mark.requirement(
    "http:mcp:streamable-on-loopback", "daemon:sockets:owner-only", "guarantee:access:no-web-page-no-other-user"
)
def test_another_user_of_the_machine_reaches_neither_socket_nor_token(tmp_path: Path, state: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user to try it")
    home = tmp_path / "home"
    home.mkdir()
    with running_daemon(state, clean_env(home, state, FLEET_HTTP_PORT="0")):
        doors = [str(state / name) for name in ("mcp.sock", "http.sock", loopback.TOKEN_FILE)]

        def tried(user: int) -> list[str]:
            words = [sys.executable, "-S", "-c", TRIES, str(user), *doors]
            done = subprocess.run(words, capture_output=True, text=True, check=True, cwd="/", timeout=60)
            return json.loads(done.stdout)

        assert tried(os.geteuid()) == ["open"] * 3
        assert tried(NOBODY) == ["PermissionError"] * 3
        state.chmod(0o755)
        assert tried(NOBODY) == ["PermissionError"] * 3, "each is private by itself, too"


@pytest.mark.requirement("http:mcp:streamable-on-loopback")
def test_a_token_that_a_crash_left_empty_or_half_made_is_made_anew(state: Path) -> None:
    file, fresh = state / loopback.TOKEN_FILE, state / f"{loopback.TOKEN_FILE}.new"
    file.touch()
    fresh.write_text("ha")
    found = loopback.token_of(state)
    assert len(found) >= 32
    assert found == loopback.token_of(state) == file.read_text().strip()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not fresh.exists()


def test_a_file_that_holds_no_token_is_named_and_the_port_is_not_blamed(state: Path) -> None:
    file = state / loopback.TOKEN_FILE
    file.write_text("short")
    with pytest.raises(StoreError, match=re.escape(str(file))) as caught:
        loopback.listen(0, state)
    assert "remove it" in caught.value.hint
    assert file.read_text() == "short"


@pytest.mark.requirement("http:mcp:streamable-on-loopback")
def test_without_the_setting_no_port_is_open(daemon: Daemon) -> None:
    assert address(daemon) == ""
    assert not (daemon.state / loopback.TOKEN_FILE).exists()


def test_what_is_accepted_does_not_wait_to_send_small_answers(state: Path) -> None:
    bound = loopback.listen(0, state)
    with bound.listener, socket.create_connection(("127.0.0.1", bound.port)):
        bound.listener.setblocking(True)
        accepted, _ = bound.listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@asynccontextmanager
async def strangers(state: Path, may_answer: asyncio.Event) -> AsyncGenerator[int]:
    """The number of a port with a small application behind it, which takes its time."""

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await may_answer.wait()
        await Response("done")(scope, receive, send)

    bound = loopback.listen(0, state)
    web = server(guard.guard(slow, bound.port, bound.token))
    serving = asyncio.create_task(web.serve(sockets=[bound.listener]))
    yield bound.port
    web.should_exit = True
    await serving


async def first_words(port: int, words: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(words.format(port=port).encode())
    return reader, writer


@pytest.mark.requirement("http:mcp:streamable-on-loopback", "guarantee:access:no-web-page-no-other-user")
async def test_who_does_not_say_what_it_wants_or_has_no_token_holds_no_connection_to_the_port(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "HEAD_SECONDS", 1.0)
    is_cut = asyncio.Event()
    host = "GET / HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
    async with strangers(state, is_cut) as port:
        allowed = f"{host}authorization: Bearer {loopback.token_of(state)}\r\nconnection: close\r\n\r\n"
        served, refused, cut = [
            await first_words(port, words) for words in (allowed, f"{host}content-length: 9\r\n\r\nbo", "GET / HT")
        ]
        with anyio.fail_after(30):
            assert await cut[0].read() == b""
            is_cut.set()
            assert b" 401 " in await refused[0].read()
            assert (await served[0].read()).endswith(b"done")
        for _, writer in (cut, refused, served):
            writer.close()


@pytest.mark.requirement("http:mcp:streamable-on-loopback")
async def test_one_connection_too_many_takes_the_place_of_the_longest_silent_one(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "MAX_CONNECTIONS", 2)
    async with strangers(state, asyncio.Event()) as port:
        links = [await first_words(port, "GET / HT") for _ in range(3)]
        with anyio.fail_after(30), suppress(ConnectionError):
            assert await links[0][0].read() == b""
        assert not any(reader.at_eof() for reader, _ in links[1:])
        for _, writer in links:
            writer.close()


@pytest.mark.requirement("http:mcp:streamable-on-loopback")
@pytest.mark.parametrize(("mode", "port"), [("auto", True), ("legacy", True), ("auto", False)])
async def test_the_tools_work_over_http_in_both_eras(web: Daemon, project: Path, mode: str, port: bool) -> None:
    async with over_http(web, hello(web, project), mode, port=port) as client:
        assert client.protocol_version == ("2026-07-28" if mode == "auto" else "2025-11-25")
        assert "create_agent" in {tool.name for tool in (await client.list_tools()).tools}
        assert "scout" in await asked(client, "list_agents")


@ERAS
async def test_who_does_not_say_who_it_is_is_told_how(web: Daemon, mode: str) -> None:
    async with over_http(web, {}, mode) as client:
        assert "header x-fleet-hello is missing" in await refused(client, "get_agent_status")


@pytest.mark.requirement("http:mcp:streamable-on-loopback")
@ERAS
async def test_two_principals_do_not_see_each_others_project(
    web: Daemon, project: Path, tmp_path: Path, silent_model: str, mode: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    account = {"ANTHROPIC_BASE_URL": silent_model, "ANTHROPIC_API_KEY": "sk-test-not-a-key"}
    async with (
        over_http(web, hello(web, project, account), mode) as mine,
        over_http(web, hello(web, other, account), mode) as theirs,
    ):
        await asked(mine, "create_agent", name="mine", task="work", persona="scout")
        assert "mine" not in await asked(theirs, "get_agent_status")
        assert "no agent 'mine'" in await refused(theirs, "command_agent", agent="mine", task="stop")
        assert "mine" in await asked(mine, "delete_agent", agents=["mine"])


@pytest.mark.requirement("session:identity:one-per-door")
async def test_each_mcp_session_is_an_orchestrator_and_without_sessions_the_hello_names_one(
    web: Daemon, project: Path
) -> None:
    unnamed = hello(web, project, orchestrator=None)
    async with over_http(web, unnamed, "legacy") as one, over_http(web, unnamed, "legacy") as two:
        await asked(one, "create_agent", name="ones", task="work", persona="scout")
        assert "left by" not in await asked(two, "get_agent_status")
        assert "ones" not in await asked(two, "delete_all_agents")
        assert "ones" in await asked(one, "delete_all_agents")
    async with over_http(web, unnamed) as nobody:
        assert 'add "orchestrator": "an id of your own"' in await refused(nobody, "delete_all_agents")


@pytest.mark.requirement("http:mcp:streamable-on-loopback", "wait:digest:delivered-once")
async def test_what_a_client_that_left_did_not_hear_is_told_to_its_next_wait(
    web: Daemon, project: Path, silent_model: str
) -> None:
    account = {"ANTHROPIC_BASE_URL": silent_model, "ANTHROPIC_API_KEY": "sk-test-not-a-key"}
    headers = hello(web, project, account)
    async with over_http(web, headers, "legacy") as client:
        await asked(client, "create_agent", name="unheard", task="work", persona="scout")
    begin_a_wait_and_leave(web, headers)
    with web.http(project) as rest:
        rest.post("/v1/agents/unheard/interrupt", json={}).raise_for_status()
        wait_until(lambda: "turn.interrupted" in rest.get("/v1/events?since=0&agent=unheard").text, "its end")
    async with over_http(web, headers, "legacy") as client:
        assert "unheard interrupted" in await asked(client, "wait_for_agents", timeout_seconds=20)
        await asked(client, "delete_all_agents")


def begin_a_wait_and_leave(daemon: Daemon, headers: Mapping[str, str]) -> None:
    """Begin to wait as a host of the older era does, and vanish without a word; the daemon has noticed."""

    def message(method: str, **params: object) -> dict[str, object]:
        return {"jsonrpc": "2.0", "method": method, "params": params}

    about = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    sent = {
        **headers,
        "authorization": f"Bearer {token(daemon)}",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2025-11-25",
    }
    with httpx.Client(base_url=address(daemon), headers=sent, trust_env=False) as client:
        begun = client.post("/mcp", json={**message("initialize", **about), "id": 1})
        client.headers["mcp-session-id"] = begun.headers["mcp-session-id"]
        client.post("/mcp", json=message("notifications/initialized"))
        waiting = {**message("tools/call", name="wait_for_agents", arguments={}), "id": 2}
        with client.stream("POST", "/mcp", json=waiting) as answer:
            assert answer.status_code == 200
    port = int(address(daemon).rpartition(":")[2])
    wait_until(lambda: not links(port), "the end of the connection")


def links(port: int) -> int:
    """Connections that a process has on this port; of the machine's list, as a daemon shows its own to root only."""
    open_ones = {psutil.CONN_ESTABLISHED, psutil.CONN_CLOSE_WAIT}
    found = [link.laddr for link in psutil.net_connections("tcp4") if link.status in open_ones]
    return sum(bool(address) and address[1] == port for address in found)


@pytest.mark.requirement("task:name:header-checked")
def test_the_header_that_names_a_task_must_name_the_one_in_the_body(web: Daemon, project: Path) -> None:
    meta: dict[str, object] = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}},
    }
    body: dict[str, object] = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tasks/get",
        "params": {"taskId": "sl_1", "_meta": meta},
    }
    sent = {
        **hello(web, project),
        "authorization": f"Bearer {token(web)}",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tasks/get",
    }
    codes: dict[str, int] = {}
    with httpx.Client(base_url=address(web), headers=sent, trust_env=False) as client:
        for name in ("sl_1", "sl_2", ""):
            answer = client.post("/mcp", json=body, headers={"mcp-name": name} if name else {})
            codes[name] = answer.json()["error"]["code"]
    assert codes == {"sl_1": -32602, "sl_2": -32020, "": -32020}


@pytest.mark.requirement("http:mcp:streamable-on-loopback", "task:verbs:survive-restarts")
async def test_a_task_can_be_followed_over_http(web: Daemon, project: Path, silent_model: str) -> None:
    account = {"ANTHROPIC_BASE_URL": silent_model, "ANTHROPIC_API_KEY": "sk-test-not-a-key"}
    tasks = Tasks()
    async with over_http(web, hello(web, project, account), "auto", tasks) as client:
        await asked(client, "create_agent", name="short", task="work", persona="scout")
        assert "your time-out came first" in await asked(client, "wait_for_agents", timeout_seconds=0.5)
        assert (await ask(client.session, "tasks/get", tasks.ids[0]))["status"] == "completed"
        await asked(client, "delete_all_agents")


@pytest.mark.requirement("http:mcp:streamable-on-loopback")
def test_fleet_up_serves_http_and_shows_where(fleet: Command) -> None:
    try:
        started = fleet("up", "--http", "0", "--json")
        assert started.code == 0, started.err
        assert started.json["http"].startswith("http://127.0.0.1:")
        assert started.json["http"] in fleet("doctor").out
        again = fleet("up", "--http", "1")
        assert again.code == 1
        assert started.json["http"] in again.err
    finally:
        fleet("down", "--interrupt")
