"""What a session has used in all, so that a run's share is the difference.

Facts are of Claude Code 2.1.329, measured: `total_cost_usd` and `model_usage` are running totals of the session, with
sub-agents; `usage` is the run's, without them. The totals are saved in the transcript when the program ends in order
and are read from there when it resumes; a killed program loses what it had added, so that only the transcript knows
where the count goes on. For a model whose price it does not know the program invents one (`costBasis: unknown`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from claude_agent_sdk import ResultMessage

from orchestrator.domain.usage import Usage
from orchestrator.providers.claude.transcript import files

_SAVED = b'"type":"cost-state"'
_UNKNOWN = "unknown"
_FIELDS = {
    "input_tokens": "inputTokens",
    "output_tokens": "outputTokens",
    "cache_read_tokens": "cacheReadInputTokens",
    "cache_write_tokens": "cacheCreationInputTokens",
}
Tokens = Mapping[str, int]


@dataclass(frozen=True)
class SessionTotals:
    """A session's running totals; the cost is None if it is not known."""

    cost_usd: float | None = 0.0
    models: Mapping[str, Tokens] = field(default_factory=dict[str, Tokens])

    def tokens(self, name: str) -> int:
        """One kind of tokens, over all models."""
        return sum(model.get(name, 0) for model in self.models.values())


@dataclass(frozen=True)
class Share:
    """What one run used: its cost, or None if unknown, and its tokens."""

    cost_usd: float | None
    usage: Usage


def saved_totals(folder: Path, cwd: Path, session_id: str) -> SessionTotals | None:
    """The totals with which the program will resume; None if there is no transcript here.

    Raises:
        OSError: the transcript cannot be read.
    """
    place = files.found_place(folder, cwd, session_id)
    if place is None:
        return None
    last = None
    for line in files.lines(folder, place):
        if _SAVED in line[:64]:
            last = line
    if last is None:
        return SessionTotals()
    try:
        saved = cast("dict[str, object]", json.loads(last))
    except (ValueError, RecursionError):  # cut, or not the program's
        return SessionTotals(None)
    models = cast("Mapping[str, Mapping[str, object]]", saved.get("modelUsage") or {})
    cost = saved.get("totalCostUSD")
    return SessionTotals(float(cost) if isinstance(cost, int | float) else None, _by_model(models))


def totals_of(result: ResultMessage, before: SessionTotals) -> SessionTotals:
    """The totals that a run ended with; those before it where the program tells none."""
    if result.total_cost_usd is None:
        return before
    models = cast("Mapping[str, Mapping[str, object]]", result.model_usage or {})
    return SessionTotals(float(result.total_cost_usd), _by_model(models) or before.models)


def share(before: SessionTotals, after: SessionTotals, result: ResultMessage, seen: Usage) -> Share:
    """What the run added; `seen` is what its messages told, which a run that was cut short never summed up."""
    exact = {name: max(0, after.tokens(name) - before.tokens(name)) for name in _FIELDS}
    usage = replace(
        seen,
        input_tokens=max(seen.input_tokens, exact["input_tokens"]),
        output_tokens=max(seen.output_tokens, exact["output_tokens"]),
        cache_read_tokens=max(seen.cache_read_tokens, exact["cache_read_tokens"]),
        cache_write_tokens=max(seen.cache_write_tokens, exact["cache_write_tokens"]),
        context_window_tokens=window_of(result) or seen.context_window_tokens,
    )
    invented = any(
        model.get("costBasis") == _UNKNOWN and after.models.get(name) != before.models.get(name)
        for name, model in (result.model_usage or {}).items()
    )
    if invented or before.cost_usd is None or after.cost_usd is None:
        return Share(None, usage)
    return Share(max(0.0, after.cost_usd - before.cost_usd), usage)


def window_of(result: ResultMessage) -> int | None:
    """How many tokens the main model's context holds; None if the program only guesses it."""
    known = [model for model in (result.model_usage or {}).values() if model.get("costBasis") != _UNKNOWN]
    return max((model["contextWindow"] for model in known), default=None)


def _by_model(models: Mapping[str, Mapping[str, object]]) -> dict[str, Tokens]:
    return {
        name: {ours: _count(model.get(theirs)) for ours, theirs in _FIELDS.items()}
        for name, model in models.items()
        if isinstance(model, dict)
    }


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
