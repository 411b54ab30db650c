"""An agent cannot be its own orchestrator: it does not see the sockets, and they refuse it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from orchestrator.supervision import peers
from tests.fixtures.daemon import ROOT, wait_until
from tests.fixtures.leavers import skip, tier_or_skip
from tests.fixtures.outpost import Outpost, outpost

pytestmark = pytest.mark.requirement("agent:self:never-own-orchestrator")
LAST_FOR_SELECT, MANY = 1023, 2048

ASK = """
import json, os, socket, sys
where, hello = sys.argv[1], sys.argv[2]
def ask(name, words):
    link = socket.socket(socket.AF_UNIX)
    try:
        link.connect(os.path.join(where, name))
        link.sendall(words.encode())
        with link.makefile() as answer:
            return answer.readline() if name == "mcp.sock" else answer.read()
    except OSError as error:
        return f"{type(error).__name__}: {error}"
health = "GET /v1/health HTTP/1.1\\r\\nhost: fleet\\r\\nconnection: close\\r\\n\\r\\n"
print(json.dumps([ask("mcp.sock", hello + "\\n"), ask("http.sock", health)]))
"""

FLEE = """
import os, subprocess, sys, time
place = sys.argv[1]
if "fled" in os.environ:
    if os.fork(): os._exit(0)
    os.setsid()
    if os.fork(): os._exit(0)
    for descriptor in (0, 1, 2): os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
    os.execve(sys.executable, [sys.executable, "-S", *sys.argv], {})
open(place + "/fled", "w").close()
for _ in range(6000):
    if os.path.exists(place + "/go"): break
    time.sleep(0.02)
else: sys.exit("nobody came")
answer = subprocess.run(sys.argv[2:], capture_output=True).stdout
with open(place + "/answer", "wb") as file: file.write(answer)
os.rename(place + "/answer", place + "/fugitive.json")
"""
"""Detached, without environment, it waits for its shim's end and then does what it was told."""


@pytest.fixture(scope="module", params=["A", "C"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Outpost]]:
    """A tier, and a daemon in it."""
    tier_or_skip(request.param)
    root = tmp_path_factory.mktemp("outpost")
    with (
        tempfile.TemporaryDirectory(prefix="fleet-") as state,
        outpost(root, Path(state).resolve(), request.param) as own,
    ):
        yield request.param, own


def asking(own: Outpost, where: Path) -> list[str]:
    """The words that ask both sockets of a directory for something."""
    script = own.project / "ask.py"
    script.write_text(ASK)
    return [sys.executable, "-S", str(script), str(where), json.dumps(own.daemon.hello(own.project))]


def from_the_shell_of_an_agent(own: Outpost, where: Path, name: str) -> list[str]:
    words = asking(own, where)
    script = own.project / f"{name}.sh"
    script.write_text("".join(f"'{word}' " for word in words) + f"> '{own.project}/{name}.json'\n")
    own.create(name, f"run sh {script}")
    assert own.outcome(name)["status"] == "complete"
    return json.loads((own.project / f"{name}.json").read_text())


def test_an_agent_that_calls_its_own_fleet_is_refused(shared: tuple[str, Outpost]) -> None:
    tier, own = shared
    mcp, http = from_the_shell_of_an_agent(own, own.state, "rebel")
    if tier == "A":
        assert mcp == http == "FileNotFoundError: [Errno 2] No such file or directory"
        return
    assert "cannot command the fleet that runs it" in json.loads(mcp)["error"]
    assert http.startswith("HTTP/1.1 403 ")
    assert json.loads(http.partition("\n\n")[2])["type"] == "urn:fleet:problem:RefusedError"


def test_so_is_one_that_finds_the_sockets_elsewhere(shared: tuple[str, Outpost]) -> None:
    _, own = shared
    elsewhere = own.project / "found"
    elsewhere.mkdir()
    for name in ("mcp.sock", "http.sock"):
        os.link(own.state / name, elsewhere / name)
    mcp, http = from_the_shell_of_an_agent(own, elsewhere, "finder")
    assert "cannot command the fleet that runs it" in json.loads(mcp)["error"]
    assert http.startswith("HTTP/1.1 403 ")


def test_everybody_else_is_served_also_from_a_pid_namespace_of_their_own(shared: tuple[str, Outpost]) -> None:
    tier, own = shared
    boxes: list[list[str]] = [[]]
    if tier == "A":
        boxes.append(["bwrap", "--dev-bind", "/", "/", "--unshare-pid", "--proc", "/proc", "--"])
    for box in boxes:
        done = subprocess.run([*box, *asking(own, own.state)], capture_output=True, text=True, check=True)
        mcp, http = json.loads(done.stdout)
        assert json.loads(mcp)["pid"] == own.daemon.pid
        assert http.startswith("HTTP/1.1 200 ")


@pytest.mark.requirement("agent:self:sockets-of-others-hidden")
def test_an_agent_gives_no_command_to_a_terminal_of_its_user(tmp_path: Path) -> None:
    tier_or_skip("A")
    if shutil.which("tmux") is None:
        skip("there is no tmux")
    short = partial(tempfile.TemporaryDirectory, prefix="fleet-")  # the names of sockets are
    with short() as state, short() as terminals:
        tmux = ["env", f"TMUX_TMPDIR={terminals}", "tmux", "-f", "/dev/null"]
        with outpost(tmp_path, Path(state).resolve(), "A", TMUX_TMPDIR=terminals) as own:
            subprocess.run([*tmux, "new-session", "-d", "-s", "mine", "sleep 60"], check=True)
            try:
                words = " ".join(tmux)
                own.create(
                    "typist",
                    f"run {words} send-keys -t mine ^C 2>&1; {words} new-session -d -s own;"
                    f" {words} ls; {words} kill-server",
                )
                outcome = own.outcome("typist")
                assert outcome["status"] == "complete", str(outcome)
                said = outcome["result"]
                assert "error connecting" in said, said
                assert "own: 1 windows" in said, "it has a tmux of its own"
                assert "mine" not in said
                listed = subprocess.run([*tmux, "ls", "-F", "#S"], capture_output=True, text=True, check=True)
                assert listed.stdout == "mine\n"
            finally:
                subprocess.run([*tmux, "kill-server"], check=True)


def test_the_command_line_in_an_agents_shell_says_why_it_does_not_work(shared: tuple[str, Outpost]) -> None:
    tier, own = shared
    command = f"env FLEET_STATE={own.state} PYTHONPATH={ROOT} {sys.executable} -m orchestrator ps > ps.txt 2>&1 || true"
    own.create("commander", f"run {command}")
    assert own.outcome("commander")["status"] == "complete"
    said = (own.project / "ps.txt").read_text()
    assert ("Read-only file system" if tier == "A" else "cannot command the fleet that runs it") in said


def test_an_agent_sees_of_the_state_directory_its_own_folder_where_files_can_be_hidden(
    shared: tuple[str, Outpost],
) -> None:
    tier, own = shared
    agent = own.create("reader", f"run find {own.state} -maxdepth 2 > seen.txt")
    assert own.outcome("reader")["status"] == "complete"
    seen = (own.project / "seen.txt").read_text().split()
    assert (seen == [str(own.state), f"{own.state}/agents", f"{own.state}/agents/{agent}"]) is (tier == "A")
    assert own.ask("GET", "/v1/health")["supervision"].startswith(tier)


@pytest.mark.requirement("daemon:memory:opaque")
def test_no_process_of_the_same_user_reads_the_memory_of_the_daemon_or_takes_its_descriptors(
    shared: tuple[str, Outpost],
) -> None:
    _, own = shared
    setpriv = shutil.which("setpriv")
    if os.geteuid() == 0 and setpriv is None:
        pytest.skip("root may read everything, and only setpriv can take that away")
    box = [setpriv, "--bounding-set=-sys_ptrace", "--"] if os.geteuid() == 0 and setpriv else []
    for name in ("mem", "fd/0"):
        words = [*box, sys.executable, "-S", "-c", "open(__import__('sys').argv[1]).close()"]
        done = subprocess.run([*words, f"/proc/{own.daemon.pid}/{name}"], capture_output=True, text=True, check=False)
        assert "PermissionError" in done.stderr, name


def test_an_agent_is_known_whatever_number_its_connection_has() -> None:
    few, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < MANY:
        pytest.skip("so many descriptors are not allowed here")
    asks = "import socket, sys; link = socket.socket(socket.AF_UNIX); link.connect(sys.argv[1]); sys.stdin.read()"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(few, MANY), most))
    with ExitStack() as held:
        held.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (few, most))
        place = held.enter_context(tempfile.TemporaryDirectory(prefix="fleet-"))
        listener = held.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(f"{place}/s")
        listener.listen()
        child = subprocess.Popen([sys.executable, "-S", "-c", asks, f"{place}/s"], stdin=subprocess.PIPE)
        held.callback(child.communicate)
        link = held.enter_context(listener.accept()[0])
        while (handle := os.open(os.devnull, os.O_RDONLY)) < LAST_FOR_SELECT:
            held.callback(os.close, handle)
        held.callback(os.close, handle)
        assert peers.refusal(link) == (peers.AGENT, peers.AGENT_HINT)


def test_who_cleared_its_environment_and_lost_its_shim_can_connect_in_tier_c_and_is_gone_in_tier_a(
    shared: tuple[str, Outpost],
) -> None:
    """Tier C says so: there an agent is kept from its fleet as long as its shim lives, not if it kills it."""
    tier, own = shared
    escape, script = own.project / "flee.py", own.project / "flee.sh"
    escape.write_text(FLEE)
    words = [sys.executable, "-S", str(escape), str(own.project), *asking(own, own.state)]
    script.write_text("fled=yes " + " ".join(f"'{word}'" for word in words) + "\n")
    agent = own.create("fugitive", f"leave sh {script}")
    wait_until((own.project / "fled").exists, "the fugitive")
    own.process_of(agent, "shim").kill()
    own.ask("DELETE", "/v1/agents/fugitive")
    if tier == "A":
        wait_until(lambda: not any(str(escape) in cmdline(one) for one in psutil.process_iter()), "its end")
        return
    (own.project / "go").touch()
    answer = own.project / "fugitive.json"
    wait_until(answer.exists, "its answer")
    mcp, http = json.loads(answer.read_text())
    assert json.loads(mcp)["pid"] == own.daemon.pid
    assert http.startswith("HTTP/1.1 200 ")


def cmdline(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def test_an_agent_that_puts_a_link_in_place_of_its_directory_opens_nothing(shared: tuple[str, Outpost]) -> None:
    _, own = shared
    place = own.project / "moved"
    place.mkdir()
    task = f"run mv {place} {place}-away && ln -s {own.state}/agents {place}"
    agent = own.ask("POST", "/v1/agents", {"name": "mover", "task": task, "cwd": "moved"})["agent"]["id"]
    assert own.outcome("mover")["status"] == "complete"
    own.ask("POST", "/v1/agents/mover/turns", {"task": "run find . -maxdepth 1 > ../found.txt"})
    turn = own.outcome("mover")
    assert (turn["status"], turn["reason"]) == ("failed", "start")
    assert "a link is in its place" in turn["detail"]
    assert not (own.project / "found.txt").exists()
    assert (own.state / "agents" / agent).is_dir()
