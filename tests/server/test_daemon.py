"""The daemon as a process: one per state directory, private sockets, an orderly exit, no secrets in its log."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from orchestrator import daemon_link, paths
from tests.fixtures.daemon import Daemon, clean_env, running_daemon, spawn_daemon, wait_until

SOCKETS = ("mcp.sock", "http.sock")


@pytest.fixture
def env(tmp_path: Path, state: Path) -> dict[str, str]:
    home = tmp_path / "home"
    home.mkdir()
    return clean_env(home, state)


def second_daemon(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", "daemon", *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.requirement("daemon:start:one-per-state-directory")
def test_a_second_daemon_ends_at_once_and_names_the_first(daemon: Daemon) -> None:
    second = second_daemon(dict(daemon.env))
    assert second.returncode == 3
    assert second.stderr == f"fleet daemon: pid {daemon.pid} already serves {daemon.state}; end it with: fleet down\n"
    assert daemon.is_serving()


@pytest.mark.requirement("daemon:sockets:owner-only")
def test_its_sockets_log_and_lock_are_private(daemon: Daemon) -> None:
    places = [*(daemon.state / name for name in SOCKETS), daemon.log, paths.lock_path(daemon.state)]
    assert {place.name: oct(stat.S_IMODE(place.stat().st_mode)) for place in places} == {
        place.name: "0o600" for place in places
    }
    assert json.loads(paths.lock_path(daemon.state).read_text()) == {
        "pid": daemon.pid,
        "build": paths.build(),
        "stopping": False,
    }


def test_its_database_is_its_users_alone(daemon: Daemon) -> None:
    database = paths.database_path(daemon.state)
    assert {oct(stat.S_IMODE(place.stat().st_mode)) for place in daemon.state.glob(f"{database.name}*")} == {"0o600"}


@pytest.mark.requirement("daemon:start:one-per-state-directory")
def test_a_killed_daemons_sockets_are_in_nobodys_way(env: dict[str, str], state: Path) -> None:
    first = spawn_daemon(state, env)
    wait_until(first.is_serving, "the first daemon")
    assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    assert all((state / name).is_socket() for name in SOCKETS)
    with running_daemon(state, env) as second:
        assert second.is_serving()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.requirement("daemon:log:json-without-secrets")
def test_a_signal_ends_it_in_order(env: dict[str, str], state: Path, number: int) -> None:
    with running_daemon(state, env) as daemon:
        assert daemon.stop(number) == 0
    assert not any((state / name).exists() for name in SOCKETS)
    assert daemon.events()[-2:] == ["daemon ends", "daemon ended"]
    assert "Traceback" not in daemon.log.read_text()


def test_streams_and_waits_do_not_hold_up_its_end_and_leave_no_traceback(
    env: dict[str, str], state: Path, project: Path
) -> None:
    def listen(method: str, path: str) -> None:
        with (
            daemon.http(project) as client,
            suppress(httpx.TransportError),
            client.stream(method, path, json={} if method == "POST" else None) as response,
        ):
            response.read()

    with running_daemon(state, env) as daemon:
        listeners = [
            threading.Thread(target=listen, args=asked) for asked in (("GET", "/v1/stream"), ("POST", "/v1/wait"))
        ]
        for listener in listeners:
            listener.start()
        wait_until(lambda: connections(daemon.state / "http.sock") >= len(listeners), "both listeners")
        assert daemon.stop() == 0
        for listener in listeners:
            listener.join()
    assert "Traceback" not in daemon.log.read_text()


def connections(path: Path) -> int:
    """Established connections on this socket; of the machine's list, as a daemon shows its own to root only."""
    return sum(str(link.laddr) == str(path) for link in psutil.net_connections("unix")) - 1


def test_a_database_of_a_newer_fleet_is_one_readable_line(env: dict[str, str], state: Path) -> None:
    with running_daemon(state, env) as daemon:
        daemon.stop()
    with closing(sqlite3.connect(paths.database_path(state))) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()
    refused = second_daemon(env)
    assert refused.returncode == 1
    assert refused.stderr.startswith("fleet daemon: ")
    assert refused.stderr.count("\n") == 1
    assert not any((state / name).exists() for name in SOCKETS)


def test_a_row_that_cannot_be_read_does_not_keep_the_daemon_from_serving(
    env: dict[str, str], state: Path, project: Path
) -> None:
    with running_daemon(state, env) as daemon, daemon.http(project) as client:
        client.post("/v1/agents", json={"name": "damaged", "task": "work"}).raise_for_status()
        client.post("/v1/agents/damaged/interrupt").raise_for_status()
    with closing(sqlite3.connect(paths.database_path(state))) as database:
        database.execute("UPDATE agent SET activity = 'nonsense'")
        database.commit()
    with running_daemon(state, env) as daemon:
        wait_until(lambda: "warm-up failed" in daemon.events(), "the failed warm-up")
        with daemon.http(project) as client:
            assert client.get("/v1/health").status_code == 200
            assert client.get("/v1/agents").status_code == 503


def test_asked_to_shut_down_it_answers_and_ends(env: dict[str, str], state: Path) -> None:
    with running_daemon(state, env) as daemon:
        with daemon.http() as client:
            response = client.post("/v1/shutdown", json={"interrupt": False})
        assert (response.status_code, response.json()) == (202, {"pid": daemon.pid, "interrupted": 0})
        assert daemon.process is not None
        assert daemon.process.wait(20) == 0


@pytest.mark.requirement("http:mcp:streamable-on-loopback")
def test_a_port_that_is_taken_is_one_readable_line_and_costs_no_turn(
    env: dict[str, str], state: Path, project: Path, silent_model: str
) -> None:
    account = {"ANTHROPIC_BASE_URL": silent_model, "ANTHROPIC_API_KEY": "sk-test-not-a-key"}
    with running_daemon(state, env) as daemon:
        with daemon.http(project, account=account, environment=env) as client:
            client.post("/v1/agents", json={"name": "busy-1", "task": "work"}).raise_for_status()
        wait_until(lambda: status_of(daemon, project, "busy-1") == "working", "a working agent")
        daemon.stop(signal.SIGKILL)
    taken = silent_model.rpartition(":")[2]
    refused = second_daemon({**env, "FLEET_HTTP_PORT": taken})
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert refused.stderr.startswith(f"fleet daemon: cannot listen on 127.0.0.1:{taken}")
    with closing(sqlite3.connect(paths.database_path(state))) as database:
        assert database.execute("SELECT status FROM turn").fetchall() == [("working",)]


def test_it_refuses_to_shut_down_while_agents_work_unless_told_to_interrupt(
    env: dict[str, str], state: Path, project: Path, silent_model: str
) -> None:
    account = {"ANTHROPIC_BASE_URL": silent_model, "ANTHROPIC_API_KEY": "sk-test-not-a-key"}
    with running_daemon(state, env) as daemon, daemon.http(project, account=account, environment=env) as client:
        client.post("/v1/agents", json={"name": "busy-1", "task": "work"}).raise_for_status()
        wait_until(lambda: status_of(daemon, project, "busy-1") == "working", "a working agent")
        refused = client.post("/v1/shutdown", json={})
        assert refused.status_code == 409
        assert "1 agent at work: busy-1" in refused.json()["detail"]
        assert daemon.is_serving()
        taken = client.post("/v1/shutdown", json={"interrupt": True})
        assert (taken.status_code, taken.json()["interrupted"]) == (202, 1)
        assert daemon.process is not None
        assert daemon.process.wait(30) == 0
    with running_daemon(state, env) as daemon:
        assert status_of(daemon, project, "busy-1") != "working"


def status_of(daemon: Daemon, project: Path, name: str) -> str:
    with daemon.http(project) as client:
        return client.get(f"/v1/agents/{name}").json()["agent"]["status"]


@pytest.mark.requirement(
    "handshake:secrets:never-stored", "handshake:account:of-the-creating-door", "daemon:log:json-without-secrets"
)
def test_nothing_of_its_own_environment_and_no_secret_reaches_agents_log_or_store(
    env: dict[str, str], state: Path, project: Path, silent_model: str
) -> None:
    secret = "sk-test-secret-4711"
    account = {"ANTHROPIC_BASE_URL": silent_model, "ANTHROPIC_API_KEY": secret}
    mine = {"MARK_OF_THE_DAEMON": "m", "ANTHROPIC_AUTH_TOKEN": "of-the-daemon", "GIT_DIR": "/nowhere"}
    with (
        running_daemon(state, {**env, **mine}) as daemon,
        daemon.http(project, account=account, environment=env) as client,
    ):
        client.post("/v1/agents", json={"name": "a", "task": "work"}).raise_for_status()
        wait_until(lambda: claudes_of(daemon.pid), "a claude process")
        (claude, *_) = claudes_of(daemon.pid)
        given = claude.environ()
        assert given["ANTHROPIC_API_KEY"] == secret
        assert not set(mine) & set(given)
        client.delete("/v1/agents/a").raise_for_status()
    for place in state.rglob("*"):
        if place.is_file():
            assert secret.encode() not in place.read_bytes(), place


def claudes_of(pid: int) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for child in psutil.Process(pid).children(recursive=True):
        try:
            if child.name() == "claude" and child.environ():
                found.append(child)
        except psutil.Error:
            continue
    return found


@pytest.mark.requirement("daemon:idle:ends-without-work", "http:mcp:streamable-on-loopback")
@pytest.mark.parametrize(("more", "seconds"), [({}, 0), ({"FLEET_IDLE_EXIT_SECONDS": "70"}, 70)])
def test_with_a_port_it_ends_by_itself_only_if_told_to(
    env: dict[str, str], state: Path, more: dict[str, str], seconds: int
) -> None:
    with running_daemon(state, {**env, "FLEET_HTTP_PORT": "0", **more}) as daemon:
        assert daemon.records()[0]["idle_exit"] == seconds


@pytest.mark.requirement("daemon:idle:ends-without-work")
def test_idle_long_enough_it_ends_by_itself(env: dict[str, str], state: Path) -> None:
    with running_daemon(state, {**env, "FLEET_IDLE_EXIT_SECONDS": "1"}) as daemon:
        assert daemon.process is not None
        assert daemon.process.wait(20) == 0
    assert not any((state / name).exists() for name in SOCKETS)
    assert [record["why"] for record in daemon.records() if record["event"] == "daemon ends"] == ["idle for 1s"]


def test_a_connection_keeps_it_alive(env: dict[str, str], state: Path, project: Path) -> None:
    with running_daemon(state, env, "--idle-exit", "2") as daemon:
        with daemon.connect() as link:
            link.sendall(json.dumps(daemon.hello(project)).encode() + b"\n")
            assert json.loads(link.makefile("rb").readline())["pid"] == daemon.pid
            assert daemon.process is not None
            with pytest.raises(subprocess.TimeoutExpired):
                daemon.process.wait(4)
        assert daemon.process.wait(20) == 0


@pytest.mark.requirement("daemon:idle:ends-without-work")
def test_an_agent_that_works_keeps_it_alive(env: dict[str, str], state: Path, project: Path, silent_model: str) -> None:
    account = {"ANTHROPIC_BASE_URL": silent_model, "ANTHROPIC_API_KEY": "sk-test-not-a-key"}
    with running_daemon(state, env, "--idle-exit", "2") as daemon:
        with daemon.http(project, account=account, environment=env) as client:
            client.post("/v1/agents", json={"name": "a", "task": "work"}).raise_for_status()
        assert daemon.process is not None
        with pytest.raises(subprocess.TimeoutExpired):
            daemon.process.wait(4)
        with daemon.http(project) as client:
            client.delete("/v1/agents/a").raise_for_status()
        assert daemon.process.wait(20) == 0


@pytest.mark.requirement("daemon:idle:ends-without-work")
def test_whoever_comes_while_it_leaves_finds_a_daemon_all_the_same(
    env: dict[str, str], state: Path, project: Path
) -> None:
    idle_seconds, pause, pids = 0.4, threading.Event(), list[int]()
    mine = {**env, "FLEET_IDLE_EXIT_SECONDS": str(idle_seconds)}
    while len(pids) < 5 or len(set(pids)) == 1:  # later each time, until one has left before the next visitor came
        link, _ = daemon_link.greet(
            state, mine, str(project), {}
        )  # as the door does; it starts a daemon if there is none
        pids.append(Daemon(state, mine).pid)
        link.close()
        pause.wait(idle_seconds + 0.04 * (len(pids) - 1))
    last = Daemon(state, mine)
    wait_until(lambda: not last.is_alive(), "the end of the last daemon")
    assert "daemon broke" not in last.events()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("FLEET_IDLE_EXIT_SECONDS", value) for value in ("soon", "-1", "nan", "inf")),
        ("FLEET_LOG_LEVEL", "loud"),
    ],
)
def test_a_senseless_setting_is_refused_by_its_name(env: dict[str, str], name: str, value: str) -> None:
    refused = second_daemon({**env, name: value})
    assert refused.returncode == 2
    assert f"{name}={value!r}" in refused.stderr


def test_it_ends_when_its_directory_is_gone(env: dict[str, str], state: Path) -> None:
    place = state / "inner"
    place.mkdir(mode=0o700)
    with running_daemon(place, {**env, "FLEET_STATE": str(place)}) as daemon:
        shutil.rmtree(place)
        assert daemon.process is not None
        assert daemon.process.wait(30) == 0


@pytest.mark.requirement("daemon:start:one-per-state-directory")
def test_it_ends_when_its_lock_was_replaced_and_leaves_the_successors_files_alone(
    env: dict[str, str], state: Path
) -> None:
    with running_daemon(state, env) as first:
        paths.lock_path(state).unlink()
        with running_daemon(state, env) as second:
            assert first.process is not None
            assert first.process.wait(30) == 0
            wait_until(second.is_serving, "the successor")  # it was the first that answered until now
            assert second.pid != first.process.pid
    reasons = [record["why"] for record in first.records() if record["event"] == "daemon ends"]
    assert "was replaced or removed" in reasons[0]


def test_a_successor_waits_for_a_daemon_that_is_about_to_end(
    env: dict[str, str], state: Path, project: Path, silent_model: str
) -> None:
    account = {"ANTHROPIC_BASE_URL": silent_model, "ANTHROPIC_API_KEY": "sk-test-not-a-key"}
    with running_daemon(state, env) as first:
        with first.http(project, account=account, environment=env) as client:
            client.post("/v1/agents", json={"name": "a", "task": "work"}).raise_for_status()
            wait_until(lambda: claudes_of(first.pid), "a claude process, which takes a moment to end")
            client.post("/v1/shutdown", json={"interrupt": True}).raise_for_status()
        wait_until(lambda: json.loads(paths.lock_path(state).read_text())["stopping"], "the first daemon's farewell")
        with running_daemon(state, env) as second:
            assert second.is_serving()
            assert second.process is not None
            assert second.pid == second.process.pid


def test_a_state_directory_that_others_can_write_is_refused(env: dict[str, str], state: Path) -> None:
    state.chmod(0o777)
    refused = second_daemon(env)
    assert refused.returncode == 1
    assert "chmod go-rwx" in refused.stderr
