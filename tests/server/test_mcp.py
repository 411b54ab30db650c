"""One table of tools over a real socket, called by the SDK's client in both protocol eras."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from orchestrator.domain.tool import Allow, CallContext, Caller, GateDecision, Json, Tool, ToolCall
from orchestrator.errors import NotFoundError
from orchestrator.providers.base import SessionSpec
from orchestrator.providers.tool_server import tool_server
from orchestrator.server.calls import Calls
from orchestrator.server.mcp.server import render
from tests.fixtures.mcp_socket import Served, served

ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])
pytestmark = pytest.mark.anyio

SCHEMA: Json = {
    "type": "object",
    "required": ["agent"],
    "properties": {
        "agent": {"type": "string"},
        "mode": {"enum": ["queue", "interrupt"]},
        "limit": {"type": "integer", "minimum": 1, "maximum": 6000},
        "inputs": {"type": "array", "items": {"type": "string"}},
        "seconds": {"type": "number"},
    },
}
NOTHING: Json = {"type": "object", "properties": {}}


class Bench:
    """The tools of these tests, and what happened to them."""

    def __init__(self) -> None:
        self.calls: list[CallContext] = []
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.finished = asyncio.Event()
        self.cancelled = asyncio.Event()

    def table(self) -> tuple[Tool, ...]:
        return (
            Tool(name="echo", description="Say it again.", schema=SCHEMA, call=self.echo),
            Tool(name="slow", description="Do two steps.", schema=NOTHING, call=self.slow),
            Tool(name="sleep", description="Wait.", schema=NOTHING, call=self.sleep, waits=True),
            Tool(name="lost", description="Find nothing.", schema=NOTHING, call=self.lost),
            Tool(name="broken", description="Break.", schema=NOTHING, call=self.broken),
            Tool(name="foul", description="Say the unseen.", schema=NOTHING, call=self.foul),
        )

    async def echo(self, call: CallContext, args: Json) -> str:
        self.calls.append(call)
        return json.dumps(dict(args), sort_keys=True)

    async def slow(self, call: CallContext, args: Json) -> str:
        del args
        self.begun.set()
        await self.go_on.wait()
        await call.progress(1.5, "between two steps")
        self.finished.set()
        return "both steps"

    async def sleep(self, call: CallContext, args: Json) -> str:
        del args
        try:
            await call.progress(0.5, "asleep")
            self.begun.set()
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return "awake"

    async def lost(self, call: CallContext, args: Json) -> str:
        del call, args
        raise NotFoundError("no agent 'zz'", hint="yours: scout-1, scout-2")

    async def broken(self, call: CallContext, args: Json) -> str:
        del call, args
        raise ZeroDivisionError("a secret inside")

    async def foul(self, call: CallContext, args: Json) -> str:
        del call, args
        return "\x1b[31mred\x1b[0m\u202e \U000e0041hid\u200bden\nline\ttab\x07"


@pytest.fixture
async def bench() -> Bench:
    return Bench()


@pytest.fixture
async def server(bench: Bench) -> AsyncIterator[Served]:
    async with served(bench.table()) as server:
        yield server


async def said(client: Client, tool: str, arguments: dict[str, Any] | None = None) -> tuple[str, bool]:
    result = await client.call_tool(tool, arguments or {})
    (block,) = result.content
    assert block.type == "text"
    return block.text, bool(result.is_error)


@ERAS
async def test_the_table_is_listed_as_it_stands_in_both_eras(server: Served, bench: Bench, mode: str) -> None:
    async with server.client(mode) as client:
        listed = (await client.list_tools()).tools
        assert client.protocol_version == ("2026-07-28" if mode == "auto" else "2025-11-25")
    assert [(tool.name, tool.description, tool.input_schema) for tool in listed] == [
        (tool.name, tool.description, tool.schema) for tool in bench.table()
    ]


@ERAS
async def test_a_call_carries_who_called_and_the_hosts_own_id_of_it(server: Served, bench: Bench, mode: str) -> None:
    account = {"ANTHROPIC_API_KEY": "sk-very-secret", "NOT_ON_THE_LIST": "x"}
    async with server.client(mode, account=account, environment={"PATH": "/bin", "LD_PRELOAD": "x"}) as client:
        await client.call_tool("echo", {"agent": "a"}, meta={"claudecode/toolUseId": "toolu_1"})
        await client.call_tool("echo", {"agent": "a"})
    first, second = bench.calls
    assert first.key == "host-1/toolu_1"
    assert second.key is None
    assert (first.caller.project, first.caller.orchestrator) == ("/project", "host-1")
    assert dict(first.caller.account) == {"ANTHROPIC_API_KEY": "sk-very-secret"}
    assert dict(first.caller.environment) == {"PATH": "/bin"}
    assert server.greeted == [first.caller]


async def test_two_hosts_that_count_alike_do_not_share_a_key(server: Served, bench: Bench) -> None:
    for host in ("host-1", "host-2"):
        async with server.client(host_session=host) as client:
            await client.call_tool("echo", {"agent": "a"}, meta={"claudecode/toolUseId": "toolu_1"})
    assert [call.key for call in bench.calls] == ["host-1/toolu_1", "host-2/toolu_1"]


async def test_a_host_without_a_session_is_the_orchestrator_mcp(server: Served, bench: Bench) -> None:
    async with server.client(host_session=None) as client:
        await client.call_tool("echo", {"agent": "a"})
    assert bench.calls[0].caller.orchestrator == "mcp"


@pytest.mark.requirement("mcp:errors:what-to-do-next", "error:limit:out-of-range")
@ERAS
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "echo: 'agent' is missing -> it takes agent, mode, limit, inputs, seconds"),
        ({"agent": 5}, "echo: 'agent' must be text, not a number"),
        ({"agent": "a", "mode": "whisper"}, "'mode' must be one of queue, interrupt; it is 'whisper'"),
        ({"agent": "a", "limit": -1}, "'limit' must be at least 1; it is -1"),
        ({"agent": "a", "limit": 10**30}, "'limit' must be at most 6000"),
        ({"agent": "a", "inputs": "scout-1"}, "'inputs' must be a list of strings, not text"),
        ({"agent": "a", "inputs": ["x", 7]}, "'inputs'[1] must be text, not a number"),
        ({"agent": "a", "agents": ["b"]}, "no argument 'agents' (did you mean 'agent'?)"),
        ({"agent": "a", "\x1b[31mx\u202e": 1}, r"no argument '\x1b[31mx\u202e'"),
        ({"agent": None}, "'agent' must be text, not null"),
        ({"agent": "a", "limit": True}, "'limit' must be a whole number, not true or false"),
    ],
)
async def test_bad_arguments_get_an_error_that_says_which_and_what_is_valid(
    server: Served, bench: Bench, mode: str, arguments: dict[str, Any], expected: str
) -> None:
    async with server.client(mode) as client:
        text, is_error = await said(client, "echo", arguments)
    assert is_error
    assert expected in text
    assert not bench.calls


@pytest.mark.requirement("mcp:errors:what-to-do-next", "error:tool:unknown")
async def test_an_unknown_tool_is_answered_with_the_tools_that_there_are(server: Served) -> None:
    async with server.client() as client:
        text, is_error = await said(client, "ecko")
    assert is_error
    assert text == "no tool 'ecko' -> did you mean echo? Tools: echo, slow, sleep, lost, broken, foul"


@pytest.mark.requirement("mcp:errors:what-to-do-next")
async def test_a_mistake_comes_back_with_what_to_do_next(server: Served) -> None:
    async with server.client() as client:
        assert await said(client, "lost") == ("no agent 'zz' -> yours: scout-1, scout-2", True)


@ERAS
async def test_a_failure_of_fleet_itself_names_the_log_and_shows_no_traceback(server: Served, mode: str) -> None:
    async with server.client(mode) as client:
        text, is_error = await said(client, "broken")
        assert (await said(client, "echo", {"agent": "a"}))[1] is False
    assert is_error
    assert text == "Fleet itself failed (ZeroDivisionError) -> the traceback is in /state/daemon.log"


@pytest.mark.requirement("mcp:results:fenced")
async def test_what_cannot_be_seen_never_reaches_the_orchestrator(server: Served) -> None:
    async with server.client() as client:
        assert await said(client, "foul") == ("red hidden\nline\ttab", False)


@ERAS
async def test_progress_reaches_the_caller_while_a_tool_waits(server: Served, bench: Bench, mode: str) -> None:
    seen: list[tuple[float, str | None]] = []

    async def heard(progress: float, total: float | None, message: str | None) -> None:
        del total
        seen.append((progress, message))
        bench.go_on.set()

    async with server.client(mode) as client:
        result = await client.call_tool("sleep", {}, progress_callback=heard)
    assert not result.is_error
    assert seen == [(0.5, "asleep")]


@ERAS
async def test_a_waiting_tool_ends_when_its_caller_cancels_it(server: Served, bench: Bench, mode: str) -> None:
    async with server.client(mode) as client, anyio.create_task_group() as group:
        group.start_soon(said, client, "sleep")
        await bench.begun.wait()
        group.cancel_scope.cancel()
    await asyncio.wait_for(bench.cancelled.wait(), 10)


async def test_a_waiting_tool_ends_when_its_door_dies(server: Served, bench: Bench) -> None:
    _, writer = await server.raw()
    writer.write(modern(1, "tools/call", name="sleep", arguments={}))
    await bench.begun.wait()
    writer.transport.abort()
    await asyncio.wait_for(bench.cancelled.wait(), 10)


async def test_a_tool_that_does_not_wait_runs_to_its_end_though_its_door_died(server: Served, bench: Bench) -> None:
    _, writer = await server.raw()
    writer.write(modern(1, "tools/call", name="slow", arguments={}))
    await bench.begun.wait()
    writer.transport.abort()
    async with server.client() as client:  # the daemon has seen the end of that connection by now
        await said(client, "echo", {"agent": "a"})
    bench.go_on.set()
    await asyncio.wait_for(bench.finished.wait(), 10)


def modern(number: int, method: str, **params: object) -> bytes:
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": {**params, "_meta": meta}}
    return json.dumps(message).encode() + b"\n"


@pytest.mark.requirement("error:json-rpc:malformed")
@pytest.mark.parametrize(
    ("line", "request_id", "code"),
    [
        (b"this is not JSON\n", None, -32700),
        (b'{"jsonrpc": "2.0", "id": 7\n', None, -32700),
        (b"\xff\xfe\n", None, -32700),
        (b"[1, 2]\n", None, -32600),
        (b'"text"\n', None, -32600),
        (b'{"id": 7, "method": "tools/list"}\n', 7, -32600),
        (b'{"jsonrpc": "2.0", "id": 7}\n', 7, -32600),
        (b'{"jsonrpc": "2.0", "id": 7, "method": 5}\n', 7, -32600),
        (b'{"jsonrpc": "2.0", "id": {}, "method": "tools/list"}\n', None, -32600),
        (b"[" * 100_000 + b"\n", None, -32700),
    ],
)
async def test_a_line_that_is_no_message_gets_an_error_and_the_connection_lives(
    server: Served, line: bytes, request_id: int | None, code: int
) -> None:
    reader, writer = await server.raw()
    writer.write(line)
    answer = json.loads(await asyncio.wait_for(reader.readline(), 10))
    assert (answer["id"], answer["error"]["code"]) == (request_id, code)
    writer.write(b"\n" + modern(8, "tools/list"))
    assert json.loads(await asyncio.wait_for(reader.readline(), 10))["id"] == 8
    writer.close()


async def test_a_line_over_the_limit_is_answered_and_skipped(server: Served) -> None:
    reader, writer = await server.raw()
    writer.write(modern(3, "tools/call", name="echo", arguments={"agent": "x" * (17 << 20)}))
    answer = json.loads(await asyncio.wait_for(reader.readline(), 20))
    assert (answer["id"], answer["error"]["code"]) == (3, -32600)
    writer.write(modern(4, "tools/list"))
    assert json.loads(await asyncio.wait_for(reader.readline(), 10))["id"] == 4
    writer.close()


async def test_one_megabyte_of_argument_reaches_the_tool(server: Served) -> None:
    async with server.client() as client:
        text, is_error = await said(client, "echo", {"agent": "x" * 1_000_000})
    assert not is_error
    assert len(text) > 1_000_000


async def test_a_door_that_reads_nothing_holds_up_no_other(server: Served) -> None:
    _, stuck = await server.raw()
    for number in range(2000):
        stuck.write(modern(number, "tools/list"))
    async with server.client() as client:
        assert (await said(client, "echo", {"agent": "a"}))[1] is False
    stuck.transport.abort()


@pytest.mark.parametrize("hello", [b"\n", b"no JSON\n", b"[]\n", b'{"project": 5}\n', b'{"project": "here"}\n'])
async def test_a_client_without_a_proper_hello_is_turned_away_with_the_reason(server: Served, hello: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(str(server.path))
    writer.write(hello)
    answer = json.loads(await asyncio.wait_for(reader.readline(), 10))
    assert "hello" in answer["error"]
    assert await reader.read() == b""
    writer.close()


async def test_someone_who_only_looks_whether_anyone_listens_harms_nothing(server: Served) -> None:
    _, writer = await asyncio.open_unix_connection(str(server.path))
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    async with server.client() as client:
        assert (await said(client, "echo", {"agent": "a"}))[1] is False


async def test_a_door_of_another_build_hears_the_daemons_and_brings_no_account(server: Served) -> None:
    _, writer = await server.raw(build="0.0.1+old")
    writer.close()
    async with server.client() as client:
        await client.list_tools()
    assert len(server.greeted) == 1


async def test_a_connection_that_breaks_at_the_door_keeps_nobody_else_out(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = iter([ValueError("filedescriptor out of range in select()")])

    def refuse(link: socket.socket) -> tuple[str, str]:
        del link
        for error in broken:
            raise error
        return "", ""

    monkeypatch.setattr(server.doors, "_refuse", refuse)
    reader, writer = await asyncio.open_unix_connection(str(server.path))
    assert await reader.read() == b""
    writer.close()
    async with server.client() as client:
        assert (await client.list_tools()).tools


@pytest.mark.requirement("mcp:tools:snapshot", "mcp:errors:what-to-do-next")
@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("ehco", {}),
        ("echo", {"agnet": "a"}),
        ("echo", {"agent": 5, "limit": 0}),
        ("echo", {"agent": "a", "seconds": float("inf")}),
        ("lost", {}),
        ("broken", {}),
        ("foul", {}),
        ("echo", {"agent": "a"}),
    ],
)
async def test_an_agent_in_process_reads_the_same_answers_as_an_orchestrator_outside(
    bench: Bench, tool: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    async def decide(call: ToolCall) -> GateDecision:
        del call
        return Allow()

    spec = SessionSpec(
        agent_id="ag_1",
        agent_name="a",
        persona="scout",
        session_id="s",
        resume=False,
        cwd=tmp_path,
        folder=tmp_path,
        system_prompt="",
        environment={},
        decide=decide,
    )
    inside = tool_server("crew", bench.table(), spec)
    outside = render(bench.table(), caller=lambda _: Caller(project="/p", orchestrator="o", cwd="/p"), calls=Calls())
    async with Client(inside) as agent, Client(outside) as orchestrator:
        assert (await agent.list_tools()).tools == (await orchestrator.list_tools()).tools
        told = [await client.call_tool(tool, arguments) for client in (agent, orchestrator)]
    assert (told[0].is_error, told[0].content) == (told[1].is_error, told[1].content)
