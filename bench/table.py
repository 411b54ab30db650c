"""The figures as the README's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.figures import Figure

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- bench -->\n", "<!-- /bench -->"
HEAD = ("| what | measured | goal |", "|---|---|---|")


def table(figures: Sequence[Figure], about: Mapping[str, object]) -> str:
    """One line for each row that figures name, in their order, and the machine below."""
    rows: dict[str, list[Figure]] = {}
    for figure in figures:
        if figure.row:
            rows.setdefault(figure.row, []).append(figure)
    lines = [_line(row, found) for row, found in rows.items()]
    return "\n".join([*HEAD, *lines, "", _about(about), ""])


def _line(row: str, figures: Sequence[Figure]) -> str:
    measured = "; ".join(figure.text() for figure in figures)
    goals = "; ".join(dict.fromkeys(filter(None, (figure.goal_text() for figure in figures))))
    return f"| {row} | {measured} | {goals} |"


def _about(about: Mapping[str, object]) -> str:
    return (
        f"On {about['cores']} cores ({about['processor']}), {about['memory_gb']} GB, {about['system']}, Python "
        f"{about['python']}, {about['date']}; load while it ran {about['load']}. All figures: `bench/results.json`."
    )


def write(text: str) -> None:
    """Put the table into the README's block."""
    readme = README.read_text(encoding="utf-8")
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{README.name} has no block {BEGIN.strip()} … {END}")
    README.write_text(before + begin + text + end + after, encoding="utf-8")
