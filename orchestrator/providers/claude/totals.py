"""The running totals of a session, and what one run used: the difference between two totals.

Measured with Claude Code 2.1.329: `total_cost_usd` and `model_usage` are running totals of the session, including
sub-agents; `usage` is the run's, without them. The program saves the totals in the transcript when it exits normally
and reads them from there when it resumes. A killed program loses what it had added, so only the transcript tells where
the count continues. For a model with an unknown price the program makes one up (`costBasis: unknown`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from orchestrator.domain.usage import Usage
from orchestrator.providers.claude.transcript import files

if TYPE_CHECKING:
    from claude_agent_sdk import ResultMessage

_COST_STATE = b'"type":"cost-state"'
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
    """A session's running totals; the cost is None if unknown."""

    cost_usd: float | None = 0.0
    models: Mapping[str, Tokens] = field(default_factory=dict[str, Tokens])

    def tokens(self, name: str) -> int:
        """One kind of tokens, over all models."""
        return sum(model.get(name, 0) for model in self.models.values())


@dataclass(frozen=True)
class RunTotals:
    """What one run used: its tokens, and its cost or None if unknown."""

    cost_usd: float | None
    usage: Usage


def saved_totals(folder: Path, cwd: Path, session_id: str) -> SessionTotals | None:
    """The totals from which the program will resume; None without a transcript.

    Raises:
        OSError: the transcript cannot be read.
    """
    transcript = files.find_transcript(folder, cwd, session_id)
    if transcript is None:
        return None
    last = None
    for line in files.lines(folder, transcript):
        if _COST_STATE in line[:64]:
            last = line
    if last is None:
        return SessionTotals()
    try:
        saved = cast("dict[str, object]", json.loads(last))
    except (ValueError, RecursionError):  # cut off, or not written by the program
        return SessionTotals(None)
    models = cast("Mapping[str, Mapping[str, object]]", saved.get("modelUsage") or {})
    cost = saved.get("totalCostUSD")
    return SessionTotals(float(cost) if isinstance(cost, int | float) else None, _by_model(models))


def totals_of(result: ResultMessage, before: SessionTotals) -> SessionTotals:
    """The totals at the end of a run; those before it if the program reports none."""
    if result.total_cost_usd is None:
        return before
    models = cast("Mapping[str, Mapping[str, object]]", result.model_usage or {})
    return SessionTotals(float(result.total_cost_usd), _by_model(models) or before.models)


def run_totals(before: SessionTotals, after: SessionTotals, result: ResultMessage, observed: Usage) -> RunTotals:
    """What the run added to the totals; `observed` is the sum of its messages, for a run that was cut short."""
    exact = {name: max(0, after.tokens(name) - before.tokens(name)) for name in _FIELDS}
    usage = replace(
        observed,
        input_tokens=max(observed.input_tokens, exact["input_tokens"]),
        output_tokens=max(observed.output_tokens, exact["output_tokens"]),
        cache_read_tokens=max(observed.cache_read_tokens, exact["cache_read_tokens"]),
        cache_write_tokens=max(observed.cache_write_tokens, exact["cache_write_tokens"]),
        context_window_tokens=context_window_of(result) or observed.context_window_tokens,
    )
    is_guessed = any(
        model.get("costBasis") == _UNKNOWN and after.models.get(name) != before.models.get(name)
        for name, model in (result.model_usage or {}).items()
    )
    if is_guessed or before.cost_usd is None or after.cost_usd is None:
        return RunTotals(None, usage)
    return RunTotals(max(0.0, after.cost_usd - before.cost_usd), usage)


def context_window_of(result: ResultMessage) -> int | None:
    """The size of the main model's context window in tokens; None if the program only guesses it."""
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
