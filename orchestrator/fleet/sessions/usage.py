"""A run's usage as the columns that count it."""

from __future__ import annotations

from typing import Any

from orchestrator.domain.event import Ended


def usage_of(ended: Ended) -> dict[str, Any]:
    """The columns by name."""
    used = ended.usage
    return {
        "input_tokens": used.input_tokens,
        "output_tokens": used.output_tokens,
        "cache_read_tokens": used.cache_read_tokens,
        "cache_write_tokens": used.cache_write_tokens,
        "model_calls": used.model_calls,
        "context_tokens": used.context_tokens,
        "context_window_tokens": used.context_window_tokens,
        "cost_usd": ended.cost_usd,
        "session_cost_usd": ended.session_cost_usd,
    }
