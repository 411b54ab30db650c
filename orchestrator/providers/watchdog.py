"""The watch over a session that says nothing: a hung model and a stopped process send no message at all."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SilenceLimits:
    """Seconds without any sign of life until it is reported, until the run is given up, and the same inside a tool.

    A model that writes one very long block says nothing meanwhile either (messages come whole), so `silence_seconds`
    stays far above `stall_seconds`.
    """

    stall_seconds: float = 120.0
    silence_seconds: float = 900.0
    tool_seconds: float = 3600.0


class Watchdog:
    """Knows how long a run has been silent; one per run."""

    def __init__(self, limits: SilenceLimits) -> None:
        self._limits = limits
        self._quiet_from = time.monotonic()
        self._is_reported = False

    def hear(self, pause_seconds: float = 0.0) -> None:
        """Something came; nothing more is expected for the next `pause_seconds`."""
        self._quiet_from = time.monotonic() + pause_seconds
        self._is_reported = False

    def quiet_seconds(self) -> float:
        """Seconds of silence so far."""
        return max(0.0, time.monotonic() - self._quiet_from)

    def is_stalled(self, *, in_tool: bool) -> bool:
        """Whether the silence is to be reported now: once in a silence, and not while a tool runs."""
        if in_tool or self._is_reported or self.quiet_seconds() < self._limits.stall_seconds:
            return False
        self._is_reported = True
        return True

    def is_over(self, *, in_tool: bool) -> bool:
        """Whether the run is to be given up."""
        return self.quiet_seconds() >= self._last(in_tool)

    def wait_seconds(self, *, in_tool: bool) -> float:
        """How long to wait for the next sign before asking again."""
        limit = self._last(in_tool) if in_tool or self._is_reported else self._limits.stall_seconds
        return max(0.01, limit - (time.monotonic() - self._quiet_from))

    def _last(self, in_tool: bool) -> float:
        return self._limits.tool_seconds if in_tool else self._limits.silence_seconds
