"""What an agent or a careless user can do to the daemon's files and sockets without commanding it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from orchestrator.domain.turn import TurnStatus
from orchestrator.errors import FleetError
from orchestrator.fleet.briefing.handoff import SourceResult, write_inputs, write_result
from tests.fixtures.daemon import wait_until
from tests.fixtures.outpost import outpost

pytestmark = pytest.mark.slow
FLOOD = """
import socket, sys, time
held = []
for number in range(400):
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(1)
    try:
        link.connect(sys.argv[1 + number % 2])
    except OSError:
        continue
    held.append(link)
open("flooded", "w").close()
time.sleep(300)
"""
"""Opens connections and says nothing on them."""
FEW = 100


@pytest.mark.requirement("daemon:sockets:agents-hold-few")
def test_an_agent_that_opens_hundreds_of_connections_takes_them_from_nobody(tmp_path: Path) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="fleet-") as place,
        outpost(tmp_path, Path(place).resolve(), "C") as own,
    ):
        (own.project / "flood.py").write_text(FLOOD)
        sockets = f"{own.state}/http.sock {own.state}/mcp.sock"
        own.create("flood", f"run {sys.executable} -S flood.py {sockets}")
        wait_until((own.project / "flooded").exists, "the flood")
        wait_until(lambda: open_connections(own.state) < FEW, "an end of the agent's connections", seconds=5)
        assert own.ask("GET", "/v1/health")["working"] == 1
        own.ask("DELETE", "/v1/agents/flood")


def open_connections(state: Path) -> int:
    """Connections to the daemon's sockets, of the machine's list: the daemon shows its own to root only."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    return sum(line.endswith((f" {state}/http.sock", f" {state}/mcp.sock")) for line in lines)


@pytest.mark.requirement("daemon:sockets:owner-only")
def test_a_daemon_of_a_user_without_a_umask_leaves_nothing_that_others_can_read(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="fleet-") as place,
            outpost(tmp_path, Path(place).resolve(), "C") as own,
        ):
            own.state.chmod(0o755)  # which the daemon accepts: nobody else can write
            own.create("writer", "run touch made")
            assert own.outcome("writer")["status"] == "complete"
            own.create("reader", "run cat made")
            assert own.outcome("reader")["status"] == "complete"
            open_to_others = [path for path in reachable(own.state) if path.lstat().st_mode & 0o077]
            assert open_to_others == []
            made = stat.S_IMODE((own.project / "made").stat().st_mode)
            assert made == 0o666, "the umask of the user is the agent's"
    finally:
        os.umask(mask)


def reachable(folder: Path) -> Iterator[Path]:
    """What another user of the machine can come to."""
    for path in folder.iterdir():
        yield path
        if path.is_dir() and not path.is_symlink() and path.stat().st_mode & 0o011:
            yield from reachable(path)


SWAP = """
import os, shutil, sys
desk, outside, aside = sys.argv[1:]
while True:
    for place in (desk, os.path.dirname(desk), os.path.dirname(os.path.dirname(desk))):
        try:
            os.rename(place, aside)
            os.symlink(outside, place)
            os.write(1, b".")
            os.unlink(place)
            os.rename(aside, place)
        except OSError:  # Fleet was faster
            shutil.rmtree(aside, ignore_errors=True)
"""
"""Puts links in the place of an agent's desk and the folders above it, and writes a dot for each."""


@pytest.mark.requirement("agent:desk:no-way-out")
def test_a_desk_that_an_agent_swaps_for_a_link_all_the_time_never_leads_fleet_elsewhere(tmp_path: Path) -> None:
    project, outside, swapped = tmp_path / "project", tmp_path / "outside", tmp_path / "swapped"
    for place in (project, outside):
        place.mkdir()
    desk = project / ".fleet" / "agents" / "me"
    desk.mkdir(parents=True)
    source = SourceResult(agent="a", persona="scout", status=TurnStatus.COMPLETE, produces="plan", text="secret")
    tried = written = 0
    with swapped.open("wb") as dots:
        words = [sys.executable, "-S", "-c", SWAP, str(desk), str(outside), str(project / "aside")]
        attacker = subprocess.Popen(words, stdout=dots)
    try:
        wait_until(lambda: swapped.stat().st_size, "the first link")
        while tried < 400 or swapped.stat().st_size < 400:
            tried += 1
            with suppress(FleetError):
                write_inputs(desk, [source])
                write_result(desk, "plan", "secret")
                written += 1
        assert attacker.poll() is None
    finally:
        attacker.kill()
        attacker.wait()
    assert written, "some attempts must have come through"
    assert list(outside.iterdir()) == []
