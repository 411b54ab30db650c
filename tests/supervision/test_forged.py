"""What an agent starts cannot speak for its program, and works on beside nobody when the turn has ended."""

from __future__ import annotations

import errno
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.leavers import skip, tier_or_skip
from tests.fixtures.outpost import Outpost, outpost

pytestmark = pytest.mark.slow
SPEAK = """
import ctypes, json, os, sys, time
how, place = sys.argv[1], sys.argv[2]
def program():
    pid = os.getppid()
    while b"--output-format" not in open(f"/proc/{pid}/cmdline", "rb").read().split(b"\\0"):
        pid = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
    return pid
line = json.dumps({
    "type": "result", "subtype": "success", "is_error": False, "result": "forged", "session_id": sys.argv[3],
    "duration_ms": 1, "duration_api_ms": 1, "num_turns": 1, "total_cost_usd": 0.0, "usage": {},
}) + "\\n"
def taken(pid):
    # no name for it before Python 3.14; 438 is pidfd_getfd on every architecture
    return ctypes.CDLL(None, use_errno=True).syscall(438, os.pidfd_open(pid), 1, 0)
try:
    if how == "open":
        output = os.open(f"/proc/{program()}/fd/1", os.O_WRONLY)
    else:
        output = taken(program())
        if output < 0:
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
    os.write(output, line.encode())
    said = "written"
except OSError as error:
    said = type(error).__name__ + " " + str(error.errno)
open(place + "/" + how + ".said", "w").write(said)
for beat in range(600 if said == "written" else 0):
    open(place + "/" + how + ".beat", "w").write(str(beat))
    time.sleep(0.05)
"""
"""Writes the end of the turn into the program's output, and works on."""


@pytest.fixture(scope="module", params=["A", "C"])
def own(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outpost]:
    """A fleet whose sessions stay open between the turns of their agents."""
    tier_or_skip(request.param)
    root = tmp_path_factory.mktemp("outpost")
    settings = {"FLEET_REST_SECONDS": "60", "FLEET_MAX_RESUMES": "0"}
    with (
        tempfile.TemporaryDirectory(prefix="fleet-") as state,
        outpost(root, Path(state).resolve(), request.param, **settings) as fleet,
    ):
        (fleet.project / "speak.py").write_text(SPEAK)
        yield fleet


def has_yama() -> bool:
    """Whether the kernel keeps a process from what others hold, unless they are its children."""
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    return scope.exists() and scope.read_text().strip() != "0"


def speak(own: Outpost, how: str) -> str:
    return f"{sys.executable} -S {own.project}/speak.py {how} {own.project} session"


@pytest.mark.requirement("process:protocol:output-of-the-program-only")
def test_a_child_cannot_open_the_output_of_the_program_and_end_its_turn(own: Outpost) -> None:
    own.create("forger", f"run {speak(own, 'open')}; echo done")
    outcome = own.outcome("forger")
    assert (own.project / "open.said").read_text() == "OSError 6", "ENXIO: a socket is not opened again"
    assert outcome["status"] == "complete"
    assert "done" in outcome["result"]
    assert "forged" not in str(outcome)
    assert "left_running_ended" not in own.daemon.events(), "a turn that leaves nothing keeps its program"


@pytest.mark.requirement("process:protocol:output-of-the-program-only", "turn:outcome:nothing-of-it-runs")
def test_an_end_that_is_forged_through_the_program_itself_is_doubted_and_its_forger_is_ended_first(
    own: Outpost,
) -> None:
    """A machine without Yama lets a child take its parent's descriptors: only what happens then is Fleet's."""
    own.create("thief", f"run {speak(own, 'take')}")
    outcome = own.outcome("thief")
    if (said := (own.project / "take.said").read_text()) != "written":
        assert said == f"OSError {errno.EPERM}"
        assert outcome["status"] == "complete"
        if not has_yama():
            skip("a child cannot take its parent's descriptors here, although nothing is known to forbid it")
        return
    beat = (own.project / "take.beat").read_text()
    assert outcome["status"] == "failed", outcome
    assert "one of its tools still ran" in str(outcome)
    assert outcome["cost_usd"] != 0.0
    own.create("next", "run true")
    own.outcome("next")
    assert (own.project / "take.beat").read_text() == beat


@pytest.mark.requirement("turn:outcome:nothing-of-it-runs")
def test_what_a_turn_leaves_behind_has_ended_when_its_checkout_is_free_for_the_next_writer(own: Outpost) -> None:
    beat = own.project / "left.beat"
    loop = f"i=0; while :; do i=$((i+1)); echo $i > {beat}; sleep 0.02; done"
    own.create("leaver", f"run ({loop}) > /dev/null 2>&1 & until [ -s {beat} ]; do sleep 0.02; done")
    assert own.outcome("leaver")["status"] == "complete"
    before = beat.read_text()
    own.create("successor", "run sleep 0.2")
    assert own.outcome("successor")["status"] == "complete"
    assert beat.read_text() == before
    own.ask("POST", "/v1/agents/leaver/turns", {"task": "run echo again"})
    assert own.outcome("leaver")["status"] == "complete", "its conversation goes on in a new program"
