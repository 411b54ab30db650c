"""Estimates the tokens and cost of a run while it is running: the program itself reports its cost only at the end.

Measured with Claude Code 2.1.329: each block of an answer arrives as a message of its own, with the usage from the
beginning of the answer (one output token). Output tokens are therefore estimated from its size: UTF-8 bytes / 4.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

from claude_agent_sdk import AssistantMessage, ContentBlock

from orchestrator.domain.event import Spent
from orchestrator.domain.usage import Usage
from orchestrator.providers.pricing import price_of

BYTES_PER_TOKEN = 4


@dataclass(frozen=True)
class _ModelCall:
    model: str
    reported: Usage
    output_bytes: int = 0

    @property
    def usage(self) -> Usage:
        return replace(
            self.reported, output_tokens=max(self.reported.output_tokens, self.output_bytes // BYTES_PER_TOKEN)
        )

    @property
    def cost_usd(self) -> float | None:
        price = price_of(self.model)
        return None if price is None else price.cost_usd(self.usage)


@dataclass
class RunningCost:
    """The model calls of one run and what they cost so far."""

    _calls: dict[str, _ModelCall] = field(default_factory=dict[str, _ModelCall])

    def add(self, message: AssistantMessage, reported: Usage) -> Spent | None:
        """Count the message; return the use of the whole run so far, None if the message belongs to no model call."""
        if message.message_id is None:
            return None
        before = self._calls.get(message.message_id) or _ModelCall(message.model, reported)
        self._calls[message.message_id] = replace(before, output_bytes=before.output_bytes + _bytes(message.content))
        return Spent(tokens=sum(call.usage.total_tokens for call in self._calls.values()), cost_usd=self.cost_usd)

    @property
    def cost_usd(self) -> float | None:
        """The cost by the price table; None if a model of the run is not listed."""
        costs = [call.cost_usd for call in self._calls.values()]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if len(known) == len(costs) else None


def _bytes(blocks: Sequence[ContentBlock]) -> int:
    return sum(len(json.dumps(asdict(block), ensure_ascii=False, default=str).encode()) for block in blocks)
