"""The ledger, tests/requirements.toml, as values: every promise that Fleet makes."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """One promise; tests/requirements.toml says what each field means."""

    id: str
    source: str
    behaviour: str
    deferred: str | None = None
    promise: str | None = None
    bound: str | None = None


LEDGER = Path(__file__).with_suffix(".toml")
REQUIREMENTS = tuple(Requirement(id=key, **row) for key, row in tomllib.loads(LEDGER.read_text()).items())
