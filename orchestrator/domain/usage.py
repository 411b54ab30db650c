"""Tokens and cost; unknown values stay unknown."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens of one turn, and how full the context is after it.

    `input_tokens` counts what the model read uncached, the cache fields what it read from or wrote to its cache
    (Anthropic's split); `context_tokens` is what the last call carried, `context_window_tokens` the limit.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    context_tokens: int | None = None
    context_window_tokens: int | None = None
    model_calls: int = 0

    @property
    def total_tokens(self) -> int:
        """All tokens read, written or cached."""
        return self.input_tokens + self.output_tokens + self.cache_read_tokens + self.cache_write_tokens


@dataclass(frozen=True, kw_only=True)
class RunUsage:
    """What one run used: its tokens, its cost, and what its whole session had cost at its end; None is unknown."""

    tokens: Usage = field(default_factory=Usage)
    cost_usd: float | None = None
    session_cost_usd: float | None = None


CENT_USD = 0.01
LEAST_SHOWN_USD = 0.0001
KILO, MEGA = 1_000, 1_000_000


def shown_cost(cost_usd: float | None) -> str:
    """Return the cost for a reader: dollars, or `unknown`."""
    if cost_usd is None:
        return "cost unknown"
    if 0 < cost_usd < LEAST_SHOWN_USD:
        return f"<${LEAST_SHOWN_USD:.4f}"
    return f"${cost_usd:.4f}" if 0 < cost_usd < CENT_USD else f"${cost_usd:.2f}"


def shown_tokens(tokens: int | None) -> str:
    """Return the count for a reader: 950, 12.3k, 1.2M, or ?."""
    if tokens is None:
        return "?"
    if tokens < KILO:
        return str(tokens)
    if tokens < MEGA - KILO // 20:  # from here on, rounding would give 1000.0k
        return f"{tokens / KILO:.1f}k"
    return f"{tokens / MEGA:.1f}M"
