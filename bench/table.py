"""Renders the figures as the README's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- bench -->\n", "<!-- /bench -->"
HEAD = ("| what | measured | goal |", "|---|---|---|")


Document = Mapping[str, Any]


def table(results: Document) -> str:
    """One line for each row that figures name, in their order, and the machine below."""
    rows: dict[str, list[Document]] = {}
    for measure in results["measures"].values():
        for figure in measure["figures"].values():
            if figure["row"]:
                rows.setdefault(figure["row"], []).append(figure)
    lines = [_line(row, found) for row, found in rows.items()]
    return "\n".join([*HEAD, *lines, "", *_about(results), ""])


def _line(row: str, figures: Sequence[Document]) -> str:
    measured = "; ".join(figure["text"] for figure in figures)
    goals = "; ".join(dict.fromkeys(figure["goal"] for figure in figures if figure["goal"]))
    return f"| {row} | {measured} | {goals} |"


def _about(results: Document) -> Sequence[str]:
    machine = results["machine"]
    dates = sorted({measure["date"] for measure in results["measures"].values()})
    loads = [load for measure in results["measures"].values() for load in measure["load"]]
    where = f"{machine['cores']} cores ({machine['processor']}), {machine['memory_gb']} GB, {machine['system']}"
    return (
        f"On {where}, Python {machine['python']}, {' to '.join(dict.fromkeys((dates[0], dates[-1])))};",
        f"the machine was also running other work (load average {min(loads)} to {max(loads)}).",
    )


def write(text: str) -> None:
    """Put the table into the README's block."""
    readme = README.read_text(encoding="utf-8")
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{README.name} has no block {BEGIN.strip()} … {END}")
    README.write_text(before + begin + text + end + after, encoding="utf-8")
