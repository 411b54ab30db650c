"""Measures how soon a waiting orchestrator wakes, and how soon an agent continues after an answer."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from bench.figures import Figure
from bench.stage import Sizes, Stage, create_all, records, staged, wait
from orchestrator import paths
from tests.fixtures.daemon import DEADLINE_SECONDS, wait_until
from tests.fixtures.raw_door import RawDoor

ROW = "wake: end of an agent to bytes at a waiting door, p50 / p99"
GOAL = {"p50": 2.0, "p99": 10.0}
NOTE = "a second reader of the database looks every 0.2 ms for the commit, so the figure may be that much too small"
AT_ROW = "wake: time of the terminal event (before its transaction) to bytes at the door, p50 / p99"
END = "SELECT at FROM event WHERE kind = 'turn.complete' ORDER BY id DESC LIMIT 1"
WAITING = 8
LOOK_SECONDS = 0.0002


@dataclass(frozen=True)
class Wake:
    """Milliseconds to the digest at the door: from the commit, and from the time that the event carries."""

    from_commit: float
    from_event: float
    committed: float
    """when, in seconds since the epoch"""


class _Poller:
    """The pattern's orchestrator: it looks every few seconds, whatever happens."""

    def __init__(self, stage: Stage, seconds: float) -> None:
        self._door = stage.door(CLAUDE_CODE_SESSION_ID="poller")
        self._seconds = seconds
        self._looks: list[tuple[float, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._poll)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def looks(self) -> int:
        """How often it has looked."""
        return len(self._looks)

    def known_after(self, at: float) -> float | None:
        """Milliseconds from an end until it was known by the first look that began behind it; None: by none."""
        told = (told for begun, told in self._looks if begun > at)
        return next((1000 * (moment - at) for moment in told), None)

    def _poll(self) -> None:
        while not self._over.wait(self._seconds):
            begun = time.time()
            self._door.tool("get_agent_status", {"agents": ["rester"]})
            self._looks.append((begun, time.time()))


class _Lookout:
    """Notes when the end of a turn can first be seen by somebody else: that is its commit."""

    def __init__(self, stage: Stage) -> None:
        self._path = paths.database_path(stage.state)
        self._seen: queue.SimpleQueue[float] = queue.SimpleQueue()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def last(self) -> float:
        """When the last end was committed."""
        at = self._seen.get(timeout=DEADLINE_SECONDS)
        while not self._seen.empty():
            at = self._seen.get()
        return at

    def _look(self) -> None:
        connection = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)
        before = self._ended(connection)
        while not self._over.is_set():
            if (now := self._ended(connection)) != before:
                self._seen.put(time.time())
                before = now
            time.sleep(LOOK_SECONDS)
        connection.close()

    @staticmethod
    def _ended(connection: sqlite3.Connection) -> int:
        return int(connection.execute("SELECT coalesce(max(outcome_cursor), 0) FROM turn").fetchone()[0])


def measure(sizes: Sizes) -> Iterator[Figure]:
    """A resting agent is commanded again and again; a door sleeps on it each time, alone and beside others."""
    with staged() as stage, stage.daemon():
        door = stage.door(CLAUDE_CODE_SESSION_ID="sleeper")
        create_all(door, ["rester"], "Say one word")
        wait(door, ["rester"])
        with _Poller(stage, sizes.poll_seconds) as poller:
            idle = _wakes(stage, door, sizes.wakes)
            while poller.looks() < sizes.polls:
                idle += _wakes(stage, door, 1)
        yield from _figures("idle", idle, "idle")
        polled = [after for wake in idle if (after := poller.known_after(wake.committed)) is not None]
        part, note = f"polling every {sizes.poll_seconds:g} s", "each end is found by the next poll after it"
        yield Figure(key="wake.polling", row=ROW, part=part, unit="ms", samples=polled, note=note)
        create_all(door, ["worker"], "Work for long")
        for number in range(WAITING):
            other = stage.door(CLAUDE_CODE_SESSION_ID=f"other-{number}")
            other.post_tool("wait_for_agents", {"agents": ["worker"]})
        wait_until(lambda: 'last "Read' in door.tool("get_agent_status", {"agents": ["worker"]}), "a worker at work")
        yield from _figures("crowded", _wakes(stage, door, sizes.wakes), f"with {WAITING} other doors waiting")
        yield _answers(stage, door, sizes)


def _figures(key: str, wakes: list[Wake], part: str) -> Iterator[Figure]:
    from_commit = [wake.from_commit for wake in wakes]
    yield Figure(key=f"wake.{key}", row=ROW, part=part, unit="ms", samples=from_commit, goal=GOAL, note=NOTE)
    from_event = [wake.from_event for wake in wakes]
    yield Figure(key=f"wake.{key}.from_event", row=AT_ROW, part=part, unit="ms", samples=from_event)


def _wakes(stage: Stage, door: RawDoor, count: int) -> list[Wake]:
    with _Lookout(stage) as lookout:
        return [_wake(stage, door, lookout) for _ in range(count)]


def _wake(stage: Stage, door: RawDoor, lookout: _Lookout) -> Wake:
    door.tool("command_agent", {"agent": "rester", "task": "Say one word"})
    asked = door.post_tool("wait_for_agents", {"agents": ["rester"]})
    door.answer(asked)
    arrived = time.time()
    ((ended,),) = stage.query(END)
    committed = lookout.last()
    return Wake((arrived - committed) * 1000, (arrived - ended) * 1000, committed)


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
