"""Marks in an agent's row from which its progress is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.domain.event import Kind
from orchestrator.store.schema.rows import AgentRow


def begun(agent: AgentRow) -> dict[str, Any]:
    """Return the marks to set when a run begins."""
    used = agent.tokens
    return {"open_tools": 0, "same_calls": 0, "progress_tokens": used, "tool_tokens": used}


def marks(agent: AgentRow, values: Mapping[str, Any], kind: Kind | None, at: float) -> dict[str, Any]:
    """Return the marks that an event of this kind sets, once these values are set."""
    used = agent.tokens + int(values.get("live_tokens", agent.live_tokens))
    running = int(values.get("open_tools", agent.open_tools))
    match kind:
        case Kind.PROGRESS:
            return {"progress_at": at, "progress_tokens": used}
        case Kind.TOOL:
            return {"tool_at": at, "tool_tokens": used, "open_tools": running + 1}
        case Kind.TOOL_ENDED:
            return {"tool_at": at, "tool_tokens": used, "open_tools": max(0, running - 1)}
        case _:
            return {}
