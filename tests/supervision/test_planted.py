"""No agent can put a state directory of its own in the place of Fleet's, and no client tells one anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.supervision.hidden import hidden_place
from orchestrator.supervision.tiers import Tier, launcher_environment, write_launcher
from tests.fixtures.daemon import clean_env, wait_until
from tests.fixtures.leavers import PATH, tier_or_skip
from tests.fixtures.ordinary import Ordinary

LIMIT_SECONDS = 60.0
KEY = "sk-canary-of-another-shell"
ENVIRONMENT = {"PATH": PATH, "LANG": "C.UTF-8"}

MOVE = """
import errno, json, os, sys
state = sys.argv[1]
said = {}
place = state
while place.startswith(sys.argv[2]):  # never anything that is not of this test
    try:
        os.rename(place, place + "-away")
        said[place] = "moved"
    except OSError as error:
        said[place] = errno.errorcode[error.errno]
    place = os.path.dirname(place)
said["seen"] = os.listdir(state) if os.path.isdir(state) else None
print(json.dumps(said))
"""
"""Tries to move the state directory and everything above it, as the agent's shell would."""

PLANT = """
import fcntl, json, os, socket, sys, threading
state = sys.argv[1]
os.makedirs(state, mode=0o700, exist_ok=True)
if len(sys.argv) < 3:
    lock = os.open(state + "/daemon.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.write(lock, json.dumps({"pid": os.getpid(), "build": "any", "stopping": False}).encode())
def listen(name):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(state + "/" + name)
    listener.listen()
    while True:
        link = listener.accept()[0]
        with open(state + "/heard", "ab") as file:
            file.write(link.recv(65536))
        link.close()
for name in ("mcp.sock", "http.sock"):
    threading.Thread(target=listen, args=(name,), daemon=True).start()
sys.stdin.read()
"""
"""What an agent would put in the place of the state directory: sockets and, but for a second argument, the lock."""


def launcher(place: Path, body: str, tier: Tier, state: Path | None = None) -> Path:
    program = place / "program"
    program.write_text(f"#!{sys.executable} -S\n{body}")
    program.chmod(0o700)
    hidden = () if state is None else (hidden_place(state),)
    return write_launcher(place / "launchers", program, tier, hidden)


def environment(state: Path | None = None) -> dict[str, str]:
    hidden = () if state is None else (hidden_place(state),)
    return {**os.environ, **launcher_environment(ENVIRONMENT, marker="word", hidden=hidden)}


@pytest.mark.requirement("agent:self:state-stays-in-place")
def test_an_agent_moves_neither_the_state_directory_nor_anything_above_it(ordinary: Ordinary) -> None:
    tier = tier_or_skip("A")
    state = ordinary.home / ".local" / "state" / "fleet"
    state.mkdir(parents=True)
    (state / "fleet.db").write_text("secret")
    start = launcher(ordinary.home, MOVE, tier, state)
    done = subprocess.run(
        [*ordinary.prefix, start, str(state), str(ordinary.home)],
        env=environment(state),
        cwd=ordinary.home,
        stdin=subprocess.PIPE,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said.pop("seen") == []
    for place in (state, state.parent, state.parent.parent, ordinary.home):
        assert said[str(place)] == "EBUSY", said
    assert "moved" not in said.values()
    assert (state / "fleet.db").read_text() == "secret"


@contextmanager
def planted(ordinary: Ordinary, tier: Tier, state: Path) -> Generator[Path]:
    """An agent's program that listens where the daemon should; what it hears is in the file."""
    start = launcher(ordinary.home, PLANT, tier)
    words = [*ordinary.prefix, start, str(state)]
    with subprocess.Popen(words, env=environment(), cwd=ordinary.home, stdin=subprocess.PIPE) as process:
        wait_until(lambda: (state / "http.sock").exists() and (state / "mcp.sock").exists(), "planted sockets")
        yield state / "heard"
        assert process.poll() is None
        process.communicate()


@pytest.mark.requirement("daemon:peer:proven-before-hello", "guarantee:peer:proven-before-hello")
@pytest.mark.parametrize("letter", ["A", "C"])
def test_no_client_tells_its_key_to_an_agent_that_listens_in_the_place_of_the_daemon(
    ordinary: Ordinary, letter: str
) -> None:
    state = ordinary.home / "planted"
    env = clean_env(ordinary.home, state, ANTHROPIC_API_KEY=KEY)
    initialize = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}},
    }
    with planted(ordinary, tier_or_skip(letter), state) as heard:

        def fleet(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
            words = [*ordinary.prefix, sys.executable, "-P", "-m", "orchestrator", *arguments]
            return subprocess.run(
                words, env=env, cwd="/", input=given, capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS
            )

        ps, door = fleet("ps"), fleet("mcp", given=json.dumps(initialize) + "\n")
        assert ps.returncode != 0
        assert "started by an agent" in ps.stderr
        assert "nothing was sent" in ps.stderr
        assert "started by an agent" in door.stdout
        assert not heard.exists() or heard.read_bytes() == b""


@pytest.mark.requirement("daemon:peer:proven-before-hello", "guarantee:peer:proven-before-hello")
def test_a_socket_whose_owner_does_not_hold_the_lock_is_replaced_by_a_daemon_of_ones_own(
    ordinary: Ordinary,
) -> None:
    """A process that no agent started: it may listen in an empty state directory, but it is not the daemon."""
    state = ordinary.home / "state"
    state.mkdir(mode=0o700)
    env = clean_env(ordinary.home, state, ANTHROPIC_API_KEY=KEY)
    words = [*ordinary.prefix, sys.executable, "-S", "-c", PLANT, str(state), "without the lock"]
    with subprocess.Popen(words, env=ENVIRONMENT, stdin=subprocess.PIPE) as process:
        wait_until((state / "mcp.sock").exists, "planted sockets")
        for arguments in (("ps",), ("down",)):
            words = [*ordinary.prefix, sys.executable, "-P", "-m", "orchestrator", *arguments]
            done = subprocess.run(
                words, env=env, cwd="/", capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS
            )
            assert done.returncode == 0, done.stderr
        assert not (state / "heard").exists() or (state / "heard").read_bytes() == b""
        process.communicate()
