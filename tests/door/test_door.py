"""The door as its client sees it: a real `fleet mcp` and the real daemon."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from orchestrator import paths
from orchestrator.domain.tool import CallContext, Caller, Json, Tool
from orchestrator.server.calls import Calls
from orchestrator.server.mcp.doors import DoorBackend, Doors
from orchestrator.server.mcp.server import render
from orchestrator.server.mcp.streamable import caller_anywhere
from tests.fixtures.daemon import DEADLINE_SECONDS, ROOT
from tests.fixtures.mcp_socket import door_backend
from tests.fixtures.raw_door import INITIALIZE, MODERN, Message, RawDoor, RawDoors, open_process, text_of

PERSONAS = "list_agents"
SIXTEEN_MIB = 16 << 20


@asynccontextmanager
async def served(tool: Tool, state: Path, build: str) -> AsyncGenerator[Doors]:
    """The daemon's own end of the doors' socket with this one tool, in this process."""
    calls = Calls()

    async def greet(caller: Caller) -> None:
        del caller

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(paths.socket_path(state, "mcp.sock")))
        paths.lock_path(state).write_text(json.dumps({"pid": os.getpid()}))
        listener.listen()
        listener.setblocking(False)
        server = render([tool], caller=caller_anywhere, calls=calls, log_file="")
        doors = Doors(listener, door_backend(server), build=build, calls=calls, greet=greet)
        doors.accept()
        yield doors
        await doors.aclose()
        paths.lock_path(state).unlink()


@pytest.mark.anyio
async def test_a_caller_is_greeted_before_its_tools_are_there_and_answered_once_they_are(tmp_path: Path) -> None:
    greeted = asyncio.Queue[Caller]()
    backend: asyncio.Future[DoorBackend] = asyncio.get_running_loop().create_future()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "mcp.sock"))
        listener.listen()
        doors = Doors(listener, backend, build="b", calls=Calls(), greet=greeted.put)
        doors.accept()
        await doors.wait_greeted(0)
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "mcp.sock"))
        writer.write(json.dumps({"build": "b", "project": "/project"}).encode() + b"\n")
        await doors.wait_greeted(60)
        assert (await greeted.get()).project == "/project"
        answer = asyncio.create_task(reader.readline())
        early, _ = await asyncio.wait({answer}, timeout=0.1)
        assert not early

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, caller: Caller) -> None:
            writer.write(caller.project.encode() + await reader.readline())

        backend.set_result(DoorBackend(echo, waits=("wait",)))
        assert json.loads(await answer) == {"build": "b", "pid": os.getpid(), "waits": ["wait"]}
        writer.write(b" says so\n")
        assert await reader.readline() == b"/project says so\n"
        writer.close()
        await doors.aclose()


@pytest.mark.anyio
async def test_a_door_that_leaves_while_it_waits_for_its_tools_takes_nothing_from_the_next(tmp_path: Path) -> None:
    backend: asyncio.Future[DoorBackend] = asyncio.get_running_loop().create_future()
    greeted = asyncio.Queue[Caller]()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "mcp.sock"))
        listener.listen()
        doors = Doors(listener, backend, build="b", calls=Calls(), greet=greeted.put)
        doors.accept()
        _, writer = await asyncio.open_unix_connection(str(tmp_path / "mcp.sock"))
        writer.write(json.dumps({"build": "b", "project": "/project"}).encode() + b"\n")
        await greeted.get()
        writer.close()
        await doors.aclose()  # cancels what waits
    assert not backend.cancelled()


def starts(doors: RawDoors) -> int:
    return doors.daemon.events().count("daemon started")


def freeze_in_mid_call(doors: RawDoors, door: RawDoor, era: Message = MODERN) -> int:
    """Let the daemon hold a call that it never answers; return the call's id."""
    os.kill(doors.daemon.pid, signal.SIGSTOP)
    return door.post_tool(PERSONAS, era=era)


@pytest.mark.requirement("door:daemon:started")
def test_a_door_starts_the_daemon_and_offers_its_tools(open_door: RawDoors) -> None:
    assert not paths.lock_path(open_door.state).exists()
    names = open_door().tool_names()
    assert {"create_agent", "wait_for_agents", "delete_all_agents"} <= set(names)
    assert starts(open_door) == 1
    assert os.getsid(open_door.daemon.pid) == open_door.daemon.pid


@pytest.mark.requirement("door:concurrency:many-at-once")
def test_ten_doors_at_once_start_one_daemon(open_door: RawDoors) -> None:
    doors = [open_door() for _ in range(10)]
    ids = [door.post("tools/list") for door in doors]
    for door, request in zip(doors, ids, strict=True):
        assert door.answer(request)["result"]["tools"]
    assert starts(open_door) == 1


def test_ten_doors_at_once_replace_a_daemon_that_was_killed(open_door: RawDoors) -> None:
    doors = [open_door() for _ in range(10)]
    for door in doors:
        door.tool_names()
    first = open_door.daemon.pid
    os.kill(first, signal.SIGKILL)
    ids = [door.post_tool(PERSONAS) for door in doors]
    for door, request in zip(doors, ids, strict=True):
        assert "scout" in text_of(door.answer(request))
    assert starts(open_door) == 2
    assert open_door.daemon.pid != first


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_call_that_its_daemon_did_not_live_to_answer_is_answered_by_the_next(
    open_door: RawDoors, number: signal.Signals
) -> None:
    door = open_door()
    door.tool_names()
    first = open_door.daemon.pid
    request = freeze_in_mid_call(open_door, door)
    os.kill(first, number)
    os.kill(first, signal.SIGCONT)
    assert "scout" in text_of(door.answer(request))
    assert door.process.poll() is None


def test_a_client_of_the_older_era_goes_on_through_a_restart_of_the_daemon(open_door: RawDoors) -> None:
    door = open_door()
    assert door.call("initialize", INITIALIZE, era={})["result"]["protocolVersion"] == "2025-11-25"
    door.send(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
    assert "scout" in door.tool(PERSONAS, era={})
    request = freeze_in_mid_call(open_door, door, era={})
    os.kill(open_door.daemon.pid, signal.SIGKILL)
    assert "scout" in text_of(door.answer(request))  # `answer` fails if the repeated `initialize` shows
    assert "scout" in door.tool(PERSONAS, era={})


def test_an_initialize_that_was_refused_is_not_repeated(open_door: RawDoors) -> None:
    door = open_door()
    door.tool_names()
    assert "error" in door.call("initialize", INITIALIZE, era={})
    request = freeze_in_mid_call(open_door, door)
    os.kill(open_door.daemon.pid, signal.SIGKILL)
    assert "scout" in text_of(door.answer(request))  # in the older era this daemon would refuse it


def test_a_cancelled_call_is_not_sent_again(open_door: RawDoors) -> None:
    door = open_door()
    door.tool_names()
    cancelled = freeze_in_mid_call(open_door, door)
    notice = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": cancelled}}
    door.send(json.dumps(notice).encode() + b"\n")
    request = door.post_tool(PERSONAS)
    os.kill(open_door.daemon.pid, signal.SIGKILL)
    assert "scout" in text_of(door.answer(request))  # `answer` fails on an answer to the cancelled one
    assert door.leave() == 0
    assert door.buffer == b""


def impatient(doors: RawDoors) -> RawDoor:
    """A door like any other, but for how long it lets a silent daemon be."""
    code = "from orchestrator import door; door.ANSWER_SECONDS = 1.0; door.main([])"
    doors.opened.append(open_process((sys.executable, "-c", code), doors.env, doors.project))
    return doors.opened[-1]


@pytest.mark.requirement("fault:clock:survived")
def test_a_call_of_a_stopped_daemon_is_given_up_with_what_to_do_while_a_wait_goes_on(open_door: RawDoors) -> None:
    door = impatient(open_door)
    door.tool_names()
    os.kill(open_door.daemon.pid, signal.SIGSTOP)
    wait = door.post_tool("wait_for_agents")
    given_up = door.answer(door.post_tool("get_agent_status"))  # `answer` fails if the older one came first
    assert given_up["result"]["isError"]
    for part in ("does not answer", "before you repeat it", "get_agent_status", "fleet doctor"):
        assert part in text_of(given_up)
    os.kill(open_door.daemon.pid, signal.SIGCONT)
    assert "result" in door.answer(wait)
    assert "scout" in door.tool(PERSONAS)  # `answer` fails if the late answer shows


@pytest.mark.requirement("fault:clock:survived")
def test_a_call_that_was_given_up_is_not_sent_to_the_next_daemon(open_door: RawDoors) -> None:
    door = impatient(open_door)
    door.tool_names()
    os.kill(open_door.daemon.pid, signal.SIGSTOP)
    created = door.answer(door.post_tool("create_agent", {"name": "late", "persona": "scout", "task": "look"}))
    assert created["result"]["isError"]
    os.kill(open_door.daemon.pid, signal.SIGKILL)
    assert "late" not in door.tool("get_agent_status")


@pytest.mark.requirement("door:death:harms-no-agent")
def test_a_door_that_dies_in_mid_call_harms_neither_daemon_nor_other_doors(open_door: RawDoors) -> None:
    other, dying = open_door(), open_door()
    other.tool_names()
    pid = open_door.daemon.pid
    for _ in range(50):
        dying.post_tool(PERSONAS)
    dying.kill()
    assert "scout" in other.tool(PERSONAS)
    assert open_door.daemon.pid == pid
    assert starts(open_door) == 1


MALFORMED = {
    "not JSON": (b"{broken", None),
    "a batch": (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', None),
    "a bare number": (b"5", None),
    "no UTF-8": (b"\xff\xfe{}", None),
    "nested without end": (b"[" * 100_000, None),
    "no method": (b'{"jsonrpc":"2.0","id":901}', 901),
    "no version": (b'{"id":902,"method":"tools/list"}', 902),
    "params that are no object": (b'{"jsonrpc":"2.0","id":903,"method":"tools/list","params":[1]}', 903),
    "a method that is no text": (b'{"jsonrpc":"2.0","id":904,"method":4}', 904),
    "an id that is no id": (b'{"jsonrpc":"2.0","id":[1],"method":"tools/list"}', None),
    "half a character": (b'{"jsonrpc":"2.0","id":905,"method":"tools/call","params":{"name":"\\ud800"}}', 905),
    "not a number": (b'{"jsonrpc":"2.0","id":906,"method":"tools/call","params":{"x":NaN}}', None),
}


def test_every_malformed_line_is_answered_and_the_door_goes_on(open_door: RawDoors) -> None:
    door = open_door()
    for what, (line, request) in MALFORMED.items():
        door.send(line + b"\n")
        answer = door.receive()
        assert answer["id"] == request, what
        assert answer["error"]["code"] in {-32700, -32600}, what
        assert answer["error"]["message"], what
    door.send(b"\n\r\n  \n")
    assert "scout" in door.tool(PERSONAS)


def test_a_line_that_is_too_long_is_refused_by_its_id_and_shorter_ones_pass(open_door: RawDoors) -> None:
    door = open_door()
    answer = door.answer(door.post_tool(PERSONAS, {"capability": "x" * SIXTEEN_MIB}))
    assert str(SIXTEEN_MIB) in answer["error"]["message"]
    assert door.answer(door.post_tool(PERSONAS, {"capability": "x" * (1 << 20)}))["result"]
    assert "scout" in door.tool(PERSONAS)


def test_a_last_line_without_its_end_is_answered_before_the_door_leaves(open_door: RawDoors) -> None:
    open_door().tool_names()  # the daemon runs: a door that leaves does not wait for long
    door = open_door()
    params: Message = {"name": PERSONAS, "arguments": {}, **MODERN}
    door.send(json.dumps({"jsonrpc": "2.0", "id": 77, "method": "tools/call", "params": params}).encode())
    assert door.process.stdin is not None
    door.process.stdin.close()
    assert "scout" in text_of(door.answer(77))
    assert door.process.wait(DEADLINE_SECONDS) == 0


@pytest.mark.requirement("door:build:mismatch-named")
@pytest.mark.parametrize("era", [MODERN, {}], ids=["modern", "legacy"])
def test_a_daemon_of_another_build_is_named_with_the_command_that_replaces_it(
    open_door: RawDoors, tmp_path: Path, era: Message
) -> None:
    mine = open_door()
    mine.tool_names()
    shutil.copytree(open_door.package / "orchestrator", tmp_path / "other" / "orchestrator")
    with (tmp_path / "other" / "orchestrator" / "__init__.py").open("a") as file:
        file.write('VERSION = "99.0"\n')
    other = open_door(PYTHONPATH=str(tmp_path / "other"))
    if not era:
        assert "99.0+" in other.call("initialize", INITIALIZE, era={})["result"]["instructions"]
    (tool,) = other.call("tools/list", era=era)["result"]["tools"]
    assert tool["name"] == "fleet_other_build"
    answer = other.answer(other.post_tool(tool["name"], era=era))
    assert answer["result"]["isError"]
    for part in ("99.0+", open_door.build, f"pid {open_door.daemon.pid}", "fleet down --interrupt && fleet up"):
        assert part in text_of(answer)
    assert text_of(answer) == tool["description"]
    assert "error" in other.call("resources/list", era=era)
    assert other.process.poll() is None
    assert "scout" in mine.tool(PERSONAS)
    assert starts(open_door) == 1


def test_a_daemon_that_cannot_start_is_explained_with_its_last_words(open_door: RawDoors) -> None:
    door = open_door(FLEET_IDLE_EXIT_SECONDS="soon")
    assert door.tool_names() == ["fleet_not_running"]
    text = door.tool("create_agent")
    assert "exit code 2" in text
    assert "FLEET_IDLE_EXIT_SECONDS='soon'" in text
    assert str(open_door.daemon.log) in text


def test_a_daemon_that_fails_behind_its_open_sockets_is_explained_too(open_door: RawDoors) -> None:
    door = open_door(AGENT_MAX_CONCURRENT="many")
    assert door.tool_names() == ["fleet_not_running"]
    text = door.tool("create_agent")
    assert "exit code 2" in text
    assert "AGENT_MAX_CONCURRENT" in text


def test_a_daemon_that_cannot_start_again_fails_the_call_and_the_next_call_tries_once_more(open_door: RawDoors) -> None:
    door = open_door()
    door.tool_names()
    request = freeze_in_mid_call(open_door, door)
    lock = paths.start_lock_path(open_door.state)
    lock.unlink()
    lock.mkdir()
    os.kill(open_door.daemon.pid, signal.SIGKILL)
    failed = door.answer(request)
    assert failed["result"]["isError"]
    assert "does not start" in text_of(failed)
    lock.rmdir()
    assert "scout" in door.tool(PERSONAS)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_state_directory_that_others_can_write_is_refused_with_what_to_do(open_door: RawDoors, mode: int) -> None:
    open_door.state.chmod(mode)
    door = open_door()
    assert door.tool_names() == ["fleet_not_running"]
    assert f"chmod go-rwx '{open_door.state}'" in door.tool("create_agent")
    assert not list(open_door.state.iterdir())
    open_door.state.chmod(0o700)


@pytest.mark.anyio
async def test_a_call_that_three_daemons_ended_with_is_given_up(open_door: RawDoors) -> None:
    """The door is real, so is the daemon's end of the socket; only its tool is of this test, one that never ends."""
    begun = asyncio.Event()

    async def sleep(call: CallContext, args: Json) -> str:
        del call, args
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    tool = Tool(name="sleep", description="Wait.", schema={"type": "object"}, call=sleep, waits=True)
    async with served(tool, open_door.state, open_door.build) as doors:
        door = open_door()
        request = await anyio.to_thread.run_sync(door.post_tool, "sleep")
        for _ in range(3):
            with anyio.fail_after(DEADLINE_SECONDS):
                await begun.wait()
            begun.clear()
            await doors.aclose()
            doors.accept()
        answer = await anyio.to_thread.run_sync(door.answer, request)
        assert "three times" in answer["error"]["message"]
        assert await anyio.to_thread.run_sync(door.tool_names) == ["sleep"]


@pytest.mark.requirement("door:reconnect:through-restart", "guarantee:idempotency:never-runs-twice")
@pytest.mark.anyio
async def test_a_call_that_is_sent_again_has_its_first_key_though_its_host_gives_none_and_no_other_call_has_it(
    open_door: RawDoors,
) -> None:
    keys: list[str | None] = []
    begun = asyncio.Event()

    async def work(call: CallContext, args: Json) -> str:
        del args
        keys.append(call.key)
        begun.set()
        if len(keys) == 1:
            await asyncio.Event().wait()
        return "done"

    tool = Tool(name="work", description="Work.", schema={"type": "object"}, call=work, waits=True)
    async with served(tool, open_door.state, open_door.build) as doors:
        door, other = open_door(), open_door()
        request = await anyio.to_thread.run_sync(door.post_tool, "work")
        with anyio.fail_after(DEADLINE_SECONDS):
            await begun.wait()
        await doors.aclose()
        doors.accept()
        assert "done" in text_of(await anyio.to_thread.run_sync(door.answer, request))
        for one in (door, other):
            assert await anyio.to_thread.run_sync(one.tool, "work") == "done"
    first, again, next_call, of_another_door = keys
    assert first is not None
    assert first == again
    assert len({first, next_call, of_another_door}) == 3


@pytest.mark.requirement("door:imports:standard-library")
def test_the_door_loads_nothing_but_the_standard_library() -> None:
    code = (
        "import sys; sys.argv = ['fleet', 'mcp', '--help']; from orchestrator.__main__ import main; main(); "
        "print('LOADED', *sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    loaded = set(ran.stdout.partition("LOADED ")[2].split())
    ours = {name for name in loaded if name.partition(".")[0] == "orchestrator"}
    assert ours == {
        "orchestrator",
        *(
            f"orchestrator.{name}"
            for name in (
                "__main__",
                "daemon_link",
                "door",
                "launch",
                "pass_env",
                "paths",
                "peer_proof",
                "presence",
                "fallback_server",
            )
        ),
    }
    assert {name.partition(".")[0] for name in loaded - ours} <= sys.stdlib_module_names | {"__main__"}
    assert loaded.isdisjoint({"asyncio", "subprocess", "typing"})


def test_the_door_explains_itself(run_fleet: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    asked = run_fleet("mcp", "--help")
    assert (asked.returncode, asked.stderr) == (0, "")
    assert "Usage: fleet mcp" in asked.stdout
    wrong = run_fleet("mcp", "now")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "takes no arguments" in wrong.stderr
