"""Measures what Fleet adds to a turn: the same turns through Fleet and through the bare SDK, alternating in one run."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench import machine
from bench.figures import Figure
from bench.stage import Sizes, Stage, command_all, create_all, staged, wait

THINKING, AT_ONCE = "Read five times, thinking", "Read five times, at once"
TASKS = {"thinking": THINKING, "at_once": AT_ONCE}
CALLS = 6
TOOLS = ["Read", "Grep", "Glob"]
"""those of the scout"""
PACES = {"thinking": "model at 0.5 s a call", "at_once": "model at 0 s"}
ROW = "overhead against the bare SDK, {crowd} agents, turns of 5 tool calls, median of pairs"
GOAL = 1.05


@dataclass
class Side:
    """Fleet or the bare SDK: how it plays a task in all its agents, and the process that is its root."""

    play: Callable[[str], float]
    pid: int


@dataclass
class Taken:
    """What one kind of turn took on one side, turn by turn: seconds by the clock, CPU seconds of the whole tree."""

    wall: list[float] = field(default_factory=list[float])
    cpu: list[float] = field(default_factory=list[float])
    host_cpu: list[float] = field(default_factory=list[float])
    """the part of the daemon itself, or of the Python that has the SDK"""


Results = dict[tuple[str, str], Taken]
"""by kind of turn (start, thinking, at_once) and side (fleet, bare)"""


def measure(sizes: Sizes) -> Iterator[Figure]:
    """Both sides stay open side by side and take turns, so that whatever else the machine does hits both alike."""
    results: Results = {}
    with (
        staged(sizes.crowd) as stage,
        stage.daemon() as daemon,
        _fleet(stage, sizes, daemon.pid) as fleet,
        _bare(stage, sizes) as bare,
    ):
        sides = {"fleet": fleet, "bare": bare}
        for name, side in sides.items():
            _take(results, "start", name, side)
        for kind in TASKS:
            for number in range(sizes.rounds):
                for name in sides if number % 2 == 0 else reversed(sides):
                    _take(results, kind, name, sides[name])
    yield from _figures(results, sizes)


def _take(results: Results, kind: str, name: str, side: Side) -> None:
    before, host_before = machine.cpu_seconds(side.pid), machine.own_cpu_seconds(side.pid)
    seconds = side.play(TASKS.get(kind, THINKING))
    taken = results.setdefault((kind, name), Taken())
    taken.wall.append(seconds)
    taken.cpu.append(machine.cpu_seconds(side.pid) - before)
    taken.host_cpu.append(machine.own_cpu_seconds(side.pid) - host_before)


@contextmanager
def _fleet(stage: Stage, sizes: Sizes, daemon: int) -> Generator[Side]:
    names = [f"agent-{number}" for number in range(sizes.crowd)]
    door = stage.door()
    create_all(door, ["warm-up"], "Say one word")  # imports the SDK, as the bare side has when it is ready
    wait(door, ["warm-up"])
    door.tool("delete_agent", {"agents": ["warm-up"]})
    is_open: list[bool] = []

    def play(task: str) -> float:
        begun = time.perf_counter()
        (command_all if is_open else create_all)(door, names, task)
        digest = wait(door, names)
        seconds = time.perf_counter() - begun
        is_open.append(True)
        assert digest.startswith(f"{sizes.crowd} complete"), digest
        return seconds

    yield Side(play, daemon)
    door.tool("delete_all_agents")


@contextmanager
def _bare(stage: Stage, sizes: Sizes) -> Generator[Side]:
    """With the model and system prompt of the agent that Fleet has had already."""
    ((agent, model),) = stage.query("SELECT id, model FROM agent")
    config = stage.root / "bare.json"
    settings = {
        "environment": {name: value for name, value in stage.environment.items() if not name.startswith("FLEET_")},
        "folder": str(stage.root / "bare"),
        "cwd": str(stage.project),
        "tools": TOOLS,
        "model": model,
        "system_prompt": str(stage.state / "agents" / agent / "system-prompt.md"),
        "sessions": sizes.crowd,
    }
    config.write_text(json.dumps(settings), encoding="utf-8")
    command = [sys.executable, "-m", "bench.bare", str(config)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        ask, hear = process.stdin, process.stdout

        def play(task: str) -> float:
            ask.write(task + "\n")
            ask.flush()
            return float(hear.readline())

        yield Side(play, process.pid)
        ask.close()


def _figures(results: Results, sizes: Sizes) -> Iterator[Figure]:
    row = ROW.format(crowd=sizes.crowd)
    for kind, pace in PACES.items():
        fleet, bare = results[kind, "fleet"], results[kind, "bare"]
        goal = {"p50": GOAL} if kind == "thinking" else {}
        yield from _rates(kind, pace, sizes.crowd, (fleet.wall, bare.wall))
        yield _ratio(f"overhead.{kind}", row, f"{pace}:", "x the time", (fleet.wall, bare.wall), goal)
        yield _ratio(f"overhead.{kind}.cpu", row, "", "x the CPU", (fleet.cpu, bare.cpu), {})
        for name, taken in (("fleet", fleet), ("bare", bare)):
            label, calls = f"{name}, {pace}", sizes.crowd * CALLS
            per_call = [1000 * seconds / calls for seconds in taken.cpu]
            of_host = [1000 * seconds / calls for seconds in taken.host_cpu]
            yield _raw(f"overhead.{kind}.{name}.seconds", label, "s", taken.wall)
            yield _raw(f"overhead.{kind}.{name}.cpu", label, "ms of CPU a model call", per_call)
            yield _raw(
                f"overhead.{kind}.{name}.host_cpu", f"{label}, without claude", "ms of CPU a model call", of_host
            )
    fleet, bare = results["start", "fleet"], results["start", "bare"]
    start = f"{sizes.crowd} new agents and their first turn"
    yield _ratio("overhead.start", f"overhead: {start}", "", "x the time", (fleet.wall, bare.wall), {})
    yield _ratio("overhead.start.cpu", f"overhead: {start}", "", "x the CPU", (fleet.cpu, bare.cpu), {})
    for name, taken in (("fleet", fleet), ("bare", bare)):
        yield _raw(f"overhead.start.{name}.seconds", f"{name}, start", "s", taken.wall)
        yield _raw(f"overhead.start.{name}.cpu", f"{name}, start", "s of CPU", taken.cpu)


def _rates(kind: str, pace: str, crowd: int, sides: tuple[Sequence[float], Sequence[float]]) -> Iterator[Figure]:
    """How many turns a second all agents do together, on both sides; the goal follows from the bare SDK's rate."""
    fleet, bare = ([crowd / seconds for seconds in side] for side in sides)
    row = f"turns of 5 tool calls a second, {crowd} agents at once, {pace}, median"
    limit = round(statistics.median(bare) / GOAL, 3)
    goal = {"p50": limit} if kind == "thinking" else {}
    key, shown = f"overhead.{kind}.rate", ("p50",)
    yield Figure(key=key, row=row, part="Fleet", unit="a second", samples=fleet, shown=shown, goal=goal, at_least=True)
    yield Figure(key=f"{key}.bare", row=row, part="bare SDK", unit="a second", samples=bare, shown=shown)


def _ratio(
    key: str, row: str, part: str, unit: str, sides: tuple[Sequence[float], Sequence[float]], goal: dict[str, float]
) -> Figure:
    """The ratios of the pairs; the median of them counts."""
    ratios = [fleet / bare for fleet, bare in zip(*sides, strict=True)]
    return Figure(key=key, row=row, part=part, unit=unit, samples=ratios, shown=("p50",), goal=goal)


def _raw(key: str, part: str, unit: str, samples: Sequence[float]) -> Figure:
    return Figure(key=key, row="", part=part, unit=unit, samples=samples, shown=("min", "p50", "max"))
