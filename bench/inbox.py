"""Measures how soon an agent continues after its permission is given, and that it holds nothing while it waits."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench import machine
from bench.figures import Figure
from bench.stage import Sizes, Stage, records, staged, wait
from tests.fixtures.daemon import Daemon
from tests.fixtures.raw_door import RawDoor

PERSONA = (
    "---\nname: careful\ndescription: asks before it uses a shell\ntools: Read\nask: [Bash]\n---\nYou are a test.\n"
)
TASK = "Run what needs a permission"
ANSWERED = "a permission to its agent's next model call, median / maximum"
PROCESSES = "processes of an agent that waits for an answer"
SHOWN = ("p50", "max")


def measure(sizes: Sizes) -> Iterator[Figure]:
    """One agent asks again and again; at last the daemon is replaced while it waits."""
    with staged() as stage:
        folder = stage.project / ".fleet" / "agents"
        folder.mkdir(parents=True)
        (folder / "careful.md").write_text(PERSONA, encoding="utf-8")
        held: list[float] = []
        with stage.daemon() as daemon:
            door = stage.door(CLAUDE_CODE_SESSION_ID="answering")
            door.tool("create_agent", {"name": "careful", "persona": "careful", "task": TASK})
            live = [_answered(stage, door, daemon, held) for _ in range(sizes.answers)]
            assert "NEEDS YOU careful" in wait(door, ["careful"])
        with stage.daemon() as daemon:
            door = stage.door(CLAUDE_CODE_SESSION_ID="answering later")
            restarted = [_answered(stage, door, daemon, held)]
    yield Figure(key="inbox.answer", row=ANSWERED, part="", unit="s", samples=live, shown=SHOWN, goal={"max": 0.5})
    yield Figure(
        key="inbox.restarted", row=ANSWERED, part="by another daemon", unit="s", samples=restarted, shown=("value",)
    )
    yield Figure(key="inbox.processes", row=PROCESSES, unit="", samples=held, shown=("max",), goal={"max": 0})


def _answered(stage: Stage, door: RawDoor, daemon: Daemon, held: list[float]) -> float:
    """Seconds from the answer to the next call of the model; the agent is then asked to ask again."""
    told = wait(door, ["careful"])
    assert "NEEDS YOU careful" in told, told
    held.append(len(machine.tree(daemon.pid)) - 1)
    calls = len(records(stage))
    begun = time.time()
    door.tool("command_agent", {"agent": "careful", "task": "allow"})
    wait(door, ["careful"])
    took = records(stage)[calls]["time"] - begun
    door.tool("command_agent", {"agent": "careful", "task": TASK})
    return took
