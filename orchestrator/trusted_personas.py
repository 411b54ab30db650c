"""The persona files that a person trusts to do more than Fleet's own persona of that name, each by its hash.

They are one file in the state directory, which only the daemon writes. Another byte in a file is another file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from orchestrator import untrusted
from orchestrator.errors import StoreError

FILE = "trusted-personas.json"
MAX_BYTES = 1024 * 1024
MAX_TRUSTED = 1000


@dataclass(frozen=True, kw_only=True)
class TrustedFile:
    """A file as it was when it was trusted."""

    digest: str
    name: str
    path: str
    at: float


def read(state: Path) -> Sequence[TrustedFile]:
    """The trusted files, oldest first; none if none was ever trusted.

    Raises:
        StoreError: they cannot be read.
    """
    try:
        rows = cast("list[dict[str, Any]]", json.loads(untrusted.read(state, FILE, MAX_BYTES)))
        return [TrustedFile(**row) for row in rows]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(
            f"{state / FILE} cannot be read: {error}", hint="remove it, then trust personas again: fleet trust"
        ) from error


def write(state: Path, files: Sequence[TrustedFile]) -> None:
    """Replace the trusted files; beyond the limit the oldest are dropped.

    Raises:
        StoreError: they cannot be written.
    """
    rows = [asdict(one) for one in files[-MAX_TRUSTED:]]
    try:
        untrusted.write(state, FILE, json.dumps(rows, indent=1).encode())
    except OSError as error:
        raise StoreError(f"{state / FILE} cannot be written: {error}", hint="free some space") from error
