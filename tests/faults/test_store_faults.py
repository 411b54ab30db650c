"""A running daemon is stopped, its database cannot be written or is damaged, or its home is read-only."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator import paths, rehearsal
from tests.faults.places import Place, account_of, environment_of, make_folders
from tests.fixtures.daemon import Daemon, clean_env, spawn_daemon, wait_until

SCRIPT = Path(__file__).with_name("store.yaml")
TERMINAL = ("turn.complete", "turn.failed", "turn.interrupted", "turn.cancelled")
pytestmark = pytest.mark.timeout(180)


@dataclass
class Scene:
    """A fleet whose files the test damages."""

    root: Path
    state: Path
    project: Path
    model: rehearsal.Rehearsal
    daemon: Daemon

    @property
    def place(self) -> Place:
        return Place(self.daemon, self.project, account_of(self.model), environment_of(self.root / "home"))

    @property
    def database(self) -> Path:
        return paths.database_path(self.state)

    @property
    def env(self) -> dict[str, str]:
        return clean_env(self.root / "home", self.state, FLEET_REHEARSAL="store", FLEET_IDLE_EXIT_SECONDS="0")

    def start(self) -> None:
        self.daemon = spawn_daemon(self.state, self.env)
        wait_until(self.daemon.is_serving, "a serving daemon")

    def try_create(self, name: str) -> httpx.Response:
        place = self.place
        with self.daemon.http(self.project, account=place.account, environment=place.environment) as client:
            return client.post("/v1/agents", json={"name": name, "task": "look", "persona": "scout"}, timeout=60)

    def view(self, name: str) -> dict[str, Any]:
        return self.place.ask("GET", f"/v1/agents?agent={name}")["agents"][0]

    def ends(self, name: str) -> list[str]:
        events = self.place.ask("GET", f"/v1/events?since=0&agent={name}")["events"]
        return [event["kind"] for event in events if event["kind"] in TERMINAL]

    def held(self, name: str) -> None:
        """An agent in the middle of a tool, until `release`."""
        self.place.create(name)
        wait_until((self.project / f"{name}.began").exists, "the agent's shell", seconds=60)

    def release(self, name: str) -> None:
        (self.project / f"{name}.go").touch()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    _, project, state = make_folders(tmp_path)
    with rehearsal.start(SCRIPT, log=tmp_path / "log.jsonl") as model:
        scene = Scene(tmp_path, state, project, model, Daemon(state, {}))
        scene.start()
        try:
            yield scene
        finally:
            scene.daemon.stop(signal.SIGKILL)


def one_sentence(answer: httpx.Response, status: int, *words: str) -> None:
    """The answer is an error that says what is wrong and what to do, on one line."""
    assert answer.status_code == status, answer.text
    error = answer.json()
    assert "\n" not in error["detail"]
    assert error["hint"]
    for word in words:
        assert word in f"{error['detail']} {error['hint']}"


@contextmanager
def no_room(daemon: Daemon, database: Path) -> Generator[None]:
    """The daemon cannot make any file longer, as on a full disk, for the time of the block."""
    pid, endless = daemon.pid, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    log = Path(f"{database}-wal")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (log.stat().st_size, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, endless)


@pytest.mark.requirement("fault:store:survived", "guarantee:durability:ok-survives-any-crash")
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux lets one process limit another")
def test_a_daemon_on_a_full_disk_refuses_work_goes_on_reading_and_recovers_by_itself(scene: Scene) -> None:
    scene.held("hold-one")
    with no_room(scene.daemon, scene.database):
        one_sentence(scene.try_create("too-late"), 503, "cannot be written", "free disk space")
        assert scene.view("hold-one")["status"] == "working"
        scene.release("hold-one")
        wait_until(lambda: "end_not_written" in scene.daemon.events(), "an end that finds no room")
        assert scene.view("hold-one")["status"] == "working"
    wait_until(lambda: scene.view("hold-one")["status"] == "complete", "its end, once there is room", seconds=60)
    assert scene.ends("hold-one") == ["turn.complete"]
    assert scene.try_create("in-time").is_success
    assert scene.place.outcome("in-time")["status"] == "complete"


@pytest.mark.requirement("fault:store:survived")
def test_a_database_that_another_program_locks_is_waited_for_and_then_named(scene: Scene) -> None:
    scene.held("hold-one")
    with closing(sqlite3.connect(scene.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        scene.release("hold-one")
        one_sentence(scene.try_create("too-late"), 503, "locked", "end the program that locks it")
        assert scene.view("hold-one")["status"] == "working", "who only looks is not held up"
        other.execute("ROLLBACK")
    wait_until(lambda: scene.view("hold-one")["status"] == "complete", "its end", seconds=60)
    assert scene.ends("hold-one") == ["turn.complete"]
    assert scene.try_create("in-time").is_success


def refused_start(scene: Scene) -> str:
    """What a daemon says that does not start; nothing of it stays."""
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", "daemon"],
        env=scene.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("fleet daemon: ")
    assert done.stderr.count("\n") == 1
    assert not any((scene.state / name).exists() for name in ("mcp.sock", "http.sock"))
    return done.stderr


@pytest.mark.requirement("fault:store:survived")
def test_a_database_that_is_held_from_the_start_names_the_lock_and_changes_nothing(scene: Scene) -> None:
    scene.daemon.stop()
    content = scene.database.read_bytes()
    with closing(sqlite3.connect(scene.database, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        assert "locked by another program" in refused_start(scene)
        other.execute("ROLLBACK")
    assert scene.database.read_bytes() == content
    scene.start()


@pytest.mark.requirement("fault:store:survived", "store:upgrade:newer-refused")
def test_a_newer_schema_is_refused_with_what_to_do_and_nothing_changes(scene: Scene) -> None:
    scene.daemon.stop()
    with closing(sqlite3.connect(scene.database)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    before = {path.name: path.read_bytes() for path in scene.state.glob("fleet.db*")}
    said = refused_start(scene)
    assert "'9999'" in said
    assert "upgrade this one" in said
    assert {path.name: path.read_bytes() for path in scene.state.glob("fleet.db*")} == before


def _cut(log: Path) -> None:
    os.truncate(log, log.stat().st_size * 2 // 3)


def _flip(log: Path) -> None:
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 0x40
    log.write_bytes(content)


def _blank(log: Path) -> None:
    content = log.read_bytes()
    keep = len(content) // 2
    log.write_bytes(content[:keep] + bytes(len(content) - keep))


def _remove(log: Path) -> None:
    log.unlink()


@pytest.mark.requirement("fault:store:survived")
@pytest.mark.parametrize("damage", [_cut, _flip, _blank, _remove], ids=["cut", "flipped", "blank", "gone"])
def test_a_damaged_write_ahead_log_is_never_silent_and_leaves_a_sound_beginning(scene: Scene, damage: Any) -> None:
    for number in range(12):
        assert scene.try_create(f"waits-{number}").is_success
    scene.daemon.stop(signal.SIGKILL)
    with closing(sqlite3.connect(f"file:{scene.database}?mode=ro", uri=True)) as whole:
        had = whole.execute("SELECT seq FROM sqlite_sequence WHERE name = 'event'").fetchone()[0]
    log = Path(f"{scene.database}-wal")
    damage(log)
    shm = Path(f"{scene.database}-shm")
    shm.unlink(missing_ok=True)
    try:
        scene.start()
    except AssertionError:
        assert "cannot be used" in scene.daemon.log.read_text()  # refused in plain words: not silent either
        return
    with scene.daemon.http() as client:
        told = client.get("/v1/health").json()["lost_events"]
    with closing(sqlite3.connect(f"file:{scene.database}?mode=ro", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        agents = {row[0] for row in database.execute("SELECT id FROM agent")}
        rows = database.execute("SELECT agent_id, seq FROM event ORDER BY agent_id, seq").fetchall()
    if told:
        assert "history_lost" in scene.daemon.events()
    assert told or len(rows) >= had, "a shorter history must be told"
    for agent in agents:
        mine = [seq for owner, seq in rows if owner == agent]
        assert mine == list(range(1, len(mine) + 1)), "what is left has no holes"


@pytest.mark.requirement("fault:store:survived")
@pytest.mark.parametrize("how", ["no database", "damaged inside"])
def test_a_damaged_database_gets_plain_words_and_is_kept(scene: Scene, how: str) -> None:
    for number in range(12):
        assert scene.try_create(f"waits-{number}").is_success
    scene.place.outcome("waits-11")
    scene.daemon.stop()
    content = bytearray(scene.database.read_bytes())
    begin = 0 if how == "no database" else 4096
    content[begin:] = os.urandom(len(content) - begin)
    scene.database.write_bytes(content)
    said = refused_start(scene)
    assert "Traceback" not in said
    assert any(words in said for words in ("move the file away", "move it away"))
    assert scene.database.read_bytes() == bytes(content)


@pytest.mark.requirement("fault:clock:survived", "daemon:start:one-per-state-directory")
def test_of_eight_daemons_that_start_at_once_exactly_one_serves(scene: Scene) -> None:
    scene.daemon.stop(signal.SIGKILL)
    for name in ("mcp.sock", "http.sock"):  # stale ones, and one that never was a socket
        assert (scene.state / name).exists()
    (scene.state / "http.sock").unlink()
    (scene.state / "http.sock").write_text("not a socket")
    starting = [spawn_daemon(scene.state, scene.env) for _ in range(8)]
    processes = [one.process for one in starting if one.process is not None]
    try:
        wait_until(lambda: sum(one.poll() is not None for one in processes) == 7, "seven that gave up", seconds=90)
        assert [code for one in processes if (code := one.poll()) is not None] == [3] * 7
        wait_until(starting[0].is_serving, "the one that serves")
        with starting[0].http() as client:
            pid = client.get("/v1/health").json()["pid"]
        assert [one.pid for one in processes if one.poll() is None] == [pid]
        assert scene.try_create("served").is_success
    finally:
        for one in starting:
            one.stop(signal.SIGKILL)


def _obey_modes() -> None:
    """Let not even root write where the mode forbids it, from the next exec on (PR_CAPBSET_DROP, CAP_DAC_OVERRIDE)."""
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)


@pytest.fixture
def unwritable() -> Iterator[tuple[Path, dict[str, Any]]]:
    """A home in which nobody may write, and how to start a process for which that counts."""
    place = Path(tempfile.mkdtemp(prefix="fleet-readonly-"))
    home = place / "home"
    home.mkdir()
    home.chmod(0o555)
    place.chmod(0o755)
    obeying = {"preexec_fn": _obey_modes} if os.geteuid() == 0 else {}
    yield place, obeying
    home.chmod(0o755)
    shutil.rmtree(place)


def fleet(place: Path, obeying: dict[str, Any], *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": "/usr/bin:/bin", "HOME": str(place / "home"), "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    env["PYTHONPATH"] = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *words],
        env={**env, **more},
        cwd=place,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **obeying,
    )


@pytest.mark.requirement("fault:store:survived")
def test_a_home_that_cannot_be_written_is_named_with_what_to_do(unwritable: tuple[Path, dict[str, Any]]) -> None:
    place, obeying = unwritable
    for words in (("daemon",), ("ps",), ("up",)):
        done = fleet(place, obeying, *words)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert str(place / "home") in done.stderr
        assert "FLEET_STATE" in done.stderr


@pytest.mark.requirement("fault:store:survived")
def test_a_read_only_home_does_no_harm_where_the_state_is_elsewhere(unwritable: tuple[Path, dict[str, Any]]) -> None:
    place, obeying = unwritable
    state = place / "state"
    state.mkdir(mode=0o700)
    given = {"FLEET_STATE": str(state)}
    try:
        up = fleet(place, obeying, "up", "--json", **given)
        assert up.returncode == 0, up.stderr
        assert json.loads(up.stdout)["running"] is True
        assert fleet(place, obeying, "ps", **given).returncode == 0
    finally:
        fleet(place, obeying, "down", **given)


@pytest.mark.requirement("fault:clock:survived", "guarantee:status:never-older-than-stated")
def test_a_daemon_that_is_stopped_is_said_not_to_answer_and_loses_nothing(scene: Scene) -> None:
    scene.held("hold-one")
    os.kill(scene.daemon.pid, signal.SIGSTOP)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator", "ps"],
            env=scene.env,
            cwd=scene.project,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode != 0
        assert "does not answer" in done.stderr
        assert "working" not in done.stdout
        scene.release("hold-one")
    finally:
        os.kill(scene.daemon.pid, signal.SIGCONT)
    wait_until(lambda: scene.view("hold-one")["status"] == "complete", "its end", seconds=60)
    assert scene.ends("hold-one") == ["turn.complete"]
