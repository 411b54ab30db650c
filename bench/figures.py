"""Types of results: figures with their unit, samples, statistics and goal."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

KILO = 1000.0


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured quantity.

    `row` is the line of the README's table that it stands in, `part` what it is called there beside others. `shown`
    names the statistics that tell most, `goal` limits some of them (from above, or from below if `at_least`).
    """

    key: str
    row: str
    part: str = ""
    unit: str
    samples: Sequence[float]
    shown: tuple[str, ...] = ("p50", "p99")
    goal: Mapping[str, float] = field(default_factory=dict[str, float])
    at_least: bool = False
    note: str = ""

    def statistic(self, name: str) -> float:
        """The value of `min`, `p50`, `p99`, `max` or `value` (of a single sample: itself)."""
        ordered = sorted(self.samples)
        match name:
            case "min":
                return ordered[0]
            case "max":
                return ordered[-1]
            case "p99":
                return ordered[math.ceil(0.99 * len(ordered)) - 1]
            case _:
                return statistics.median(ordered)

    @property
    def missed(self) -> tuple[str, ...]:
        """The statistics that miss their goal."""
        sign = -1.0 if self.at_least else 1.0
        return tuple(name for name, limit in self.goal.items() if sign * (self.statistic(name) - limit) > 0)

    def text(self) -> str:
        """The statistics that tell most, for a reader."""
        values = " / ".join(number(self.statistic(name)) for name in self.shown)
        return f"{self.part} {values} {self.unit}".strip()

    def goal_text(self) -> str:
        """The goal for a reader, and whether it was missed; '' without one."""
        if not self.goal:
            return ""
        limits = " / ".join(number(limit) for limit in self.goal.values())
        kind = "at least" if self.at_least else "at most"
        return f"{kind} {limits} {self.unit}".strip() + (" (missed)" if self.missed else "")

    def line(self) -> str:
        """Everything in one line."""
        names = dict.fromkeys(("min", "p50", "p99", "max") if len(self.samples) > 1 else ("p50",))
        values = ", ".join(f"{name} {number(self.statistic(name))}" for name in names)
        goal = f"  [{self.goal_text()}]" if self.goal else ""
        return f"{self.key:<34} {values} {self.unit} (n {len(self.samples)}){goal}"

    def document(self) -> dict[str, object]:
        """For results.json."""
        return {
            "row": self.row,
            "part": self.part,
            "text": self.text(),
            "unit": self.unit,
            "n": len(self.samples),
            **{name: round(self.statistic(name), 6) for name in ("min", "p50", "p99", "max")},
            "goal": self.goal_text(),
            "missed": list(self.missed),
            **({"note": self.note} if self.note else {}),
        }


def number(value: float) -> str:
    """The value for a reader, to three digits where it is small."""
    size = abs(value)
    if size >= KILO:
        return f"{value:,.0f}"
    if size >= KILO / 10 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"
