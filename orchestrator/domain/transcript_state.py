"""How far a turn has come according to its transcript; read when a turn is taken over."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.domain.tool import ToolCall
from orchestrator.domain.usage import Usage


class TranscriptStatus(StrEnum):
    """How far a turn has come, according to its transcript."""

    ABSENT = "absent"
    """None of its prompts is in the transcript: the turn has not started."""
    OPEN = "open"
    """Its prompt is in the transcript, but its answer is not complete."""
    ANSWERED = "answered"
    """The model has completed its answer."""
    DEFERRED = "deferred"
    """It waits in a tool call."""


@dataclass(frozen=True, kw_only=True)
class TranscriptState:
    """What the transcript says about one turn.

    `text` is the final answer, `deferred` the waiting call, `usage` what the turn's model calls have used,
    `steered` the ids of steered texts that are part of the conversation.
    """

    status: TranscriptStatus
    text: str = ""
    deferred: ToolCall | None = None
    usage: Usage = field(default_factory=Usage)
    steered: tuple[str, ...] = ()
