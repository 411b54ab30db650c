"""Turns: one prompt and its result each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from orchestrator.domain.checkout import Difference


class TurnStatus(StrEnum):
    """The state of a turn; exactly one of the last four ends it."""

    QUEUED = "queued"
    WORKING = "working"
    WAITING = "waiting"
    """Its session ended in the middle of a tool call (a question); the answer resumes that call."""
    RECOVERING = "recovering"
    """Its session died; the next owner reads the transcript and continues from there."""
    COMPLETE = "complete"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"
    """It never started: its agent was deleted, or another turn replaced it."""


TURN_OPEN = frozenset({TurnStatus.QUEUED, TurnStatus.WORKING, TurnStatus.WAITING, TurnStatus.RECOVERING})
TURN_ASIDE = frozenset({TurnStatus.WAITING, TurnStatus.RECOVERING})
"""started but not running; such a turn resumes before any other turn starts"""


@dataclass(frozen=True, kw_only=True)
class TurnEnd:
    """How a turn ended, and what it leaves behind; `changes` is None if git cannot tell."""

    status: TurnStatus
    reason: str = ""
    detail: str = ""
    hint: str = ""
    result: str = ""
    changes: Difference | None = None
    changes_unknown: str = ""
    """why git cannot tell what the turn changed"""


class Urgency(IntEnum):
    """Order in which an agent's queued turns run."""

    NONE = 0
    STEERED = 1
    """It was meant to be steered into a running turn."""
    REPLACES = 2
    """It was sent to replace a running turn."""


class Mode(StrEnum):
    """How a command is delivered to an agent that works."""

    QUEUE = "queue"
    STEER = "steer"
    INTERRUPT = "interrupt"
