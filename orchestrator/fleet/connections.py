"""Which orchestrators are connected, and so which agents have lost theirs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from orchestrator import presence
from orchestrator.domain.tool import COMMAND_LINE, Caller

HEARD_SECONDS = 600.0
"""how long after its last request a client without a connection of its own counts as connected"""


class Connections:
    """Knows which orchestrators are connected to this daemon, or have a door that lives and will connect again."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._open = Counter[tuple[str, str]]()
        self._heard: dict[str, float] = {}

    @contextmanager
    def connected(self, caller: Caller) -> Generator[None]:
        """Count the caller as connected while the block runs."""
        who = (caller.project, caller.orchestrator)
        self._open[who] += 1
        try:
            yield
        finally:
            self._open[who] -= 1
            self._open += Counter()  # drops what is zero

    @contextmanager
    def heard(self, caller: Caller) -> Generator[None]:
        """Count the caller as connected while the block runs, and for ten minutes after: HTTP has no sign-off."""
        with self.connected(caller):
            yield
        now = time.monotonic()
        self._heard.pop(caller.orchestrator, None)
        self._heard[caller.orchestrator] = now
        for one in [one for one, at in self._heard.items() if now - at >= HEARD_SECONDS]:
            del self._heard[one]

    def in_project(self, project: str) -> set[str]:
        """Return the orchestrators that are connected to this project now, without the command line."""
        return {whose for where, whose in self._open if where == project and whose not in {"", COMMAND_LINE}}

    def gone(self, orchestrators: Iterable[str]) -> set[str]:
        """Return those of them that are not connected; the command line never goes."""
        return {one for one in set(orchestrators) if one != COMMAND_LINE and not self._is_here(one)}

    def _is_here(self, orchestrator: str) -> bool:
        heard = self._heard.get(orchestrator)
        if any(whose == orchestrator for _, whose in self._open) or (
            heard is not None and time.monotonic() - heard < HEARD_SECONDS
        ):
            return True
        return presence.is_held(self._state, orchestrator)
