"""Measure, print every figure, write results.json and, if asked to, the README's table.

`python -m bench [--smoke] [--readme] [MEASURE …]`
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import door, machine, memory, overhead, stage, store, table, tokens, wake
from bench.figures import Figure

RESULTS = Path(__file__).with_name("results.json")
MEASURES: dict[str, Callable[[stage.Sizes], Iterator[Figure]]] = {
    "tokens": tokens.measure,
    "wake": wake.measure,
    "door": door.measure,
    "overhead": overhead.measure,
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
    sizes = stage.SMOKE if options.smoke else stage.Sizes()
    figures: list[Figure] = []
    loads = [machine.load()]
    for name in options.measures or MEASURES:
        begun = time.monotonic()
        print(f"== {name} (load {machine.load()})", flush=True)
        for figure in MEASURES[name](sizes):
            print(f"  {figure.line()}", flush=True)
            figures.append(figure)
        loads.append(machine.load())
        print(f"  {time.monotonic() - begun:.0f} s", flush=True)
    missed = [figure.key for figure in figures if figure.missed]
    print(f"goals missed: {', '.join(missed) or 'none'}")
    if not options.smoke and not options.measures:
        _write(figures, loads, readme=options.readme)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Fleet on the real thing.")
    parser.add_argument("--smoke", action="store_true", help="only try that everything can be measured, in tiny sizes")
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    parser.add_argument("measures", nargs="*", choices=[*MEASURES, []], metavar="MEASURE", help=", ".join(MEASURES))
    options = parser.parse_args()
    if options.readme and (options.smoke or options.measures):
        parser.error("--readme needs all measures in full size")
    return options


def _write(figures: list[Figure], loads: list[float], *, readme: bool) -> None:
    about = {
        **machine.facts(),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "load": f"{min(loads):.1f} to {max(loads):.1f}",
    }
    document = {"machine": about, "figures": {figure.key: figure.document() for figure in figures}}
    text = json.dumps(document, indent=2, ensure_ascii=False)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    print(f"written: {os.path.relpath(RESULTS)}")
    if readme:
        table.write(table.table(figures, about))


if __name__ == "__main__":
    sys.exit(main())
