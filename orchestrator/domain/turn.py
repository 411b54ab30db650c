"""The states of a turn, how it ended, and the order and delivery of queued turns."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from orchestrator.domain.checkout import CheckoutDiff


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
TURN_SUSPENDED = frozenset({TurnStatus.WAITING, TurnStatus.RECOVERING})
"""started but not running; such a turn resumes before any other turn starts"""


@dataclass(frozen=True, kw_only=True)
class TurnResult:
    """How a turn ended, and what it leaves behind; `changes` is None if git cannot tell."""

    status: TurnStatus
    reason: str = ""
    detail: str = ""
    hint: str = ""
    result: str = ""
    changes: CheckoutDiff | None = None
    changes_unknown: str = ""
    """why git cannot tell what the turn changed"""


DAEMON = "daemon"
"""the reason of a run that was lost because its daemon ended"""
HOLDS_QUEUE = frozenset({"auth", "credit", "not_found", "context", "process", "silence", "start", "crash_loop"})
"""reasons of failed turns that the agent's next task would meet, too, so they hold its queue: the account, the model,
the conversation or the program is at fault, not the task
"""


class TurnPriority(IntEnum):
    """Order in which an agent's queued turns run."""

    NONE = 0
    STEERED = 1
    """It was meant to be steered into a running turn."""
    REPLACES = 2
    """It was sent to replace a running turn."""
    RETRIES = 3
    """It was sent to an agent whose queue is held: it runs before the turns that are held."""


class DeliveryMode(StrEnum):
    """How a command is delivered to an agent that works."""

    QUEUE = "queue"
    STEER = "steer"
    INTERRUPT = "interrupt"
