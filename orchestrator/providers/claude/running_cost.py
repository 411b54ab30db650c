"""What a run has used so far, while it runs: the program itself tells its cost only at the end.

Facts are of Claude Code 2.1.329, measured: each block of an answer comes as a message of its own whose usage is that of
the answer's beginning (one output token), so that output is estimated from what was said: UTF-8 bytes / 4.
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
class _Call:
    model: str
    told: Usage
    said_bytes: int = 0

    @property
    def used(self) -> Usage:
        return replace(self.told, output_tokens=max(self.told.output_tokens, self.said_bytes // BYTES_PER_TOKEN))

    @property
    def cost_usd(self) -> float | None:
        price = price_of(self.model)
        return None if price is None else price.cost_usd(self.used)


@dataclass
class Spend:
    """The calls of the model in one run, by the id of their answer."""

    _calls: dict[str, _Call] = field(default_factory=dict[str, _Call])

    def add(self, message: AssistantMessage, told: Usage) -> Spent | None:
        """All that was used with this message; None for one that does not belong to a call."""
        if message.message_id is None:
            return None
        before = self._calls.get(message.message_id) or _Call(message.model, told)
        self._calls[message.message_id] = replace(before, said_bytes=before.said_bytes + _bytes(message.content))
        return Spent(tokens=sum(call.used.total_tokens for call in self._calls.values()), cost_usd=self.cost_usd)

    @property
    def cost_usd(self) -> float | None:
        """By the price table; None if a model of the run is not in it."""
        costs = [call.cost_usd for call in self._calls.values()]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if len(known) == len(costs) else None


def _bytes(blocks: Sequence[ContentBlock]) -> int:
    return sum(len(json.dumps(asdict(block), ensure_ascii=False, default=str).encode()) for block in blocks)
