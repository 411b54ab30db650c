"""A daemon whose state directory is moved away says where it is, ends, and leaves its turns to the next one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from orchestrator import paths
from tests.fixtures.daemon import wait_until
from tests.fixtures.outpost import Outpost, outpost


@pytest.mark.slow
@pytest.mark.requirement("daemon:state:moved-is-said", "guarantee:peer:proven-before-hello")
def test_a_daemon_whose_state_directory_is_moved_says_so_and_its_turn_goes_on_when_it_is_back(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="fleet-") as place:
        state, away = Path(place).resolve() / "state", Path(place).resolve() / "away"
        state.mkdir(mode=0o700)
        with outpost(tmp_path, state, "C") as own:
            go = own.project / "go"
            own.create("patient", f"run touch begun; until [ -e {go} ]; do sleep 0.1; done; echo patience")
            wait_until((own.project / "begun").exists, "a shell at work")
            state.rename(away)
            state.mkdir(mode=0o700)
            wait_until(lambda: not own.daemons[0].is_alive(), "the end of the daemon")
            said = f"the state directory {state} was moved to {away}"
            assert said in (away / "daemon.log").read_text()
            assert str(away) in (paths.moved_note(state) or ())
            ps = fleet(own, "ps")
            assert f"found its own at {away}" in ps.stderr
            fleet(own, "down")
            shutil.rmtree(state)
            away.rename(state)
            own.start()
            go.touch()
            outcome = own.outcome("patient")
            assert outcome["status"] == "complete", outcome
            assert paths.moved_note(state) is None


def fleet(own: Outpost, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "orchestrator", *arguments]
    return subprocess.run(
        words, env=dict(own.env), cwd=own.project, capture_output=True, text=True, check=True, timeout=60
    )
