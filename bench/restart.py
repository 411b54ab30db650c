"""Measures how soon work and waits continue after the daemon was killed in the middle of a turn."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

from bench.figures import Figure
from bench.stage import Sizes, Stage, create_all, records, staged
from tests.fixtures.daemon import Daemon, wait_until
from tests.fixtures.raw_door import RawDoor, end_daemon, text_of

TASK = "Read once, then think for a second"
THINKING_SECONDS = 1.0
ROW = "kill -9 of the daemon in the middle of a turn, median / maximum"
GOAL = {"p50": 1.5}
NOTE = "the same goal as a cold start has"
SHOWN = ("p50", "max")


def measure(sizes: Sizes) -> Iterator[Figure]:
    """Each time a door sleeps on an agent whose model thinks; it starts the next daemon and is answered by it."""
    called: list[float] = []
    answered: list[float] = []
    with staged() as stage:
        door = stage.door(CLAUDE_CODE_SESSION_ID="sleeper")
        try:
            for number in range(sizes.restarts):
                again, told = _killed(stage, door, f"survivor-{number}")
                called.append(again)
                answered.append(told)
        finally:
            door.kill()  # the daemon is its child: it alone could see that it has ended
            end_daemon(stage.state)
    yield Figure(
        key="restart.model",
        row=ROW,
        part="until the model is called again",
        unit="s",
        samples=called,
        shown=SHOWN,
        goal=GOAL,
        note=NOTE,
    )
    yield Figure(
        key="restart.sleeper",
        row=ROW,
        part="until the waiting door has its digest (without the model's own second)",
        unit="s",
        samples=answered,
        shown=SHOWN,
    )


def _killed(stage: Stage, door: RawDoor, name: str) -> tuple[float, float]:
    """Seconds until the model is called again, and until the sleeper is told."""
    create_all(door, [name], TASK)
    asked = door.post_tool("wait_for_agents", {"agents": [name]})
    wait_until(lambda: _thinks(stage, name), "a model that thinks", seconds=60)
    killed = time.time()
    os.kill(Daemon(stage.state, stage.environment).pid, signal.SIGKILL)
    digest = text_of(door.answer(asked))
    told = time.time()
    assert f"[{name} complete" in digest, digest
    # its last call is the first of the next daemon: an earlier one may have arrived as its program died
    again = max(record["time"] for record in records(stage) if record.get("agent") == name)
    return again - killed, told - killed - THINKING_SECONDS


def _thinks(stage: Stage, name: str) -> bool:
    """Whether the agent's tool has given its result and the next call of the model is under way."""
    sql = "SELECT 1 FROM event JOIN agent ON agent.id = event.agent_id WHERE agent.name = ? AND kind = 'tool.ended'"
    return bool(stage.query(sql, name))
