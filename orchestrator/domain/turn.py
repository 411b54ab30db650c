"""A turn: one prompt and its result."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class TurnStatus(StrEnum):
    """The state of a turn; exactly one of the last four ends it."""

    QUEUED = "queued"
    WORKING = "working"
    WAITING = "waiting"
    """Its session ended in the middle of a tool call (a question); the answer resumes that call."""
    RECOVERING = "recovering"
    """Its session died; the next owner reads the transcript first and continues from there."""
    COMPLETE = "complete"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"
    """Never started: its agent was deleted or it was replaced."""


TURN_OPEN = frozenset({TurnStatus.QUEUED, TurnStatus.WORKING, TurnStatus.WAITING, TurnStatus.RECOVERING})
TURN_ASIDE = frozenset({TurnStatus.WAITING, TurnStatus.RECOVERING})
"""started, but not running: it resumes before any other turn starts"""


class Urgency(IntEnum):
    """Which of an agent's queued turns runs first."""

    NONE = 0
    STEERED = 1
    """It was meant for a running turn."""
    REPLACES = 2
    """It was commanded to replace a running turn."""


class Mode(StrEnum):
    """How a command reaches an agent that works."""

    QUEUE = "queue"
    STEER = "steer"
    INTERRUPT = "interrupt"
