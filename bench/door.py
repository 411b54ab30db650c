"""Measures how soon an orchestrator has Fleet's tools, with and without a running daemon, and the cost of commands."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import machine
from bench.figures import Figure
from bench.stage import DOOR, Sizes, Stage, staged
from orchestrator import paths
from tests.fixtures.daemon import Daemon
from tests.fixtures.raw_door import end_daemon, open_process

BARE = (sys.executable, "-I", "-c", "pass")
LAUNCHER = (str(paths.asset("bin") / "fleet-mcp"),)
HELP = (sys.executable, "-m", "orchestrator", "--help")
WARM = "door, warm: `tools/list` answered, median / maximum"
COLD = "door, cold: `tools/list` answered, median / maximum"
WARM_GOAL, COLD_GOAL = {"p50": 60.0}, {"p50": 1.5}
SHOWN = ("p50", "max")


@dataclass(frozen=True)
class Ran:
    """What a process took: milliseconds by the clock until it answered (or ended), and of CPU in its whole life."""

    wall: float
    cpu: float


def measure(sizes: Sizes) -> Iterator[Figure]:
    """Doors to a running daemon beside a Python that does nothing, then doors that have to start the daemon."""
    with staged() as stage:
        with stage.daemon():
            doors, launched, bare = _warm(stage, sizes)
        yield _wall("door.warm", doors, "`fleet mcp`", WARM_GOAL)
        yield _wall("door.warm.launcher", launched, "by the plugin's launcher", {})
        yield _wall("door.bare_python", bare, "bare Python", {})
        yield _cpu("door.warm.cpu", doors, "door")
        yield _cpu("door.bare_python.cpu", bare, "bare Python")
    yield from _cold(sizes)
    helps = [_run(HELP) for _ in range(sizes.helps)]
    yield Figure(
        key="help.cpu",
        row="`fleet --help`, median / maximum",
        part="CPU",
        unit="ms",
        samples=[ran.cpu for ran in helps],
        shown=SHOWN,
        goal={"p50": 500.0},
    )


def _warm(stage: Stage, sizes: Sizes) -> tuple[list[Ran], list[Ran], list[Ran]]:
    """In turns, so that the machine's moods hit all three."""
    _door(stage, DOOR)
    doors: list[Ran] = []
    launched: list[Ran] = []
    bare: list[Ran] = []
    for _ in range(sizes.doors):
        doors.append(_door(stage, DOOR))
        launched.append(_door(stage, LAUNCHER))
        bare.append(_run(BARE))
    return doors, launched, bare


def _wall(key: str, ran: Sequence[Ran], part: str, goal: dict[str, float]) -> Figure:
    return Figure(key=key, row=WARM, part=part, unit="ms", samples=[one.wall for one in ran], shown=SHOWN, goal=goal)


def _cpu(key: str, ran: Sequence[Ran], part: str) -> Figure:
    row = "door, warm: CPU of its whole life, median / maximum"
    return Figure(key=key, row=row, part=part, unit="ms", samples=[one.cpu for one in ran], shown=SHOWN)


def _door(stage: Stage, command: Sequence[str]) -> Ran:
    begun = time.perf_counter()
    door = open_process(command, stage.environment, stage.project)
    names = door.tool_names()
    wall = time.perf_counter() - begun
    assert "create_agent" in names, names
    assert door.process.stdin is not None
    assert door.process.stdout is not None
    door.process.stdin.close()
    cpu = _reaped(door.process)
    door.process.stdout.close()
    return Ran(wall * 1000, cpu * 1000)


def _run(command: Sequence[str]) -> Ran:
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    cpu = _reaped(process)
    return Ran((time.perf_counter() - begun) * 1000, cpu * 1000)


def _reaped(process: subprocess.Popen[bytes]) -> float:
    """CPU seconds of a process that ends now, its waited-for children included."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def _cold(sizes: Sizes) -> Iterator[Figure]:
    first: list[float] = []
    later: list[float] = []
    cpu: list[float] = []
    for _ in range(sizes.cold_doors):
        with staged() as stage:
            first.append(_started(stage, []))
            later.append(_started(stage, cpu))
    yield Figure(key="door.cold", row=COLD, unit="s", samples=later, shown=SHOWN, goal=COLD_GOAL)
    first_ever = "the first time ever (makes the database)"
    yield Figure(key="door.cold.first", row=COLD, part=first_ever, unit="s", samples=first, shown=SHOWN)
    until = "CPU of the daemon until then"
    yield Figure(key="door.cold.cpu", row=COLD, part=until, unit="s", samples=cpu, shown=SHOWN)


def _started(stage: Stage, cpu: list[float]) -> float:
    """Seconds until a door without a daemon has the tools; adds what the daemon's process has used by then."""
    begun = time.perf_counter()
    door = stage.door()
    door.tool_names()
    wall = time.perf_counter() - begun
    cpu.append(machine.cpu_seconds(Daemon(Path(stage.state), stage.environment).pid))
    door.leave()
    end_daemon(stage.state)
    return wall
