"""Signs that an agent moves, or does not: what is counted and shown. Evidence for who decides, never a verdict."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

from orchestrator.domain.check import CHECKING
from orchestrator.domain.tool import Json

LOOPING = "looping: "
UNKNOWN = "unknown: "
STALLED = "stalled "
RETRYING = "retrying "
QUIET = (LOOPING, UNKNOWN, STALLED, RETRYING)
"""reasons of an agent at work that its orchestrator may want to look at"""
SLACK_SECONDS = 30.0
_STALLED_FOR = re.compile(rf"{STALLED}(\d+) s$")
_RETRYING_IN = re.compile(rf"{RETRYING}\d+/\d+ in (\d+) s$")


def fingerprint(tool: str, arguments: Json) -> str:
    """The same for two calls exactly if they name the same tool with the same input, whatever order its keys have."""
    text = json.dumps([tool, arguments], sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Streak:
    """How often the last call of a tool was made in a row."""

    call: str = ""
    times: int = 0

    def then(self, call: str) -> Streak:
        """The streak after this call."""
        return Streak(call=call, times=self.times + 1 if call == self.call else 1)

    def begins_to_loop(self, limit: int) -> bool:
        """Whether the last call made it a loop: true once in a streak."""
        return self.times == limit

    def loops(self, limit: int) -> bool:
        """Whether it is a loop."""
        return self.times >= limit


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How old the last sign of an agent at work may be before its status is called unknown."""

    quiet_seconds: float
    """outside of tools; twice what makes it `stalled`"""
    tool_seconds: float
    """while a tool runs"""

    def doubt(self, reason: str, quiet_seconds: float, *, in_tool: bool, check_seconds: float = 0.0) -> str:
        """The reason to show for an agent at work: its own, or that nobody knows how it stands.

        A pause that was announced, and the time that a check may take (`check_seconds`), do not count as silence.
        """
        quiet = quiet_seconds + _seconds(_STALLED_FOR, reason)
        limit = (self.tool_seconds if in_tool else self.quiet_seconds) + _seconds(_RETRYING_IN, reason)
        if reason.startswith(CHECKING):
            limit = max(limit, check_seconds + SLACK_SECONDS)
        return reason if quiet <= limit else f"{UNKNOWN}nothing heard for {quiet:.0f} s"


def stalled(seconds: float) -> str:
    """The reason of an agent that was silent for so long."""
    return f"{STALLED}{seconds:.0f} s"


def retrying(attempt: int, attempts: int, pause_seconds: float | None) -> str:
    """The reason of an agent whose model is tried again, after a pause if one was announced."""
    pause = f" in {pause_seconds:.0f} s" if pause_seconds is not None and pause_seconds >= 1 else ""
    return f"{RETRYING}{attempt}/{attempts}{pause}"


def _seconds(words: re.Pattern[str], reason: str) -> float:
    found = words.match(reason)
    return float(found[1]) if found else 0.0


def patience(stall_seconds: float, tool_seconds: float) -> Patience:
    """What follows from the settings: a silence is reported by then, or something is wrong with Fleet itself."""
    return Patience(quiet_seconds=2 * stall_seconds + SLACK_SECONDS, tool_seconds=tool_seconds + SLACK_SECONDS)
