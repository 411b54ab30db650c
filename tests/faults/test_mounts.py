"""A full disk and a read-only home, as the kernel presents them, in a mount namespace of the daemon's own.

Where namespaces are forbidden these tests are skipped; `test_store_faults.py` shows the same with what needs none.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from orchestrator import rehearsal
from tests.faults.test_store_faults import SCRIPT, Scene, one_sentence
from tests.fixtures.daemon import Daemon, clean_env, wait_until
from tests.fixtures.leavers import skip

pytestmark = pytest.mark.timeout(180)
APART = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "--user", "--map-root-user", "--mount")
DISK_BYTES = 16 << 20


def _try(mounts: str) -> None:
    """Skip the test where these mounts cannot be made."""
    try:
        done = subprocess.run([*APART, "sh", "-c", mounts], capture_output=True, text=True, check=False)
    except OSError as error:
        skip(f"no mount namespaces here: {error}")
    if done.returncode:
        skip(f"no mount namespaces here: {done.stderr.strip()}")


@contextmanager
def staged(root: Path, state: Path, mounts: str, script: Path = SCRIPT) -> Generator[Scene]:
    """A fleet whose daemon alone sees these mounts; its state directory is looked at through its eyes."""
    project = root / "project"
    project.mkdir()
    _try(mounts)
    command = f"{mounts} && exec {shlex.quote(sys.executable)} -m orchestrator daemon >>{state}/daemon.log 2>&1"
    env = clean_env(root / "home", state, FLEET_REHEARSAL=script.stem, FLEET_IDLE_EXIT_SECONDS="0")
    with rehearsal.start(script, log=root / "log.jsonl") as model:
        process = subprocess.Popen([*APART, "sh", "-c", command], env=env, cwd="/", start_new_session=True)
        seen = Path(f"/proc/{process.pid}/root{state}")
        scene = Scene(root, seen, project.resolve(), model, Daemon(seen, env, process))
        try:
            wait_until(scene.daemon.is_serving, "a serving daemon")
            yield scene
        finally:
            scene.daemon.stop()


@contextmanager
def full(disk: Path) -> Generator[None]:
    """No byte fits on the disk for the time of the block."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 12))
    assert os.statvfs(disk).f_bavail == 0
    try:
        yield
    finally:
        ballast.unlink()


@pytest.mark.requirement(
    "fault:store:survived", "guarantee:durability:ok-survives-any-crash", "guarantee:outcome:exactly-one-and-true"
)
def test_on_a_disk_without_room_work_is_refused_reading_goes_on_and_room_is_all_it_needs(
    tmp_path: Path, state: Path
) -> None:
    (tmp_path / "home").mkdir()
    with staged(tmp_path, state, f"mount -t tmpfs -o size={DISK_BYTES},mode=700 fleet {state}") as scene:
        scene.held("hold-one")
        with full(scene.state):
            for number in range(3):
                one_sentence(scene.try_create(f"too-late-{number}"), 503, "cannot be written", "free disk space")
            assert scene.view("hold-one")["status"] == "working"
        scene.release("hold-one")
        assert scene.place.outcome("hold-one")["status"] == "complete"
        assert scene.ends("hold-one") == ["turn.complete"]
        assert scene.try_create("in-time").is_success
        assert scene.place.outcome("in-time")["status"] == "complete"
        lines = [line for line in scene.daemon.log.read_text().splitlines() if line]
        assert all(line.startswith("{") for line in lines), "each line begins on its own"


@pytest.mark.requirement("fault:store:survived")
def test_a_turn_completes_though_home_is_mounted_read_only(tmp_path: Path, state: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with staged(tmp_path, state, f"mount --bind {home} {home} && mount -o remount,bind,ro {home}") as scene:
        scene.place.create("homebound")
        turn = scene.place.outcome("homebound")

        assert (turn["status"], turn["result"]) == ("complete", "homebound is done")
        assert (scene.project / "home.seen").read_text() == "read-only\n"
        assert list(home.iterdir()) == []
        assert scene.ends("homebound") == ["turn.complete"]
