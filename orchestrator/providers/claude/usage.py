"""Token counts of the model's API as `Usage`, and the sum over the calls of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orchestrator.domain.usage import Usage


def call_usage(figures: Mapping[str, Any]) -> Usage:
    """The tokens of one model call, from the `usage` object of the API."""
    return Usage(
        input_tokens=figures.get("input_tokens") or 0,
        output_tokens=figures.get("output_tokens") or 0,
        cache_read_tokens=figures.get("cache_read_input_tokens") or 0,
        cache_write_tokens=figures.get("cache_creation_input_tokens") or 0,
    )


def plus_call(total: Usage, call: Usage, *, in_subagent: bool = False) -> Usage:
    """The total with one more model call; a sub-agent's call does not fill the main conversation's context."""
    prompt_tokens = call.input_tokens + call.cache_read_tokens + call.cache_write_tokens
    return replace(
        total,
        input_tokens=total.input_tokens + call.input_tokens,
        output_tokens=total.output_tokens + call.output_tokens,
        cache_read_tokens=total.cache_read_tokens + call.cache_read_tokens,
        cache_write_tokens=total.cache_write_tokens + call.cache_write_tokens,
        context_tokens=total.context_tokens if in_subagent else prompt_tokens,
        model_calls=total.model_calls + 1,
    )
