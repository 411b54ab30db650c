"""Connections that say nothing, never end, trickle or are never read: they stop no other caller of the daemon."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import anyio
import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator import paths
from orchestrator.domain.tool import Caller
from orchestrator.server.calls import Calls
from orchestrator.server.http import loopback, peers
from orchestrator.server.http.server import server
from orchestrator.server.mcp.doors import DoorBackend, Doors
from orchestrator.server.room import MAX_REFUSED
from tests.fixtures.daemon import Daemon, clean_env, running_daemon, wait_until

pytestmark = pytest.mark.anyio
DESCRIPTORS = 400
ROOM = DESCRIPTORS // 4
MANY = DESCRIPTORS + 50


@pytest.fixture
def small(tmp_path: Path, state: Path) -> Iterator[Daemon]:
    """A daemon that may open few files, with a port."""
    home = tmp_path / "home"
    home.mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))
        try:
            daemon = stack.enter_context(running_daemon(state, clean_env(home, state, FLEET_HTTP_PORT="0")))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        yield daemon


def port(daemon: Daemon) -> int:
    with daemon.http() as client:
        return int(str(client.get("/v1/health").json()["http"]).rpartition(":")[2])


def connected(daemon: Daemon, where: str | int) -> socket.socket:
    if isinstance(where, int):
        return socket.create_connection(("127.0.0.1", where), timeout=30)
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(30)
    wait_until(lambda: not link.connect_ex(str(paths.socket_path(daemon.state, where))), "a place in the backlog")
    return link


def greeted(daemon: Daemon, project: Path, name: str) -> tuple[socket.socket, dict[str, object]]:
    """A door that has sent its hello, and what it was answered."""
    link = connected(daemon, "mcp.sock")
    link.sendall(json.dumps(daemon.hello(project, orchestrator=name)).encode() + b"\n")
    with link.makefile("rb") as lines:
        return link, json.loads(lines.readline())


def refusals(daemon: Daemon, where: str, project: Path) -> str:
    """What a legitimate caller is answered at this place, '' if it is served."""
    if where == "mcp.sock":
        link, answer = greeted(daemon, project, "legitimate")
        link.close()
        return str(answer.get("error", ""))
    about = {"x-fleet-hello": json.dumps(daemon.hello(project))}
    if where == "http.sock":
        with daemon.http(project) as client:
            answer = client.get("/v1/agents")
    else:
        about["authorization"] = f"Bearer {(daemon.state / loopback.TOKEN_FILE).read_text().strip()}"
        answer = httpx.get(f"http://127.0.0.1:{where}/v1/agents", headers=about, trust_env=False, timeout=30)
    return "" if answer.status_code == 200 else answer.text


@pytest.mark.requirement("daemon:connections:bounded")
@pytest.mark.parametrize("flooded", ["mcp.sock", "http.sock", "port"])
@pytest.mark.parametrize("said", [b"", b"GET / HT"])
def test_more_silent_connections_than_the_daemon_has_descriptors_stop_no_caller_anywhere(
    small: Daemon, project: Path, flooded: str, said: bytes
) -> None:
    number = port(small)
    with ExitStack() as stack:
        for _ in range(MANY):
            link = stack.enter_context(connected(small, number if flooded == "port" else flooded))
            with suppress(OSError):
                link.sendall(said)
        for where in ("mcp.sock", "http.sock", str(number)):
            assert refusals(small, where, project) == ""


def _body(link: socket.socket, begun: bytes) -> bytes:
    """What is left of an answer that says how long it is."""
    head, _, body = begun.partition(b"\r\n\r\n")
    [size] = [int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-length:")]
    rest = b""
    while len(body) + len(rest) < size and (more := link.recv(4096)):
        rest += more
    return rest


@pytest.mark.requirement("daemon:connections:bounded")
def test_readers_of_events_leave_room_for_every_other_request(small: Daemon, project: Path) -> None:
    hello = json.dumps(small.hello(project))
    asked = f"GET /v1/stream HTTP/1.1\r\nhost: x\r\nx-fleet-hello: {hello}\r\n\r\n".encode()
    with ExitStack() as stack:
        answers: list[bytes] = []
        for _ in range(ROOM):
            link = stack.enter_context(connected(small, "http.sock"))
            link.sendall(asked)
            answers.append(link.recv(4096))
            if b" 429 " in answers[-1].splitlines()[0]:
                answers[-1] += _body(link, answers[-1])
        taken = [answer for answer in answers if b" 200 " in answer.splitlines()[0]]
        assert 0 < len(taken) < ROOM
        assert all(b" 429 " in answer and b"streams are open" in answer for answer in answers if answer not in taken)
        assert refusals(small, "http.sock", project) == ""


@pytest.mark.requirement("daemon:connections:bounded")
def test_who_comes_when_every_connection_waits_for_its_answer_is_refused_with_a_sentence(
    small: Daemon, project: Path, silent_model: str
) -> None:
    account = {"ANTHROPIC_BASE_URL": silent_model, "ANTHROPIC_API_KEY": "sk-test-not-a-key"}
    with small.http(project, account=account, environment=dict(small.env)) as client:
        client.post("/v1/agents", json={"name": "busy", "task": "work", "persona": "scout"}).raise_for_status()
    hello, body = json.dumps(small.hello(project)), b"{}"
    head = f"POST /v1/wait HTTP/1.1\r\nhost: x\r\nx-fleet-hello: {hello}\r\ncontent-length: {len(body)}\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(ROOM):
            stack.enter_context(connected(small, "http.sock")).sendall(head.encode() + body)
        told = refusals(small, "http.sock", project)
        assert "all wait for their answers" in told
        assert '"status": 429' in told
        assert refusals(small, "mcp.sock", project) == ""
    assert refusals(small, "http.sock", project) == "", "once they have left"


@pytest.mark.requirement("daemon:connections:bounded")
def test_one_door_too_many_is_refused_with_a_sentence(small: Daemon, project: Path) -> None:
    with ExitStack() as stack:
        for number in range(ROOM):
            link, answer = greeted(small, project, f"door-{number}")
            stack.enter_context(link)
            assert "error" not in answer
        assert "doors are connected" in refusals(small, "mcp.sock", project)
        assert refusals(small, "http.sock", project) == ""


@asynccontextmanager
async def serving(application: ASGIApp, place: Path) -> AsyncGenerator[str]:
    """The path of a socket with this application behind it."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path := str(place / "http.sock"))
        listener.setblocking(False)
        web = server(application)
        running = asyncio.create_task(web.serve(sockets=[listener]))
        listener.listen()
        yield path
        web.should_exit = True
        await running


async def reads(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer once the body is whole."""
    message = await receive()
    while message.get("more_body"):
        message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.mark.requirement("daemon:connections:bounded")
@pytest.mark.parametrize(
    "trickles",
    [
        pytest.param([b"GET / HTTP/1.1\r\n", b"x: y\r\n"], id="a head"),
        pytest.param([b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999\r\n\r\n", b"x"], id="a body"),
        pytest.param([b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"GET / HTTP/1.1\r\n", b"x: y\r\n"], id="a second head"),
    ],
)
async def test_a_request_that_only_trickles_holds_no_connection(
    state: Path, monkeypatch: pytest.MonkeyPatch, trickles: list[bytes]
) -> None:
    monkeypatch.setattr(peers, "HEAD_SECONDS", 0.3, raising=False)
    monkeypatch.setattr(peers, "BODY_SECONDS", 0.3, raising=False)
    async with serving(reads, state) as path:
        reader, writer = await asyncio.open_unix_connection(path)
        for said in trickles[:-1]:
            writer.write(said)
            await writer.drain()
        with anyio.fail_after(30), suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(trickles[-1])
                await writer.drain()
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await reader.read(4096)
        writer.close()


@pytest.mark.requirement("daemon:connections:bounded")
async def test_a_reader_that_never_reads_is_cut_and_its_stream_ended(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "UNREAD_SECONDS", 0.3, raising=False)
    ended = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        async def left() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            ended.set()

        leaving = asyncio.create_task(left())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not ended.is_set():
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            await asyncio.sleep(0)
        await leaving

    async with serving(endless, state) as path:
        _, writer = await asyncio.open_unix_connection(path, limit=1)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        with anyio.fail_after(30):
            await ended.wait()
        writer.close()


@pytest.mark.requirement("daemon:sockets:agents-hold-few")
async def test_agents_that_connect_all_at_once_are_not_more_than_those_that_may_wait_for_their_refusal(
    state: Path,
) -> None:
    backend: asyncio.Future[DoorBackend] = asyncio.get_running_loop().create_future()

    async def greet(caller: Caller) -> None:
        raise AssertionError(caller)

    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path := str(state / "mcp.sock"))
        listener.listen(2 * MAX_REFUSED)
        doors = Doors(listener, backend, build="", calls=Calls(), greet=greet, refuse=lambda _: ("an agent", "no"))
        links = [await asyncio.open_unix_connection(path) for _ in range(MAX_REFUSED + 8)]
        doors.accept()
        with anyio.fail_after(30):
            closed = {asyncio.create_task(reader.read()) for reader, _ in links}
            await asyncio.wait(closed, return_when=asyncio.FIRST_COMPLETED)
            for _, writer in links:
                with suppress(ConnectionError):
                    writer.write(b'{"project": "/p"}\n')
            answers = [answer async for answer in finished(closed)]
        assert sum(b"an agent" in answer for answer in answers) == MAX_REFUSED
        for _, writer in links:
            writer.close()
        await doors.aclose()


async def finished(reading: Iterable[asyncio.Task[bytes]]) -> AsyncGenerator[bytes]:
    for one in reading:
        with suppress(ConnectionError):
            yield await one
