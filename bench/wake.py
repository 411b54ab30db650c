"""How soon a sleeping orchestrator wakes, and how soon an agent goes on once it is answered."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.figures import Figure
from bench.stage import Sizes, Stage, create_all, records, staged, wait
from tests.fixtures.daemon import wait_until
from tests.fixtures.raw_door import RawDoor

ROW = "wake: end of an agent to bytes at a blocked door, p50 / p99"
GOAL = {"p50": 2.0, "p99": 10.0}
NOTE = (
    "from the time that the terminal event carries, which is taken before its transaction: the commit itself is "
    "part of the figure"
)
END = "SELECT at FROM event WHERE kind = 'turn.complete' ORDER BY id DESC LIMIT 1"
WAITING = 8


def measure(sizes: Sizes) -> Iterator[Figure]:
    """A resting agent is commanded again and again; a door sleeps on it each time, alone and beside others."""
    with staged() as stage, stage.daemon():
        door = stage.door(CLAUDE_CODE_SESSION_ID="sleeper")
        create_all(door, ["rester"], "Say one word")
        wait(door, ["rester"])
        yield _figure("idle", [_wake(stage, door) for _ in range(sizes.wakes)], "idle")
        create_all(door, ["worker"], "Work for long")
        for number in range(WAITING):
            other = stage.door(CLAUDE_CODE_SESSION_ID=f"other-{number}")
            other.post_tool("wait_for_agents", {"agents": ["worker"]})
        wait_until(lambda: "last Read" in door.tool("get_agent_status", {"agents": ["worker"]}), "a worker at work")
        samples = [_wake(stage, door) for _ in range(sizes.wakes)]
        yield _figure("crowded", samples, f"with {WAITING} other doors asleep")
        yield _answers(stage, door, sizes)


def _figure(key: str, samples: list[float], part: str) -> Figure:
    return Figure(key=f"wake.{key}", row=ROW, part=part, unit="ms", samples=samples, goal=GOAL, note=NOTE)


def _wake(stage: Stage, door: RawDoor) -> float:
    """Milliseconds from the agent's end to the digest at the door."""
    door.tool("command_agent", {"agent": "rester", "task": "Say one word"})
    asked = door.post_tool("wait_for_agents", {"agents": ["rester"]})
    door.answer(asked)
    arrived = time.time()
    ((ended,),) = stage.query(END)
    return (arrived - ended) * 1000


def _answers(stage: Stage, door: RawDoor, sizes: Sizes) -> Figure:
    create_all(door, ["asker"], "Ask me")
    samples: list[float] = []
    for number in range(sizes.answers):
        if number:
            door.tool("command_agent", {"agent": "asker", "task": "Ask me"})
        assert "NEEDS YOU asker" in wait(door, ["asker"])
        calls = len(records(stage))
        begun = time.time()
        door.tool("command_agent", {"agent": "asker", "task": "yes"})
        wait(door, ["asker"])
        samples.append(records(stage)[calls]["time"] - begun)
    row = "an answer to a waiting agent to its next model call, median / maximum"
    shown = ("p50", "max")
    return Figure(key="wake.answer", row=row, unit="s", samples=samples, shown=shown, goal={"max": 0.5})
