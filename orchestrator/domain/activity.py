"""What an agent at work is doing, and the signs that it gets on: evidence for a decision, never a verdict."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.domain.tool import Json

SLACK_SECONDS = 30.0


class ActivityKind(StrEnum):
    """What an agent at work is doing."""

    NONE = ""
    """Nothing finer than its work is known."""
    STARTING = "starting"
    RECOVERING = "recovering"
    """Its session resumes a turn whose last run died."""
    CHECKING = "checking"
    """One of its acceptance checks runs."""
    STALLED = "stalled"
    """Its session has been silent."""
    RETRYING = "retrying"
    """Its program repeats a call of the model that failed."""
    LOOPING = "looping"
    """It repeats the same tool call."""
    UNKNOWN = "unknown"
    """Its last sign of life is too old to tell."""


@dataclass(frozen=True, kw_only=True)
class Activity:
    """What one agent at work is doing."""

    kind: ActivityKind = ActivityKind.NONE
    detail: str = ""
    """more for readers: the check, the repeated call, which attempt"""
    seconds: float | None = None
    """how long a stalled or unknown agent has been silent; the announced pause of one that retries"""


WORKING = Activity()
STARTING = Activity(kind=ActivityKind.STARTING)
RECOVERING = Activity(kind=ActivityKind.RECOVERING)
DOUBTFUL = frozenset({ActivityKind.LOOPING, ActivityKind.UNKNOWN, ActivityKind.STALLED, ActivityKind.RETRYING})
"""the orchestrator may want to look at an agent that does one of these"""


def activity_words(activity: Activity) -> str:
    """The activity as readers see it; '' for plain work."""
    match activity.kind:
        case ActivityKind.CHECKING | ActivityKind.LOOPING:
            return f"{activity.kind}: {activity.detail}"
        case ActivityKind.STALLED:
            return f"stalled {activity.seconds or 0:.0f} s"
        case ActivityKind.UNKNOWN:
            return f"unknown: nothing heard for {activity.seconds or 0:.0f} s"
        case ActivityKind.RETRYING:
            pause = f" in {activity.seconds:.0f} s" if activity.seconds is not None and activity.seconds >= 1 else ""
            return f"retrying {activity.detail}{pause}"
        case _:
            return str(activity.kind)


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

    def staleness(
        self, activity: Activity, quiet_seconds: float, *, in_tool: bool, check_seconds: float = 0.0
    ) -> Activity:
        """The activity to show: the agent's own, or UNKNOWN once its silence is longer than that can explain.

        A pause that was announced, and the time that a check may take (`check_seconds`), do not count as silence.
        """
        known = activity.seconds or 0.0
        quiet = quiet_seconds + (known if activity.kind is ActivityKind.STALLED else 0.0)
        limit = self.tool_seconds if in_tool else self.quiet_seconds
        if activity.kind is ActivityKind.RETRYING:
            limit += known
        elif activity.kind is ActivityKind.CHECKING:
            limit = max(limit, check_seconds + SLACK_SECONDS)
        return activity if quiet <= limit else Activity(kind=ActivityKind.UNKNOWN, seconds=quiet)


def stalled(seconds: float) -> Activity:
    """The activity of an agent that has been silent for so long."""
    return Activity(kind=ActivityKind.STALLED, seconds=seconds)


def retrying(attempt: int, attempts: int, pause_seconds: float | None) -> Activity:
    """The activity of an agent whose model is called again, after a pause if one was announced."""
    return Activity(kind=ActivityKind.RETRYING, detail=f"{attempt}/{attempts}", seconds=pause_seconds)


def patience(stall_seconds: float, tool_seconds: float) -> Patience:
    """What follows from the settings: a silence is reported by then, or something is wrong with Fleet itself."""
    return Patience(quiet_seconds=2 * stall_seconds + SLACK_SECONDS, tool_seconds=tool_seconds + SLACK_SECONDS)
