"""Runs the measures, prints every figure, saves them in results.json and, on request, writes the README's table.

`python -m bench [--smoke] [--readme] [MEASURE …]`
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from bench import door, inbox, machine, memory, overhead, restart, sessions, stage, store, table, tokens, wake
from bench.figures import Figure

RESULTS = Path(__file__).with_name("results.json")
MEASURES: dict[str, Callable[[stage.Sizes], Iterator[Figure]]] = {
    "tokens": tokens.measure,
    "wake": wake.measure,
    "inbox": inbox.measure,
    "restart": restart.measure,
    "door": door.measure,
    "overhead": overhead.measure,
    "sessions": sessions.measure,
    "memory": memory.measure,
    "store": store.measure,
}


def main() -> int:
    """Run the measures that are asked for; 0 once all could be measured, whatever they say."""
    options = _options()
    if sys.platform != "linux":
        print("bench: memory and CPU are read from /proc; this needs Linux", file=sys.stderr)
        return 2
    stage.forget_this_machine()
    signal.signal(signal.SIGTERM, _leave)
    missed: list[str] = []
    for name in options.measures or MEASURES:
        figures, load = _measured(name, stage.SMOKE if options.smoke else stage.Sizes())
        missed += [figure.key for figure in figures if figure.missed]
        if not options.smoke:
            _save(name, figures, load)
    print(f"goals missed: {', '.join(missed) or 'none'}")
    if options.readme:
        table.write(table.table(_results()))
    return 0


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    """End in order, so that every process that was started ends, too."""
    sys.exit(128 + number)


def _measured(name: str, sizes: stage.Sizes) -> tuple[list[Figure], list[float]]:
    """The figures of one measure, and the machine's load before and after."""
    begun, load = time.monotonic(), machine.load()
    print(f"== {name} (load {load})", flush=True)
    figures: list[Figure] = []
    for figure in MEASURES[name](sizes):
        print(f"  {figure.line()}", flush=True)
        figures.append(figure)
    print(f"  {time.monotonic() - begun:.0f} s", flush=True)
    return figures, [load, machine.load()]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Fleet on the real thing.")
    parser.add_argument("--smoke", action="store_true", help="only try that everything can be measured, in tiny sizes")
    parser.add_argument(
        "--readme", action="store_true", help="then write README.md's table from all that is in results.json"
    )
    parser.add_argument("measures", nargs="*", choices=[*MEASURES, []], metavar="MEASURE", help=", ".join(MEASURES))
    options = parser.parse_args()
    if options.readme and options.smoke:
        parser.error("--readme wants real sizes, not --smoke")
    return options


def _results() -> dict[str, Any]:
    """What was measured so far."""
    if not RESULTS.exists():
        return {"machine": {}, "measures": {}}
    return json.loads(RESULTS.read_text(encoding="utf-8"))


def _save(name: str, figures: list[Figure], load: list[float]) -> None:
    """Put a measure's figures into results.json; what was measured on another machine goes."""
    results, facts = _results(), machine.facts()
    measures: dict[str, Any] = results["measures"] if results["machine"] == facts else {}
    date = dt.datetime.now(dt.UTC).date().isoformat()
    measures[name] = {"date": date, "load": load, "figures": {figure.key: figure.document() for figure in figures}}
    ordered = {each: measures[each] for each in MEASURES if each in measures}
    text = json.dumps({"machine": facts, "measures": ordered}, indent=2, ensure_ascii=False)
    RESULTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
