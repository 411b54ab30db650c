"""Where a conversation stands in its transcript, for whoever takes a turn over."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.domain.tool import ToolCall
from orchestrator.domain.usage import Usage


class TranscriptStatus(StrEnum):
    """How far the transcript tells that a turn has come."""

    ABSENT = "absent"
    """None of its prompts is there: nothing has begun."""
    OPEN = "open"
    """Its prompt is there, but no end of its answer."""
    ANSWERED = "answered"
    """The model has ended its answer."""
    DEFERRED = "deferred"
    """It waits in a tool call."""


@dataclass(frozen=True, kw_only=True)
class TranscriptState:
    """What the transcript tells of one turn.

    `text` is the final answer, `deferred` the call that waits, `usage` what the turn's model calls used so far,
    `steered` the ids of the texts that were handed in meanwhile and stand in the conversation.
    """

    stand: TranscriptStatus
    text: str = ""
    deferred: ToolCall | None = None
    usage: Usage = field(default_factory=Usage)
    steered: tuple[str, ...] = ()
