"""No process is left behind: seven kinds of leavers, started by the real `claude`'s shell, and every kind of end."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.daemon import wait_until
from tests.fixtures.leavers import Leavers, tier_or_skip
from tests.fixtures.outpost import Outpost, outpost
from tests.supervision.leaver import ROOTLESS

pytestmark = pytest.mark.requirement("process:leavers:seven-kinds-die", "guarantee:processes:none-left-after-stop")


@pytest.fixture(scope="module", params=["A", "C"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outpost]:
    """One daemon per tier, which the ends that it survives share."""
    tier_or_skip(request.param)
    root = tmp_path_factory.mktemp("outpost")
    with (
        tempfile.TemporaryDirectory(prefix="fleet-") as state,
        outpost(root, Path(state).resolve(), request.param, FLEET_MAX_RESUMES="0") as own,
    ):
        yield own


def tier_of(own: Outpost) -> str:
    return str(own.ask("GET", "/v1/health")["supervision"])[0]


@pytest.mark.parametrize("end", ["interrupt", "delete", "claude", "shim", "first"])
def test_nothing_is_left_however_a_session_ends(end: str, shared: Outpost, leavers: Leavers) -> None:
    agent = shared.create(end, f"leave {leavers.command}")
    leavers.wait_all()
    left: tuple[str, ...] = ()
    if end == "interrupt":
        shared.ask("POST", f"/v1/agents/{end}/interrupt", {})
    elif end == "delete":
        shared.ask("DELETE", f"/v1/agents/{end}")
        assert not leavers.alive(), "delete returns when nothing is left"
    else:
        shared.process_of(agent, end).kill()
        is_shim = end == "shim" or (end == "first" and tier_of(shared) == "C")
        left = ROOTLESS if is_shim and tier_of(shared) == "C" else ()  # what tier C says that it cannot do
    leavers.wait_gone(but=left)
    assert leavers.alive() <= set(left)
    wait_until(lambda: leavers.alive() == set(left), "the hearts of those that nobody could end")
    if end != "delete":
        assert shared.outcome(end)["status"] in {"interrupted", "failed"}
    ended = "SELECT count(*) FROM process WHERE agent_id = ? AND ended_at IS NULL"
    wait_until(lambda: shared.rows(ended, agent) == [(0,)], "the end of the session is written")


@pytest.mark.parametrize("tier", ["A", "C"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_however_the_daemon_ends(
    number: signal.Signals, tier: str, tmp_path: Path, state: Path, leavers: Leavers
) -> None:
    tier_or_skip(tier)
    with outpost(tmp_path, state, tier) as own:
        own.create("left", f"leave {leavers.command}")
        leavers.wait_all()
        own.daemon.stop(number)
        leavers.wait_gone()


@pytest.mark.parametrize("tier", ["A", "C"])
def test_the_next_daemon_ends_what_a_killed_daemon_and_a_killed_shim_left(
    tier: str, tmp_path: Path, state: Path, leavers: Leavers
) -> None:
    tier_or_skip(tier)
    with outpost(tmp_path, state, tier) as own:
        agent = own.create("left", f"leave {leavers.command}")
        leavers.wait_all()
        shim = own.process_of(agent, "shim")
        assert own.daemon.process is not None
        own.daemon.process.send_signal(signal.SIGSTOP)  # so that it cannot see the shim die
        shim.kill()
        own.daemon.stop(signal.SIGKILL)
        own.start()
        leavers.wait_gone(but=ROOTLESS if tier == "C" else ())
        assert own.rows("SELECT count(*) FROM process WHERE ended_at IS NULL") == [(0,)]
