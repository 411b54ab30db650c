"""Reads JSON of unknown shape without trusting it."""

from __future__ import annotations

from typing import cast


def as_object(value: object) -> dict[str, object]:
    """Return the value if it is a JSON object, otherwise an empty one."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def as_list(value: object) -> list[object]:
    """Return the value if it is a JSON array, otherwise an empty one."""
    return cast("list[object]", value) if isinstance(value, list) else []
