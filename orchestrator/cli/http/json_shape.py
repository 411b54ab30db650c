"""JSON from elsewhere, read without trusting its shape."""

from __future__ import annotations

from typing import cast


def as_object(value: object) -> dict[str, object]:
    """The JSON object, or an empty one for anything else."""
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def as_list(value: object) -> list[object]:
    """The JSON array, or an empty one for anything else."""
    return cast("list[object]", value) if isinstance(value, list) else []
