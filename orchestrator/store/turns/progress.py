"""The columns of an agent's row from which its progress is measured."""

from __future__ import annotations

from orchestrator.domain.event import EventKind
from orchestrator.store.schema.changes import AgentChange, MoveColumns
from orchestrator.store.schema.rows import AgentRow


def begun(agent: AgentRow) -> MoveColumns:
    """Return the columns to set when a run begins."""
    used = agent.tokens
    return {"open_tools": 0, "same_calls": 0, "progress_tokens": used, "tool_tokens": used}


def marks(agent: AgentRow, values: AgentChange, kind: EventKind | None, at: float) -> AgentChange:
    """Return the columns that an event of this kind sets, once these values are set."""
    used = agent.tokens + values.get("live_tokens", agent.live_tokens)
    running = values.get("open_tools", agent.open_tools)
    match kind:
        case EventKind.PROGRESS:
            return {"progress_at": at, "progress_tokens": used}
        case EventKind.TOOL:
            return {"tool_at": at, "tool_tokens": used, "open_tools": running + 1}
        case EventKind.TOOL_ENDED:
            return {"tool_at": at, "tool_tokens": used, "open_tools": max(0, running - 1)}
        case _:
            return {}
