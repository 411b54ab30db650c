"""The shim with real processes: nothing of a session survives it, and nothing reaches it from its starter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil
import pytest

from orchestrator.supervision import shim
from orchestrator.supervision.tiers import SHIM_TIER, Tier, launcher_environment, write_launcher
from tests.fixtures.leavers import tier_or_skip

DEADLINE_SECONDS = 20.0
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}

HOPPER = """#!/bin/sh
[ -e stop ] && exit
echo $$ >> hops
setsid "$PWD/hopper" &
"""
"""A process that is replaced by one in a new session, for ever."""

ESCAPES = {
    "background": "sleep 300 &",
    "own session": "setsid sleep 300 &",
    "double fork": "(setsid sh -c 'sleep 300 & sleep 301' &) ; :",
    "without an environment": "env -i setsid sleep 300 > /dev/null 2>&1 &",
    "deaf": "nohup sh -c 'trap : TERM HUP INT; while :; do sleep 300; done' > /dev/null 2>&1 &",
    "hopper": "./hopper",
}


def wait_until(condition: Callable[[], object], what: str) -> None:
    end, pause = time.monotonic() + DEADLINE_SECONDS, threading.Event()
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {DEADLINE_SECONDS:g} s"
        pause.wait(0.01)


def alive(place: Path) -> list[psutil.Process]:
    """Everything that lives in this test's own directory."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(place):
                found.append(process)
    return found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory of its own, whose survivors a failed test still ends."""
    work = tmp_path / "work"
    work.mkdir()
    hopper = work / "hopper"
    hopper.write_text(HOPPER)
    hopper.chmod(0o700)
    yield work
    (work / "stop").touch()
    for process in alive(work):
        with suppress(psutil.Error):
            process.kill()


@pytest.fixture(autouse=True, params=["A", "C"])
def tier(request: pytest.FixtureRequest) -> Tier:
    """Each test holds in a pid namespace and without one."""
    letter: str = request.param
    chosen.tier = SHIM_TIER if letter == "C" else tier_or_skip(letter)
    return chosen.tier


class Chosen:
    """The tier that the programs of the running test start in."""

    tier: Tier = SHIM_TIER


chosen = Chosen()


def program(place: Path, body: str) -> Path:
    path = place / "a 'program' of $HOME"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o700)
    return write_launcher(place / "launchers", path, chosen.tier)


def start(place: Path, body: str, *arguments: str, **more: str) -> subprocess.Popen[bytes]:
    return start_runner(place, program(place, body), *arguments, **more)


def start_runner(place: Path, runner: Path, *arguments: str, **more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [runner, *arguments],
        cwd=place,
        env={**os.environ, **launcher_environment({**ENVIRONMENT, **more})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def finish(process: subprocess.Popen[bytes], given: bytes | None = None) -> tuple[int, str, str]:
    """Give it its last input, close that, and return its code and what it said."""
    out, err = process.communicate(given, timeout=DEADLINE_SECONDS)
    return process.returncode, os.fsdecode(out), os.fsdecode(err)


def test_the_program_sees_the_environment_it_is_given_and_nothing_else(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://secret")
    odd = os.fsdecode(b"\xff\n= \xc3\xa9")
    code, out, _ = finish(start(place, "exec env -0", ODD=odd, EMPTY=""))
    assert code == 0
    seen = dict(pair.split("=", 1) for pair in out.removesuffix("\0").split("\0"))
    assert seen.pop("PWD", str(place)) == str(place)
    assert {name: value for name, value in seen.items() if name not in {"_", "SHLVL", "OLDPWD"}} == {
        **ENVIRONMENT,
        "ODD": odd,
        "EMPTY": "",
    }


def test_the_shim_itself_shows_nothing_of_its_starter(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://secret")
    code, out, _ = finish(start(place, 'tr "\\0" "\\n" < /proc/$PPID/environ'))
    assert "postgres" not in out
    if chosen.tier.letter == "A":
        assert code != 0
        assert out == "", "nothing of it can be read: it is not dumpable"
    elif os.geteuid() == 0:  # with all capabilities
        assert "DATABASE_URL=\n" in out


def test_arguments_input_output_and_code_pass_through(place: Path) -> None:
    process = start(place, 'printf "%s|" "$@"; cat; echo "oh dear" >&2; exit 7', "a b", "$HOME", "'", "")
    code, out, err = finish(process, b"0123456789" * 100_000)
    assert (code, err) == (7, "oh dear\n")
    assert out == "a b|$HOME|'||" + "0123456789" * 100_000


def test_a_program_that_is_killed_is_named_at_once(place: Path) -> None:
    process = start(place, "kill -9 $$")
    assert process.wait(DEADLINE_SECONDS) == 128 + signal.SIGKILL
    assert pipe(process.stderr).read() == b"fleet-shim: the program was killed by SIGKILL\n"
    finish(process)


def test_a_program_that_cannot_be_run_is_named(place: Path) -> None:
    runner = write_launcher(place / "launchers", place / "absent", chosen.tier)
    done = subprocess.run(
        [runner],
        env=launcher_environment(ENVIRONMENT),
        stdin=subprocess.PIPE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 127
    assert done.stderr == f"fleet-shim: cannot run {place}/absent: No such file or directory\n"


def test_a_program_may_finish_its_work_after_its_input_ends(place: Path) -> None:
    code, out, _ = finish(start(place, "cat; sleep 0.5; echo saved"))
    assert (code, out) == (0, "saved\n")


@pytest.mark.parametrize("how", ["its input ends", "the program ends", "the program is killed", "the shim is asked to"])
def test_nothing_survives_whatever_ends_the_session(place: Path, how: str) -> None:
    last = {"the program ends": "exit 0", "the program is killed": "read x; kill -9 $$"}.get(how, "cat; sleep 300")
    body = "\n".join([*ESCAPES.values(), "echo ready", "read go", last])
    process = start(place, body)
    assert pipe(process.stdout).readline() == b"ready\n"
    wait_until(lambda: len((place / "hops").read_text().split()) > 3, "the hopper hops")
    if how in ("the program ends", "the program is killed"):
        pipe(process.stdin).write(b"go\ngo\n")
        pipe(process.stdin).flush()
        process.wait(DEADLINE_SECONDS)
    elif how == "the shim is asked to":
        process.terminate()
        process.wait(DEADLINE_SECONDS)
    finish(process)
    wait_until(lambda: not alive(place), "everything is gone")  # told to end, bwrap ends a moment before its namespace
    hops = (place / "hops").read_text()
    assert not alive(place)
    assert (place / "hops").read_text() == hops


def test_nothing_survives_a_starter_that_is_killed(place: Path) -> None:
    runner = program(place, "\n".join([*ESCAPES.values(), "echo ready >> began", "cat", "sleep 300"]))
    code = "import subprocess, sys; subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE).wait()"
    starter = subprocess.Popen(
        [sys.executable, "-c", code, str(runner)], cwd=place, env=launcher_environment(ENVIRONMENT)
    )
    wait_until((place / "began").exists, "the program has begun")
    assert len(alive(place)) > len(ESCAPES)
    starter.kill()
    starter.wait()
    wait_until(lambda: not alive(place), "everything is gone")
    hops = (place / "hops").read_text()
    wait_until(lambda: (place / "hops").read_text() == hops, "no hopper hops")


def test_a_program_that_ignores_its_end_is_killed_before_the_starter_loses_patience(place: Path) -> None:
    process = start(place, "trap '' TERM; echo ready; cat > /dev/null; while :; do sleep 300; done")
    assert pipe(process.stdout).readline() == b"ready\n"
    pipe(process.stdin).close()
    assert process.wait(5.0) == 128 + signal.SIGKILL
    assert not alive(place)
    pipe(process.stdout).close()
    pipe(process.stderr).close()


def test_a_keyboard_interrupt_of_the_daemon_does_not_reach_the_program(place: Path) -> None:
    process = start(place, "echo ready; read go; echo $go")
    assert pipe(process.stdout).readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert finish(process, b"on\n")[:2] == (0, "on\n")


@pytest.mark.requirement("process:priority:yields")
def test_programs_that_start_at_once_all_run_at_a_lower_priority(place: Path) -> None:
    """The kernel refuses most of their first attempts if they are not privileged (tier A, or an ordinary user)."""
    body = """for _ in $(seq 200); do grep -q "nice 0" /proc/self/autogroup 2> /dev/null || break; sleep 0.05; done
        echo "$(nice)" "$(cat /proc/self/autogroup 2> /dev/null)" """
    runner = program(place, body)  # written once: a shell reads its script while it runs
    processes = [start_runner(place, runner) for _ in range(6)]
    lines = [pipe(process.stdout).readline().decode() for process in processes]
    assert [finish(process) for process in processes] == [(0, "", "")] * 6
    for nice, _, autogroup in (line.strip().partition(" ") for line in lines):
        assert int(nice) == min(19, os.nice(0) + shim.NICENESS)
        assert autogroup.endswith(f" nice {shim.NICENESS}") or not Path("/proc/self/autogroup").exists()


def test_a_program_that_is_still_in_its_starters_session_leaves_that_at_its_priority() -> None:
    lower = shim._lower_autogroup  # pyright: ignore[reportPrivateUsage] - no test can hold the shim before its setsid
    with (
        subprocess.Popen(["sleep", "300"]) as before,
        subprocess.Popen(["sleep", "300"], start_new_session=True) as led,
    ):
        try:
            assert lower(before.pid) is False
            wait_until(lambda: lower(led.pid), "the kernel accepts")
        finally:
            before.kill()
            led.kill()


def test_the_same_program_has_one_launcher(place: Path) -> None:
    assert program(place, "true") == program(place, "true")
    assert program(place, "true").stat().st_mode & 0o777 == 0o700
    assert write_launcher(place / "launchers", Path("/bin/true")) != write_launcher(
        place / "launchers", Path("/bin/false")
    )


def test_an_environment_survives_its_packing() -> None:
    environment = {"A": "", "B": "x=y\n", "C": os.fsdecode(b"\xff"), "D": "\N{TANGERINE}"}
    assert shim.decode_environment(shim.encode_environment(environment)) == {
        os.fsencode(name): os.fsencode(value) for name, value in environment.items()
    }
    assert shim.decode_environment(shim.encode_environment({})) == {}
