"""Prices of the vendors' models, for when the vendor's program reports no cost; an unlisted model has no price.

Standard rates in dollars per million tokens from the vendor's published list (`SOURCE`, read on `READ_ON`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType

from orchestrator.domain.usage import Usage

SOURCE = "https://platform.claude.com/docs/en/about-claude/pricing"
READ_ON = "2026-11-21"
MILLION = 1_000_000
LONG_PROMPT_TOKENS = 100_000


@dataclass(frozen=True)
class Price:
    """Dollars per million tokens; `above` is the price of calls whose prompt is longer than 100,000 tokens."""

    input_usd: float
    output_usd: float
    cache_write_usd: float
    cache_read_usd: float
    above: Price | None = None

    def cost_usd(self, used: Usage) -> float:
        """The cost of one model call."""
        prompt = used.input_tokens + used.cache_read_tokens + used.cache_write_tokens
        rate = self.above if self.above is not None and prompt > LONG_PROMPT_TOKENS else self
        return (
            used.input_tokens * rate.input_usd
            + used.output_tokens * rate.output_usd
            + used.cache_write_tokens * rate.cache_write_usd
            + used.cache_read_tokens * rate.cache_read_usd
        ) / MILLION


_OPUS = Price(5.0, 25.0, 6.25, 0.50)
_OLD_OPUS = Price(15.0, 75.0, 18.75, 1.50)
_SONNET = Price(3.0, 15.0, 3.75, 0.30)
_SONNET_5 = Price(2.0, 10.0, 2.50, 0.20)
_FABLE = Price(10.0, 50.0, 12.50, 1.00)
PRICES = MappingProxyType(
    {
        "claude-fable-5-1": Price(10.0, 50.0, 12.50, 0.25),
        "claude-fable-5": _FABLE,
        "claude-opus-5-5": Price(4.0, 20.0, 5.0, 0.20),
        "claude-opus-5": _OPUS,
        "claude-opus-4-8": _OPUS,
        "claude-opus-4-7": _OPUS,
        "claude-opus-4-6": _OPUS,
        "claude-opus-4-5": _OPUS,
        "claude-opus-4-1": _OLD_OPUS,
        "claude-opus-4": _OLD_OPUS,
        "claude-sonnet-5-5": _SONNET_5,
        "claude-sonnet-5": _SONNET_5,
        "claude-sonnet-4-6": _SONNET,
        "claude-sonnet-4-5": _SONNET,
        "claude-sonnet-4": _SONNET,
        "claude-haiku-5-5": Price(0.10, 0.50, 0.125, 0.01, above=Price(0.50, 2.50, 0.625, 0.05)),
        "claude-haiku-4-5": Price(1.0, 5.0, 1.25, 0.10),
    }
)
ALIASES = frozenset({"default", "haiku", "sonnet", "opus"})
"""names that the vendor's program resolves to one of the listed models"""
_VERSION = re.compile(r"(-0)?(-\d{8})?(-v\d+(:\d+)?)?(@\d{8})?$")


def price_of(model: str) -> Price | None:
    """The price for a model's full id, also in the forms of Bedrock and Vertex; None if unknown."""
    name = model.removesuffix("[1m]").rpartition("anthropic.")[2]
    return PRICES.get(_VERSION.sub("", name))


def has_price(model: str | None) -> bool:
    """Whether the price of this model is known; every alias resolves to a model with a known price."""
    return model is None or model.removesuffix("[1m]") in ALIASES or price_of(model) is not None
