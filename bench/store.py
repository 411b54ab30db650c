"""Measures the store below the verbs: reads of a large database, and writes by many sessions."""

from __future__ import annotations

import asyncio
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from bench import machine
from bench.figures import Figure
from bench.past import give_past, session_facts, workers
from bench.stage import Sizes, Stage, command_all, create_all, staged, wait
from orchestrator.store.engine.database import Store, open_store
from orchestrator.store.turns import events
from orchestrator.store.turns.turns import Claim
from tests.fixtures.raw_door import RawDoor

SESSIONS = 64
BATCH = 20
"""events that a busy session reports in 20 ms"""
TICK_SECONDS = 0.005
WORKING, TASK = 2, "Read five times, thinking"
"""agents at work while totals are read, and what they do"""


def measure(sizes: Sizes) -> Iterator[Figure]:
    """Status with many agents and events stored, through a door; then events written as sessions write them."""
    yield from _looks(sizes)
    cpu = time.process_time()
    seconds, lags = asyncio.run(_write(sizes))
    cpu = time.process_time() - cpu
    row = f"events recorded by {SESSIONS} sessions at once"
    rate = sizes.written_events / seconds
    yield Figure(
        key="store.events",
        row=row,
        unit="a second",
        samples=[rate],
        shown=("value",),
        goal={"value": 10_000},
        at_least=True,
    )
    micro = 1e6 * cpu / sizes.written_events
    yield Figure(key="store.events.cpu", row=row, part="CPU", unit="us an event", samples=[micro], shown=("value",))
    yield Figure(
        key="store.lag", row=row, part="event-loop lag p99", unit="ms", samples=lags, shown=("p99",), goal={"p99": 20}
    )


def _looks(sizes: Sizes) -> Iterator[Figure]:
    agents, facts = sizes.recorded_agents, sizes.recorded_events // sizes.recorded_agents
    with staged() as stage:
        begun = time.perf_counter()
        give_past(stage.state, stage.project, agents, facts=facts)
        note = f"the past was written in {time.perf_counter() - begun:.1f} s"
        ((stored,),) = stage.query("SELECT count(*) FROM event")
        with stage.daemon() as daemon:
            door = stage.door()
            names = [f"past-{number:05d}" for number in random.Random(7).choices(range(agents), k=sizes.looks)]
            before = machine.own_cpu_seconds(daemon.pid)
            one = [_look(door, [name]) for name in names]
            cpu = 1000 * (machine.own_cpu_seconds(daemon.pid) - before) / len(one)
            with _Busy(stage):
                totals = [_look(door, []) for _ in range(sizes.looks)]
    with_much = f"with {agents:,} agents and {stored:,} events, p50 / p99"
    row = f"status of one agent {with_much}"
    yield Figure(key="status.one", row=row, unit="ms", samples=one, goal={"p99": 5.0}, note=note)
    yield Figure(key="status.one.cpu", row=row, part="daemon's CPU", unit="ms", samples=[cpu], shown=("value",))
    note = f"{WORKING} agents are at work meanwhile"
    row = f"fleet totals {with_much}"
    yield Figure(key="status.totals", row=row, unit="ms", samples=totals, goal={"p99": 20.0}, note=note)


class _Busy:
    """Agents that work, turn after turn, as long as the block runs: the daemon writes while it is read."""

    def __init__(self, stage: Stage) -> None:
        self._door = stage.door(CLAUDE_CODE_SESSION_ID="busy")
        self._names = [f"busy-{number}" for number in range(WORKING)]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Self:
        create_all(self._door, self._names, TASK)
        wait(self._door, self._names)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._over.is_set():
            command_all(self._door, self._names, TASK)
            wait(self._door, self._names)


def _look(door: RawDoor, names: Sequence[str]) -> float:
    """Milliseconds of one call at the door."""
    begun = time.perf_counter()
    door.tool("get_agent_status", {"agents": list(names)} if names else {})
    return (time.perf_counter() - begun) * 1000


async def _write(sizes: Sizes) -> tuple[float, list[float]]:
    """Seconds that the writing took, and the event loop's lags in milliseconds meanwhile."""
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as place:
        async with open_store(Path(place) / "fleet.db") as store:
            claims = await workers(store, Path(place), SESSIONS)
            batches = sizes.written_events // SESSIONS // BATCH
            lags: list[float] = []
            watching = asyncio.create_task(_watch(lags))
            begun = time.perf_counter()
            await asyncio.gather(*(_session(store, claim, batches) for claim in claims))
            seconds = time.perf_counter() - begun
            watching.cancel()
            written = SESSIONS * BATCH * batches
    return seconds * sizes.written_events / written, lags


async def _session(store: Store, claim: Claim, batches: int) -> None:
    for _ in range(batches):
        await store.write(events.append, claim, session_facts(BATCH))


async def _watch(lags: list[float]) -> None:
    while True:
        begun = time.perf_counter()
        await asyncio.sleep(TICK_SECONDS)
        lags.append((time.perf_counter() - begun - TICK_SECONDS) * 1000)
