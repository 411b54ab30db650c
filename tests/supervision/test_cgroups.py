"""A session's cgroup is its own, never the daemon's; plain directories stand in for some."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from orchestrator.supervision import cgroups
from orchestrator.supervision.command import LaunchConfig, shell, start
from orchestrator.supervision.tiers import Tier
from tests.fixtures.leavers import PATH

HYBRID = Path("/sys/fs/cgroup/unified")
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.requirement("process:tier:shown"),
    pytest.mark.skipif(sys.platform != "linux", reason="cgroups are Linux'"),
]


async def test_a_process_that_has_not_joined_gives_no_cgroup_rather_than_the_daemons(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").touch()
    if not (own := cgroups.cgroup_of(os.getpid(), tmp_path)):
        pytest.skip("no cgroups of the unified kind")
    assert await cgroups.wait_joined(os.getpid(), "word", tmp_path, seconds=0.02) == ""
    below = tmp_path / "fleet-word"
    below.mkdir()
    (below / "cgroup.controllers").touch()
    if own == str(tmp_path):  # this process is at the top: so the stand-in has the name that is looked for
        assert await cgroups.wait_joined(os.getpid(), "word", below) == str(below)
        assert await cgroups.wait_joined(os.getpid(), "wor", below, seconds=0.02) == ""


async def test_a_command_is_known_by_the_cgroup_that_it_joins_and_not_by_the_one_it_starts_in(tmp_path: Path) -> None:
    mount = next((one for one in (cgroups.MOUNT, HYBRID) if cgroups.delegated_cgroup(one)), None)
    if mount is None:
        pytest.skip("no cgroup is delegated to this user")
    tier = Tier(
        letter="B", guarantee="", prefix=("/bin/sh", "-c", cgroups.JOIN_SCRIPT, str(cgroups.delegated_cgroup(mount)))
    )
    order = shell("cat; sleep 300", cwd=tmp_path, folder=tmp_path, environment={"PATH": PATH})
    marker = f"test{os.getpid()}"
    running = await start(LaunchConfig(folder=tmp_path / "launchers", tier=tier), order, marker)
    place = Path(await cgroups.wait_joined(running.pid, marker, mount))
    assert place.name == f"fleet-{marker}"
    cgroups.kill(place, mount)
    assert not place.exists()


def test_the_end_of_a_cgroup_is_never_that_of_the_caller(tmp_path: Path) -> None:
    other, above, mount = tmp_path / "fleet-other", tmp_path / "fleet-above", tmp_path / "fleet-above" / "mount"
    own = Path(cgroups.cgroup_of(os.getpid(), _unified(mount)))
    if own == Path():
        pytest.skip("no cgroups of the unified kind")
    own.mkdir(parents=True, exist_ok=True)
    other.mkdir()
    for place in (own, mount, above):
        cgroups.kill(place, mount)
        assert not (place / "cgroup.kill").exists()
    cgroups.kill(other, mount)
    assert (other / "cgroup.kill").read_text() == "1"


def _unified(mount: Path) -> Path:
    mount.mkdir(parents=True)
    (mount / "cgroup.controllers").touch()
    return mount
