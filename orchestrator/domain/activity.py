"""What a working agent is doing, and the signs of its progress: readers judge them, Fleet does not."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from enum import StrEnum

from orchestrator.domain.duration import format_age
from orchestrator.domain.text import named
from orchestrator.domain.tool import Json

SLACK_SECONDS = 30.0


class ActivityKind(StrEnum):
    """What a working agent is doing, as far as Fleet can tell."""

    NONE = ""
    """It works; nothing more specific is known."""
    STARTING = "starting"
    LOOKING = "looking at the checkout"
    """Git finds out what is there before the turn, or what the turn changed."""
    RECOVERING = "recovering"
    """Its session resumes a turn whose last run died."""
    CHECKING = "checking"
    """One of its acceptance checks is running."""
    STALLED = "stalled"
    """Its session has been silent for too long."""
    RETRYING = "retrying"
    """Its program repeats a failed call of the model."""
    LOOPING = "looping"
    """It keeps repeating the same tool call."""
    UNKNOWN = "unknown"
    """Its last sign of life is too old to say."""


@dataclass(frozen=True, kw_only=True)
class Activity:
    """One working agent's activity."""

    kind: ActivityKind = ActivityKind.NONE
    detail: str = ""
    """details for readers: the check, the repeated call, or the number of the attempt"""
    seconds: float | None = None
    """how long a stalled or unknown agent has been silent, or the announced pause of a retry"""


WORKING = Activity()
STARTING = Activity(kind=ActivityKind.STARTING)
RECOVERING = Activity(kind=ActivityKind.RECOVERING)
LOOKING = Activity(kind=ActivityKind.LOOKING)
DOUBTFUL = frozenset({ActivityKind.LOOPING, ActivityKind.UNKNOWN, ActivityKind.STALLED, ActivityKind.RETRYING})
"""activities that the orchestrator may want to look into"""


def activity_words(activity: Activity) -> str:
    """Return the activity in words; '' if the agent simply works."""
    match activity.kind:
        case ActivityKind.CHECKING | ActivityKind.LOOPING:
            return f"{activity.kind}: {named(activity.detail)}"
        case ActivityKind.STALLED:
            return f"stalled {format_age(activity.seconds)}"
        case ActivityKind.UNKNOWN:
            return f"unknown: nothing heard for {format_age(activity.seconds)}"
        case ActivityKind.RETRYING:
            pause = (
                f" in {format_age(activity.seconds)}" if activity.seconds is not None and activity.seconds >= 1 else ""
            )
            return f"retrying {activity.detail}{pause}"
        case _:
            return str(activity.kind)


def fingerprint(tool: str, arguments: Json) -> str:
    """Return the same digest for two calls exactly if they have the same tool and input, whatever the order of keys."""
    text = json.dumps([tool, arguments], sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Streak:
    """How often the most recent tool call was made in a row."""

    call: str = ""
    times: int = 0

    def then(self, call: str) -> Streak:
        """Return the streak after this call."""
        return Streak(call=call, times=self.times + 1 if call == self.call else 1)

    def begins_to_loop(self, limit: int) -> bool:
        """Whether the most recent call completed a loop; true once per streak."""
        return self.times == limit

    def loops(self, limit: int) -> bool:
        """Whether the streak is a loop."""
        return self.times >= limit


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How old the last sign of life of a working agent may be before its activity is unknown."""

    quiet_seconds: float
    """outside of tools: twice the silence after which it is `stalled`"""
    tool_seconds: float
    """while a tool runs"""

    def staleness(
        self, activity: Activity, quiet_seconds: float, *, in_tool: bool, check_seconds: float = 0.0
    ) -> Activity:
        """Return the activity to show: the agent's own, or UNKNOWN if it has been silent for longer than that explains.

        An announced pause, and the time that a check may take (`check_seconds`), do not count as silence.
        """
        known = activity.seconds or 0.0
        quiet = quiet_seconds + (known if activity.kind is ActivityKind.STALLED else 0.0)
        limit = self.tool_seconds if in_tool else self.quiet_seconds
        if activity.kind is ActivityKind.RETRYING:
            limit += known
        elif activity.kind is ActivityKind.CHECKING:
            limit = max(limit, check_seconds + SLACK_SECONDS)
        if quiet > limit:
            return Activity(kind=ActivityKind.UNKNOWN, seconds=quiet)
        if activity.kind is ActivityKind.STALLED:
            return stalled(quiet)
        if activity.kind is ActivityKind.RETRYING and activity.seconds is not None:
            return replace(activity, seconds=max(0.0, known - quiet_seconds))
        return activity


def stalled(seconds: float) -> Activity:
    """Return the activity of an agent that has been silent for this long."""
    return Activity(kind=ActivityKind.STALLED, seconds=seconds)


def retrying(attempt: int, attempts: int, pause_seconds: float | None) -> Activity:
    """Return the activity of an agent whose model call is retried, after a pause if one was announced."""
    return Activity(kind=ActivityKind.RETRYING, detail=f"{attempt}/{attempts}", seconds=pause_seconds)


def patience(stall_seconds: float, tool_seconds: float) -> Patience:
    """Return the patience that follows from the settings."""
    return Patience(quiet_seconds=2 * stall_seconds + SLACK_SECONDS, tool_seconds=tool_seconds + SLACK_SECONDS)
