"""A client that sends the id of another client's MCP session over HTTP does not become that client."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from orchestrator import paths
from tests.fixtures.daemon import Daemon, clean_env, running_daemon

OLD, NEW = "2025-11-25", "2026-07-28"
ACCEPT = "application/json, text/event-stream"
META = {
    "io.modelcontextprotocol/protocolVersion": NEW,
    "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home, state = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("s")
    state.chmod(0o700)
    with running_daemon(state, clean_env(home, state)) as daemon:
        yield daemon


def client(daemon: Daemon, project: Path, account: Mapping[str, str]) -> httpx.Client:
    hello = daemon.hello(project, account=dict(account), environment=dict(daemon.env))
    headers = {"x-fleet-hello": json.dumps(hello), "accept": ACCEPT}
    transport = httpx.HTTPTransport(uds=str(paths.socket_path(daemon.state, "http.sock")))
    return httpx.Client(transport=transport, base_url="http://localhost", headers=headers, timeout=60)


def initialized(link: httpx.Client) -> str:
    """Begin a session; its id."""
    about = {"protocolVersion": OLD, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    begun = link.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": about})
    session = str(begun.headers["mcp-session-id"])
    headers = {"mcp-session-id": session, "mcp-protocol-version": OLD}
    link.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=headers)
    return session


def call(link: httpx.Client, session: str, version: str, tool: str, **arguments: object) -> httpx.Response:
    params: dict[str, object] = {"name": tool, "arguments": arguments}
    headers = {"mcp-protocol-version": version, **({"mcp-session-id": session} if session else {})}
    if version == NEW:
        params["_meta"] = META
        headers |= {"mcp-method": "tools/call", "mcp-name": tool}
    body = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}
    return link.post("/mcp", json=body, headers=headers)


@pytest.mark.requirement("http:mcp:session-is-its-clients")
def test_an_id_that_only_begins_like_anothers_session_or_comes_without_one_commands_nobody(
    web: Daemon, project: Path, silent_model: str
) -> None:
    account = {"ANTHROPIC_BASE_URL": silent_model, "ANTHROPIC_API_KEY": "sk-test-not-a-key"}
    with client(web, project, account) as mine, client(web, project, account) as theirs:
        session = initialized(mine)
        made = call(mine, session, OLD, "create_agent", name="mine", task="work", persona="scout")
        assert "mine" in made.text
        guessed = session[:8] + "0" * (len(session) - 8)
        for given, version in ((guessed, OLD), (guessed, NEW), (session, NEW)):
            answer = call(theirs, given, version, "delete_all_agents")
            assert "deleted" not in answer.text, (version, answer.text)
        assert "mine" in call(mine, session, OLD, "get_agent_status").text
        assert "mine" in call(mine, session, OLD, "delete_all_agents").text
