"""Parses durations, and formats limits, ages and measurements."""

from __future__ import annotations

import re

from orchestrator.domain.text import named_value

MINUTE, HOUR, DAY = 60, 3_600, 86_400
HOURS_SHOWN = 48
"""ages from here on are shown in days"""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_UNITS = {"": 1.0, "s": 1.0, "m": float(MINUTE), "h": float(HOUR), "d": float(DAY)}


def parse_duration(value: object) -> float:
    """Return the seconds of `90`, `30s`, `5m`, `2h` or `1d`.

    Raises:
        ValueError: it is not a positive duration.
    """
    found = _DURATION.fullmatch(str(value).strip().lower())
    seconds = float(found[1]) * _UNITS[found[2]] if found and not isinstance(value, bool) else 0.0
    if seconds <= 0:
        raise ValueError(f"{named_value(value)} is not a duration such as 30s, 5m, 2h or 1d")
    return seconds


def format_duration(seconds: float) -> str:
    """Return a limit or time-out in its largest whole unit, exactly: 2h, 90m, 45s. `parse_duration` reads it back."""
    for unit in ("d", "h", "m"):
        if seconds >= _UNITS[unit] and seconds % _UNITS[unit] == 0:
            return f"{seconds / _UNITS[unit]:.12g}{unit}"
    return f"{seconds:.12g}s"


def format_elapsed(seconds: float) -> str:
    """Return a measured time with tenths of a second: 0.3s, 75.0s."""
    return f"{seconds:.1f}s"


def format_age(seconds: float | None) -> str:
    """Return an age or elapsed time, rounded down for a reader: 42s, 4m12s, 1h05m, 3d; ? if unknown."""
    if seconds is None:
        return "?"
    whole = max(0, int(seconds))
    if whole < MINUTE:
        return f"{whole}s"
    if whole < HOUR:
        return f"{whole // MINUTE}m{whole % MINUTE:02d}s"
    if whole < HOURS_SHOWN * HOUR:
        return f"{whole // HOUR}h{whole % HOUR // MINUTE:02d}m"
    return f"{whole // DAY}d"
