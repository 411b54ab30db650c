"""Writes the table of docs/guarantees.md from the ledger and the tests' marks: `python -m tests.guarantees --write`."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.marks import places
from tests.requirements import REQUIREMENTS, Requirement

PAGE = Path(__file__).parent.parent / "docs" / "guarantees.md"
START, END = "<!-- table -->\n", "<!-- end of table -->"
HEAD = "| | you can rely on this | bound | shown by |\n|---|---|---|---|\n"
GUARANTEES = tuple(each for each in REQUIREMENTS if each.id.startswith("guarantee:"))


def number_of(guarantee: Requirement) -> str:
    """Its short name on the page, as `G7`: the last word of its source."""
    return guarantee.source.rsplit(maxsplit=1)[-1]


def table() -> str:
    """One row for each guarantee that is kept today, in the order of the ledger."""
    marked = places()
    rows: list[str] = []
    for each in GUARANTEES:
        if each.deferred is None:
            shown = ", ".join(f"`{path}`" for path in sorted({path.as_posix() for path, _ in marked.get(each.id, [])}))
            rows.append(f"| {number_of(each)} | {each.promise} | {each.bound} | {shown} |\n")
    return HEAD + "".join(rows)


def updated(page: str) -> str:
    """The page with its table written anew; its prose stays."""
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    return before + start + table() + end + after


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(updated(PAGE.read_text()))
    elif updated(PAGE.read_text()) != PAGE.read_text():
        sys.exit(f"{PAGE} is out of date: run `make docs`")
