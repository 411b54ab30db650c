"""An agent's shell takes all room, all inodes or all processes that there are: Fleet answers, says why, loses no turn.

The disk is a small one of the test's own, with the projects and the state directory on it; the processes are those of a
cgroup. Only root may limit these: elsewhere the tests are skipped, and say so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.places import Place
from tests.faults.test_mounts import staged
from tests.faults.test_store_faults import Scene, one_sentence
from tests.fixtures.daemon import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.requirement("fault:store:survived", "guarantee:outcome:exactly-one-and-true"),
]
SCRIPT = Path(__file__).with_name("greedy.yaml")
DISK_BYTES = 16 << 20
INODES = 1500
MAX_PROCESSES = 150
HOLD = "{{ {take}; }} 2> /dev/null; while [ -e held ]; do sleep 0.05; done; rm -rf taken"
TAKER = f"""
import os, signal, time
children = []
while os.path.exists("held"):
    try:
        pid = os.fork() if len(children) < {2 * MAX_PROCESSES} else time.sleep(0.02)
    except OSError:
        open("full", "w").close()
        time.sleep(0.02)
        continue
    if pid == 0:
        signal.pause()
    children += [pid] if pid else []
for pid in children:
    os.kill(pid, signal.SIGKILL)
"""
"""Takes every process that becomes free, as long as it may hold them."""


@dataclass(frozen=True)
class Crowd:
    """A fleet with an agent that takes something; `seen` leads to a path of the disk as the daemon has it."""

    scene: Scene
    beside: Place
    seen: Callable[[Path], Path]

    @property
    def project(self) -> Path:
        """Where the agent takes what it can."""
        return self.seen(self.scene.project)

    def take(self, command: str) -> None:
        """Have an agent take all and hold it until `let_go`."""
        (self.project / "held").touch()
        self.scene.place.create("takes", task=HOLD.format(take=command))

    def let_go(self) -> None:
        """Have it give back what it took."""
        (self.project / "held").unlink()

    def completes(self, *names: str) -> None:
        """Each of these agents is told another task, and completes it."""
        for name in names:
            self.scene.place.ask("POST", f"/v1/agents/{name}/turns", {"task": "go on"})
            assert self.scene.place.outcome(name)["status"] == "complete"


@contextmanager
def crowded(root: Path, state: Path, first: str = ":") -> Generator[Crowd]:
    """A fleet on one small disk; `first` is what the daemon's process does before it begins."""
    other, disk = root / "other", root / "disk"
    for place in (root / "home", other, disk):
        place.mkdir()
    mounts = [first, f"mount -t tmpfs -o size={DISK_BYTES},nr_inodes={INODES},mode=700 fleet {disk}"]
    for place in (state, root / "project", other):
        mounts += [f"mkdir -m 700 {disk}/{place.name}", f"mount --bind {disk}/{place.name} {place}"]
    with staged(root, state, " && ".join(mounts), SCRIPT) as scene:
        eyes = str(scene.state).removesuffix(str(state))
        place = scene.place
        yield Crowd(
            scene, Place(scene.daemon, other, place.account, place.environment), lambda path: Path(f"{eyes}{path}")
        )


@pytest.fixture
def at_work(tmp_path: Path, state: Path) -> Iterator[Crowd]:
    """A fleet on one small disk, in which an agent is in the middle of a tool in a project of its own."""
    with crowded(tmp_path, state) as crowd:
        began = crowd.seen(crowd.beside.project) / "began"
        crowd.beside.create("beside")
        wait_until(began.exists, "the shell of the agent beside", seconds=60)
        yield crowd
        began.unlink()
        assert crowd.beside.outcome("beside")["status"] == "complete"


def test_an_agent_that_fills_the_disk_stops_no_turn_and_new_work_is_refused_until_there_is_room(at_work: Crowd) -> None:
    scene, project = at_work.scene, at_work.project
    at_work.take("cat /dev/zero > taken")
    wait_until(lambda: os.statvfs(project).f_bavail == 0, "a full disk", seconds=60)
    for number in range(3):
        one_sentence(scene.try_create(f"late-{number}"), 503, "cannot be written", "free disk space")
    assert scene.view("takes")["status"] == "working"
    at_work.let_go()
    assert scene.place.outcome("takes")["status"] == "complete"
    assert scene.ends("takes") == ["turn.complete"]
    assert scene.try_create("in-time").is_success
    assert scene.place.outcome("in-time")["status"] == "complete"


def test_an_agent_that_uses_up_the_inodes_stops_no_turn_and_those_that_cannot_start_say_why(at_work: Crowd) -> None:
    scene, project = at_work.scene, at_work.project
    at_work.take(f"mkdir taken; touch taken/{{1..{INODES}}}")
    wait_until(lambda: os.statvfs(project).f_ffree == 0, "a disk without inodes", seconds=60)
    assert scene.try_create("late").is_success
    late = scene.place.outcome("late")
    assert (late["status"], late["reason"]) == ("failed", "start")
    assert late["detail"].endswith("cannot be written: No space left on device")
    assert scene.view("takes")["status"] == "working"
    at_work.let_go()
    assert scene.place.outcome("takes")["status"] == "complete"
    assert scene.ends("takes") == ["turn.complete"]
    at_work.completes("late")


@pytest.fixture
def few_processes() -> Iterator[Path]:
    """A cgroup that holds few processes and threads."""
    for root in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")):
        place = root / f"fleet-test-{os.getpid()}"
        try:
            place.mkdir()
            (place / "pids.max").write_text(str(MAX_PROCESSES))
        except OSError:
            continue
        yield place
        wait_until(lambda place=place: not (place / "cgroup.procs").read_text(), "the end of all its processes")
        place.rmdir()
        return
    pytest.skip("no cgroup can be made here that limits processes")


def test_an_agent_that_takes_every_process_stops_no_answer_and_those_that_cannot_start_say_why(
    tmp_path: Path, state: Path, few_processes: Path
) -> None:
    with crowded(tmp_path, state, f"echo $$ > {few_processes}/cgroup.procs") as crowd:
        scene, names = crowd.scene, [f"late-{number}" for number in range(4)]
        (crowd.project / "take.py").write_text(TAKER)
        crowd.take(f"{sys.executable} -S take.py")
        wait_until((crowd.project / "full").exists, "a machine without a free process", seconds=60)
        for name in names:
            answer = scene.try_create(name)
            assert answer.is_success, answer.text
        for name in names:
            late = scene.place.outcome(name)
            assert (late["status"], "claude" in late["detail"]) == ("failed", True), late
        crowd.let_go()
        scene.place.outcome("takes")
        assert len(scene.ends("takes")) == 1
        crowd.completes("takes", names[0])
        assert "Fleet itself failed" not in scene.daemon.log.read_text()
