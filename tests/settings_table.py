"""Writes the table of settings in docs/reference.md from `Settings`: `python -m tests.settings_table --write`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from pydantic.fields import FieldInfo

from orchestrator.settings import Settings

PAGE = Path(__file__).parent.parent / "docs" / "reference.md"
THOUSANDS = 10_000
BEGIN, END = "<!-- settings -->\n", "<!-- /settings -->\n"


def updated(page: str) -> str:
    """The page with the table of today's settings."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} has no place for the settings: {BEGIN.strip()} … {END.strip()}")
    return before + begin + "\n".join(_rows()) + "\n" + end + after


def _rows() -> Iterator[str]:
    yield "| name | meaning | default |"
    yield "|---|---|---|"
    for field in Settings.model_fields.values():
        yield f"| `{field.alias}` | {field.description} | {_default(field)} |"


def _default(field: FieldInfo) -> str:
    """What applies without the variable: in the setting's own words, else its value."""
    if isinstance(extra := cast("object", field.json_schema_extra), dict):
        return str(cast("dict[str, object]", extra)["unset"])
    value: object = field.get_default()
    if isinstance(value, int | float):
        return f"{value:,g}" if value >= THOUSANDS else f"{value:g}"
    return f"`{value}`"


if __name__ == "__main__":
    fresh = updated(PAGE.read_text())
    if "--write" in sys.argv:
        PAGE.write_text(fresh)
    else:
        sys.stdout.write(fresh)
