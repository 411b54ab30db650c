"""A turn: one prompt and its result."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class TurnStatus(StrEnum):
    """Where a turn stands; exactly one of the last four ends it."""

    QUEUED = "queued"
    WORKING = "working"
    WAITING = "waiting"
    """Its session ended in the middle of a tool call (a question); the answer resumes that very call."""
    RECOVERING = "recovering"
    """Its session died; who claims it next reads the transcript first and goes on from there."""
    COMPLETE = "complete"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"
    """Never started: its agent was deleted or it was replaced."""


TURN_OPEN = frozenset({TurnStatus.QUEUED, TurnStatus.WORKING, TurnStatus.WAITING, TurnStatus.RECOVERING})
TURN_ASIDE = frozenset({TurnStatus.WAITING, TurnStatus.RECOVERING})
"""begun, and not under way: it goes on before any other turn begins"""


class Urgency(IntEnum):
    """What of an agent's queued turns goes first."""

    NONE = 0
    STEERED = 1
    """It was meant for a running turn."""
    REPLACES = 2
    """It was commanded to replace one."""


class Mode(StrEnum):
    """How a command reaches an agent that works."""

    QUEUE = "queue"
    STEER = "steer"
    INTERRUPT = "interrupt"
