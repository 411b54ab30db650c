"""What a provider session reports while it runs (`SessionEvent`), and the kinds of event that the store records."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from orchestrator.domain.tool import Json, ToolCall
from orchestrator.domain.usage import RunUsage, Usage


class EventKind(StrEnum):
    """The kinds of events in the store."""

    CREATED = "agent.created"
    QUEUED = "turn.queued"
    STARTED = "turn.started"
    WAITING = "turn.waiting"
    ANSWERED = "turn.answered"
    RESUMED = "turn.resumed"
    LOST = "turn.lost"
    COMPLETE = "turn.complete"
    FAILED = "turn.failed"
    INTERRUPTED = "turn.interrupted"
    CANCELLED = "turn.cancelled"
    BLOCKED = "agent.blocked"
    ADOPTED = "agent.adopted"
    MOVED = "agent.moved"
    DELETED = "agent.deleted"
    SESSION = "session.opened"
    SAID = "session.said"
    TOOL = "tool.started"
    TOOL_ENDED = "tool.ended"
    USED = "session.used"
    RETRYING = "session.retrying"
    STALLED = "session.stalled"
    DENIED = "session.denied"
    PROGRESS = "agent.progress"
    LOOPING = "agent.looping"
    CHECKING = "turn.checking"
    CHECKED = "turn.checked"
    PLAN_REFUSED = "turn.plan_refused"


TERMINAL = frozenset({EventKind.COMPLETE, EventKind.FAILED, EventKind.INTERRUPTED, EventKind.CANCELLED})
"""kinds of which exactly one ends every turn"""


class SessionOutcome(StrEnum):
    """How a run of a session ended."""

    COMPLETE = "complete"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    DEFERRED = "deferred"


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The provider's session responds; `model` is the model that it reports."""

    session_id: str
    model: str | None = None


@dataclass(frozen=True, kw_only=True)
class Said:
    """The agent wrote text (a complete block)."""

    text: str


@dataclass(frozen=True, kw_only=True)
class ToolStarted:
    """A tool call started; `summary` is one short line about its input."""

    call_id: str
    tool: str
    summary: str
    input: Json = field(default_factory=dict[str, Any], repr=False)


@dataclass(frozen=True, kw_only=True)
class ToolEnded:
    """A tool call ended; `consumed` and `produced` are the absolute paths of files that it read and wrote."""

    call_id: str
    tool: str
    ok: bool
    summary: str = ""
    consumed: tuple[str, ...] = ()
    produced: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Used:
    """Running token counts of this turn, after a model call."""

    usage: Usage
    model: str | None = None


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What the run has used so far, for its budget: an estimate until it ends. The cost is None if unknown."""

    tokens: int
    cost_usd: float | None


@dataclass(frozen=True, kw_only=True)
class Retrying:
    """A call of the model's API failed; the provider retries it."""

    attempt: int
    max_attempts: int
    status: int | None
    error: str
    delay_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Stalled:
    """The session was silent for `seconds` while no tool ran; it may still be working."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The run has ended; every run reports exactly one of these, as its last event.

    `reason` is a short code for a failure or interruption (`auth`, `quota`, `overloaded`, `api`, `silence`,
    `process`, `max_turns`, `context`, …), `detail` the readable sentence, `hint` the next step. `cost_usd` is the
    run's cost or None if unknown; `session_cost_usd` is the provider's running total, for the next turn's difference.
    `deferred` is the waiting tool call if the outcome is DEFERRED. `denied` names calls that the provider itself
    refused. `steered` holds the ids of prompts, beside the run's own, that the model has read. `resets_at` is when
    an exhausted quota resets (seconds since the epoch), if the provider said so.
    """

    outcome: SessionOutcome
    text: str = ""
    reason: str = ""
    detail: str = ""
    hint: str = ""
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None
    session_cost_usd: float | None = None
    deferred: ToolCall | None = None
    denied: tuple[str, ...] = ()
    steered: tuple[str, ...] = ()
    resets_at: float | None = None

    @property
    def run_usage(self) -> RunUsage:
        """What the run used, as its turn and its agent count it."""
        return RunUsage(tokens=self.usage, cost_usd=self.cost_usd, session_cost_usd=self.session_cost_usd)


SessionEvent = Opened | Said | ToolStarted | ToolEnded | Used | Spent | Retrying | Stalled | Ended
