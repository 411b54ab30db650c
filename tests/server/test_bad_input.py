"""Invalid input of every kind at every door: answered quickly in one sentence, and leaving nothing in the daemon."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator import paths
from orchestrator.server.http import loopback
from tests.fixtures.daemon import Daemon, clean_env, running_daemon
from tests.fixtures.raw_door import MODERN

pytestmark = pytest.mark.requirement("guarantee:bad-input:one-sentence")
PROMISED_SECONDS = 1.0
"""of the daemon's own work for an answer: its processor time, whatever else the machine does"""
CEILING_SECONDS = 20.0
"""for the answer to arrive on a machine that is busy with other things"""
GROWTH_BYTES = 50 * 1024 * 1024
MAX_SENTENCE_CHARACTERS = 2000

TOOLS = (
    "create_agent",
    "command_agent",
    "wait_for_agents",
    "get_agent_status",
    "get_agent_output",
    "list_agents",
    "delete_agent",
)
NAMES = ("name", "task", "agent", "agents", "persona", "inputs", "cwd", "model", "mode", "since", "offset", "limit")
ODDITIES: list[Any] = [
    "",
    " ",
    "x" * 300_000,
    "a\x00b",
    "\ud800",
    "--upload-pack=x",
    "../../etc/passwd",
    "ag_0123",
    "é",
    "e\u0301",
    "\u202eevil",
    "-1",
    "9" * 40,
    "'; DROP TABLE agent; --",
    "{{ 7 * 7 }}",
    2**63,
    -(2**70),
    1e308,
    float("nan"),
    float("inf"),
    True,
    None,
    [],
    {},
    [[[[]]]],
    ["a"] * 2000,
    {"a": {"b": {"c": []}}},
]
ODD = st.sampled_from(ODDITIES)
ARGUMENTS: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from(NAMES) | st.text(max_size=12), ODD, max_size=5
)
BODIES: st.SearchStrategy[Any] = ARGUMENTS | ODD
BOUNDED = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module")
def nonsense(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with all its doors open, which has answered before, so that what it loads late is loaded."""
    home, state = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("s")
    state.chmod(0o700)
    with running_daemon(state, clean_env(home, state, FLEET_HTTP_PORT="0")) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("project").resolve()


def memory(daemon: Daemon) -> int:
    return int(psutil.Process(daemon.pid).memory_info().rss)


def in_time(daemon: Daemon, ask: Callable[[], Any]) -> Any:
    """The answer, which took the daemon no longer than is promised."""
    process = psutil.Process(daemon.pid)
    begun, before = time.monotonic(), process.cpu_times()
    answer = ask()
    after = process.cpu_times()
    assert after.user + after.system - before.user - before.system < PROMISED_SECONDS
    assert time.monotonic() - begun < CEILING_SECONDS
    return answer


def one_sentence(text: str) -> None:
    """The text says something, on one line, without the inside of the program."""
    assert text.strip()
    assert len(text) <= MAX_SENTENCE_CHARACTERS
    assert "\n" not in text.strip()
    assert "Traceback" not in text


def still_serves(daemon: Daemon, before: int) -> None:
    """The daemon has kept nothing of it, and is well."""
    with daemon.http() as client:
        assert client.get("/v1/health").status_code == 200
    assert memory(daemon) - before < GROWTH_BYTES
    broken = [one for one in daemon.records() if one.get("exception") or one["event"].endswith("broke")]
    assert broken == []


def test_every_body_for_the_http_api_is_answered_in_one_sentence(nonsense: Daemon, work: Path) -> None:
    before = 0

    with nonsense.http(work, environment={"HOME": str(work), "PATH": "/usr/bin:/bin"}) as client:

        @BOUNDED
        @given(
            body=BODIES,
            path=st.sampled_from(["/v1/agents", "/v1/agents/nobody/turns", "/v1/agents/nobody/answer", "/v1/wait"]),
        )
        def ask(body: Any, path: str) -> None:
            content = json.dumps(body).encode()
            if path == "/v1/wait" and isinstance(body, dict):
                content = json.dumps({**body, "agents": [], "timeout_seconds": 0}).encode()
            answer = in_time(
                nonsense, lambda: client.post(path, content=content, headers={"content-type": "application/json"})
            )
            assert answer.status_code < 500, answer.text
            if not answer.is_success:
                one_sentence(answer.json()["detail"])

        ask()
        before = memory(nonsense)
        for _ in range(3):
            ask()
    still_serves(nonsense, before)


def mcp_lines(daemon: Daemon, project: Path) -> tuple[socket.socket, Any]:
    link = daemon.connect()
    link.settimeout(CEILING_SECONDS)
    reader = link.makefile("rb")
    link.sendall(json.dumps(daemon.hello(project)).encode() + b"\n")
    assert b"build" in reader.readline()
    return link, reader


def test_every_argument_of_every_tool_is_answered_in_one_sentence(nonsense: Daemon, work: Path) -> None:
    link, reader = mcp_lines(nonsense, work)
    count = 0

    @BOUNDED
    @given(tool=st.sampled_from(TOOLS), arguments=ARGUMENTS)
    def call(tool: str, arguments: dict[str, Any]) -> None:
        nonlocal count
        count += 1
        if tool == "wait_for_agents":
            arguments = {"timeout_seconds": 0, **arguments}
        params = {"name": tool, "arguments": arguments, **MODERN}
        message = {"jsonrpc": "2.0", "id": count, "method": "tools/call", "params": params}
        link.sendall(json.dumps(message).encode() + b"\n")
        while (answer := json.loads(in_time(nonsense, reader.readline))).get("id") not in {count, None}:
            pass
        if "error" in answer:
            one_sentence(str(answer["error"]["message"]))
        elif answer["result"].get("isError"):
            one_sentence(answer["result"]["content"][0]["text"])

    try:
        call()
        before = memory(nonsense)
        for _ in range(3):
            call()
    finally:
        reader.close()
        link.close()
    still_serves(nonsense, before)


def scrambled(seed: int) -> bytes:
    """A request as a line of bytes, with some of them altered, doubled or left out."""
    dice = random.Random(seed)
    params = {"name": dice.choice(TOOLS), "arguments": {"agent": "x" * dice.randrange(2000)}, **MODERN}
    line = bytearray(json.dumps({"jsonrpc": "2.0", "id": seed, "method": "tools/call", "params": params}).encode())
    for _ in range(dice.randrange(1, 9)):
        place = dice.randrange(len(line))
        match dice.randrange(3):
            case 0:
                line[place] = dice.randrange(256)
            case 1:
                del line[place]
            case _:
                line[place:place] = line[place : place + dice.randrange(30)]
    return bytes(line).replace(b"\n", b" ") + b"\n"


def test_scrambled_lines_on_the_socket_are_answered_and_the_connection_lives(nonsense: Daemon, work: Path) -> None:
    link, reader = mcp_lines(nonsense, work)
    last = {"jsonrpc": "2.0", "id": "last", "method": "tools/list", "params": MODERN}

    def pour(seeds: range) -> None:
        for seed in seeds:
            link.sendall(scrambled(seed))
        link.sendall(json.dumps(last).encode() + b"\n")
        while (answer := json.loads(in_time(nonsense, reader.readline))).get("id") != "last":
            if "error" in answer:
                one_sentence(str(answer["error"]["message"]))

    try:
        pour(range(200))
        before = memory(nonsense)
        for number in range(1, 6):
            pour(range(200 * number, 200 * number + 200))
    finally:
        reader.close()
        link.close()
    still_serves(nonsense, before)


def test_floods_on_the_port_are_turned_away_and_leave_no_memory_behind(nonsense: Daemon) -> None:
    with nonsense.http() as client:
        url = client.get("/v1/health").json()["http"]
    secret = (nonsense.state / loopback.TOKEN_FILE).read_text().strip()
    host, port = url.removeprefix("http://").split(":")

    def pour() -> None:
        with httpx.Client(base_url=url, timeout=CEILING_SECONDS, trust_env=False) as client:
            for body in (b"", b"[]", b"{", b"\xff" * 1000, b"[" * 50_000, b'{"jsonrpc": "2.0"}'):
                headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
                headers["accept"] = "application/json, text/event-stream"
                answer = in_time(
                    nonsense, lambda body=body, headers=headers: client.post("/mcp", content=body, headers=headers)
                )
                assert 400 <= answer.status_code < 500, answer.text
            many = {f"x-{number}": "y" * 100 for number in range(2000)}
            with suppress(httpx.TransportError):  # cut off is an answer, too
                assert 400 <= in_time(nonsense, lambda: client.get("/v1/agents", headers=many)).status_code < 500
        for _ in range(50):  # half a request, then silence: nobody waits for it
            with socket.create_connection((host, int(port)), timeout=CEILING_SECONDS) as link:
                link.sendall(b"POST /mcp HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n{")

    pour()
    before = memory(nonsense)
    for _ in range(5):
        pour()
    still_serves(nonsense, before)
    assert paths.socket_path(nonsense.state, "mcp.sock").is_socket()
