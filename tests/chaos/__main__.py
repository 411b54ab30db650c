"""Kills daemons, doors, supervisors and programs at random under load, then checks every promise.

`python -m tests.chaos --kills 500 --seed 7`: prints progress and ends with one line of counts; exit code 1 if a turn
was lost or done twice, a process or lease was left, or a status was untrue. Real programs, a rehearsed model.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import psutil

from tests.chaos.load import Ledger, Orchestrator
from tests.chaos.place import Place, Program, placed
from tests.chaos.tally import Tally, shown, taken
from tests.chaos.watch import Watch

WEIGHTS = {"daemon": 3, "door": 2, "claude": 3, "shim": 2}
CALLS_BETWEEN = (1, 8)
PAUSE_SECONDS = (0.0, 0.6)
WORK_SECONDS = 8.0
IDLE_SPARED = 0.8
CREW = ("worker", "worker", "worker", "writer")
FINISH_SECONDS = 240.0
END_SECONDS = 15.0
EVERY_KILLS = 10


def main() -> int:
    """Run the chaos; 0 if all that must be 0 is."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    if sys.platform != "linux":
        print("chaos: processes are counted in /proc; this needs Linux", file=sys.stderr)
        return 2
    with placed() as place:
        try:
            tally, killed = _run(place, options.kills, random.Random(options.seed))
        finally:
            _end(place)  # also of a chaos that was interrupted
        print(shown(tally, killed))
        print(tally.line(sum(killed.values())), flush=True)
    return 0 if tally.is_clean else 1


def _run(place: Place, kills: int, dice: random.Random) -> tuple[Tally, Counter[str]]:
    ledger, watch = Ledger(), Watch(place)
    crew = [Orchestrator(place, ledger, number, persona) for number, persona in enumerate(CREW)]
    for thread in crew:
        thread.start()
    _until(lambda: len(ledger.promises) >= len(crew), "the first promises", END_SECONDS * 4)
    watch.start()
    killed = _kill(place, kills, dice, ledger)
    print(f"  no more kills; {len(ledger.promises)} turns were promised: they are to finish", flush=True)
    for thread in crew:
        thread.over.set()
    deadline = time.monotonic() + FINISH_SECONDS
    for thread in crew:
        thread.join(max(0.1, deadline - time.monotonic()))
    watch.over.set()
    watch.join()
    _delete_all(place, ledger)
    tally = taken(place, ledger, watch)
    _end(place)
    left = place.left()
    until = time.monotonic() + END_SECONDS
    while left and time.monotonic() < until:
        threading.Event().wait(0.2)
        left = place.left()
    tally.processes += left
    for line in left:
        with suppress(OSError):
            os.kill(int(line.split()[0]), signal.SIGKILL)
    return tally, killed


def _kill(place: Place, kills: int, dice: random.Random, ledger: Ledger) -> Counter[str]:
    """Kill so many processes at random moments; who dies is the dice's choice among those who live."""
    killed: Counter[str] = Counter()
    pause = threading.Event()
    began = time.monotonic()
    while (number := sum(killed.values())) < kills:
        _work_on(place, dice.randint(*CALLS_BETWEEN))
        pause.wait(dice.uniform(*PAUSE_SECONDS))
        alive: dict[str, list[Program]] = {}
        for program in place.programs():
            alive.setdefault(program.kind, []).append(program)
        kinds = [kind for kind in WEIGHTS if kind in alive]
        if not kinds or ("claude" not in alive and dice.random() < IDLE_SPARED):
            continue  # mostly under load: few kills fall between two sessions
        kind = dice.choices(kinds, [WEIGHTS[kind] for kind in kinds])[0]
        victim = dice.choice(alive[kind])
        with suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGKILL)
            killed[kind] += 1
        if (number + 1) % EVERY_KILLS == 0:
            seconds = time.monotonic() - began
            print(f"  {number + 1} kills, {len(ledger.promises)} turns promised, {seconds:.0f} s", flush=True)
    return killed


def _work_on(place: Place, calls: int) -> None:
    """Return once the model was called so often since, so that there is always work to lose; at most 8 s later."""
    deadline, wanted = time.monotonic() + WORK_SECONDS, place.model_calls() + calls
    while place.model_calls() < wanted and time.monotonic() < deadline:
        threading.Event().wait(0.05)


def _delete_all(place: Place, ledger: Ledger) -> None:
    """Delete every agent, as an orchestrator at the end of its work."""
    last = Orchestrator(place, ledger, 99, "worker")
    deadline = time.monotonic() + END_SECONDS * 4
    while last.call("delete_all_agents", {"scope": "project"}) is None and time.monotonic() < deadline:
        continue
    if last.door is not None:
        last.door.kill()


def _end(place: Place) -> None:
    """End the daemon in order."""
    pid = place.daemon_pid()
    if pid is None:
        return
    with suppress(psutil.Error):
        daemon = psutil.Process(pid)
        daemon.terminate()
        daemon.wait(END_SECONDS)


def _until(condition: Callable[[], bool], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"chaos: {what} did not come within {seconds:g} s")
        threading.Event().wait(0.05)


if __name__ == "__main__":
    sys.exit(main())
