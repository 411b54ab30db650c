"""Measures memory and idle CPU: an empty daemon, working agents, and idle agents."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from bench import machine
from bench.figures import Figure
from bench.past import give_past
from bench.stage import Sizes, Stage, create_all, staged
from tests.fixtures.daemon import Daemon, wait_until
from tests.fixtures.raw_door import RawDoor

RESTING_GOAL_MB, GOAL_AGENTS = 60.0, 10_000
IDLE_GOAL_PERCENT = 1.0
SETTLE_SECONDS = 2.0


def measure(sizes: Sizes) -> Iterator[Figure]:
    """An empty daemon, then one and a crowd of agents in the middle of a turn, then crowds that only rest."""
    with staged(sizes.crowd) as stage:
        give_past(stage.state, stage.project, 0)  # a database, so that no daemon here has to make it
        with stage.daemon() as daemon:
            door = stage.door()
            door.tool("get_agent_status")
            threading.Event().wait(SETTLE_SECONDS)
            heap = _heap(daemon)
            yield _memory("memory.empty", "memory of an empty daemon", "", machine.pss_mb([daemon.pid]))
            yield from _working(door, daemon, 1)
            yield from _working(door, daemon, sizes.crowd)
            door.tool("delete_all_agents")
    for count in sizes.resting:
        yield from _resting(sizes, count, heap)


def _memory(
    key: str, row: str, part: str, size: float, *, goal: dict[str, float] | None = None, note: str = ""
) -> Figure:
    return Figure(key=key, row=row, part=part, unit="MB", samples=[size], shown=("value",), goal=goal or {}, note=note)


def _working(door: RawDoor, daemon: Daemon, count: int) -> Iterator[Figure]:
    """So many agents, each behind its first tool call and in the middle of a model call."""
    names = [f"worker-{count}-{number}" for number in range(count)]
    door.tool("delete_all_agents")
    create_all(door, names, "Work for long")
    wait_until(lambda: _is_at_work(door, names), "agents at work", seconds=60)
    threading.Event().wait(SETTLE_SECONDS)
    of_daemon = machine.pss_mb([daemon.pid])
    pids = [pid for pid in machine.tree(daemon.pid) if pid != daemon.pid]
    of_agents = machine.pss_mb(pids)
    note = f"{len(machine.programs('claude') - set(pids))} foreign claude processes shared the program's pages"
    row = f"memory of {count} working agent{'s' if count > 1 else ''}"
    yield _memory(f"memory.working.{count}.agent", row, "each", of_agents / count, note=note)
    yield _memory(f"memory.working.{count}.daemon", row, "daemon", of_daemon)
    yield _memory(f"memory.working.{count}", row, "together", of_agents + of_daemon, note=note)


def _is_at_work(door: RawDoor, names: list[str]) -> bool:
    text = door.tool("get_agent_status", {"agents": names})
    return text.count('last "Read') == len(names)


def _heap(daemon: Daemon) -> float:
    return machine.pss_mb(machine.tree(daemon.pid), kind="Pss_Anon")


def _resting(sizes: Sizes, count: int, heap: float) -> Iterator[Figure]:
    """So many agents, whose past the store's own operations wrote, under a daemon that starts on them."""
    row = f"memory of {count:,} resting agents"
    goal = {"value": RESTING_GOAL_MB} if count >= GOAL_AGENTS else {}
    with staged() as stage:
        give_past(stage.state, stage.project, count)
        with stage.daemon() as daemon:
            yield from _rest(stage, daemon, sizes, (f"memory.resting.{count}", row, heap, goal))


def _rest(
    stage: Stage, daemon: Daemon, sizes: Sizes, about: tuple[str, str, float, dict[str, float]]
) -> Iterator[Figure]:
    key, row, heap, goal = about
    door = stage.door()
    door.tool("get_agent_status", {"agents": ["past-00000"]})
    threading.Event().wait(SETTLE_SECONDS)
    before = machine.cpu_seconds(daemon.pid)
    threading.Event().wait(sizes.idle_seconds)
    share = 100 * (machine.cpu_seconds(daemon.pid) - before) / sizes.idle_seconds
    pids = machine.tree(daemon.pid)
    yield _memory(key, row, "daemon's growth", _heap(daemon) - heap, goal=goal)
    shown = ("value",)
    yield Figure(key=f"{key}.processes", row=row, unit="processes", samples=[len(pids) - 1], shown=shown)
    idle = {"value": IDLE_GOAL_PERCENT} if goal else {}
    yield Figure(key=f"{key}.cpu", row=row, unit="% of a core", samples=[share], shown=shown, goal=idle)
    door.tool("get_agent_status")
    yield _memory(f"{key}.looked_at", row, "growth once all were listed", _heap(daemon) - heap)
