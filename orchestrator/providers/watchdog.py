"""Detects sessions that have gone silent: a hung model and a stopped process both send no message at all."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SilenceLimits:
    """Seconds of silence after which a run is reported as stalled, and after which it is ended (other limit in a tool).

    A model that writes one very long block is silent meanwhile (messages arrive whole), so `silence_seconds` is far
    above `stall_seconds`.
    """

    stall_seconds: float = 120.0
    silence_seconds: float = 900.0
    tool_seconds: float = 3600.0


class Watchdog:
    """Measures how long one run has been silent."""

    def __init__(self, limits: SilenceLimits) -> None:
        self._limits = limits
        self._silent_since = time.monotonic()
        self._is_reported = False

    def reset(self, pause_seconds: float = 0.0) -> None:
        """Note a message; a silence counts only after the announced pause of `pause_seconds`."""
        self._silent_since = time.monotonic() + pause_seconds
        self._is_reported = False

    def silent_seconds(self) -> float:
        """Seconds of silence so far."""
        return max(0.0, time.monotonic() - self._silent_since)

    def is_newly_stalled(self, *, in_tool: bool) -> bool:
        """Whether to report the silence now: true once per silence, and never while a tool runs."""
        if in_tool or self._is_reported or self.silent_seconds() < self._limits.stall_seconds:
            return False
        self._is_reported = True
        return True

    def has_expired(self, *, in_tool: bool) -> bool:
        """Whether the silence has lasted so long that the run must be ended."""
        return self.silent_seconds() >= self._limit(in_tool)

    def wait_seconds(self, *, in_tool: bool) -> float:
        """How long to wait for a message before checking again."""
        limit = self._limit(in_tool) if in_tool or self._is_reported else self._limits.stall_seconds
        return max(0.01, limit - (time.monotonic() - self._silent_since))

    def _limit(self, in_tool: bool) -> float:
        return self._limits.tool_seconds if in_tool else self._limits.silence_seconds
