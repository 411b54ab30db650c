"""Why an agent does not work: a value that the store keeps, and the words that readers see for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

DAY_SECONDS = 86_400.0


class WaitKind(StrEnum):
    """What an agent waits for."""

    SLOT = "slot"
    """One of the slots in which agents work."""
    INPUTS = "inputs"
    """The results of other agents."""
    CHECKOUT = "checkout"
    """The right to write in its checkout, which another agent holds."""
    QUESTION = "question"
    PERMISSION = "permission"
    CHILDREN = "children"
    """The last of its children."""
    AGENTS = "agents"
    """The agents that it directs."""
    ACCOUNT = "account"
    """The secrets of its account, which no client has brought."""
    BUDGET = "budget"
    """A cap that is raised, or use that is given back."""
    QUOTA = "quota"
    """An account that the provider refuses for a time."""
    OVERLOAD = "overload"
    """The next attempt after the model's API was overloaded."""
    # A playbook's step, a card of the board and a message get kinds together with the code that waits for them.


ANSWERS = frozenset({WaitKind.QUESTION, WaitKind.PERMISSION})
"""an answer ends these"""
NEEDY = ANSWERS | {WaitKind.ACCOUNT, WaitKind.BUDGET}
"""the orchestrator or a person must act before these end"""
TIMED = frozenset({WaitKind.QUOTA, WaitKind.OVERLOAD})
"""the moment `until` ends these"""
ON_OTHERS = frozenset({WaitKind.CHILDREN, WaitKind.AGENTS})
"""other agents end these by their own ends"""
SUSPENDED = TIMED | ON_OTHERS | {WaitKind.BUDGET}
"""the turn has begun and asks nobody for an answer"""


@dataclass(frozen=True, kw_only=True)
class Wait:
    """What one agent waits for."""

    kind: WaitKind
    on: str = ""
    """whom: names of the inputs, the holder of the checkout, the agent whose budget it is ('' for its own)"""
    until: float | None = None
    """when the wait ends by itself, if it does"""
    detail: str = ""
    """more for readers: how an input ended, the amounts of a budget, the clock time of a quota, which attempt"""
    blocked: bool = False
    """what usually ends a wait of this kind does not: an input failed, the holder of the checkout waits for an answer,
    the price of the model is unknown, an account is refused again and again"""

    @property
    def is_needy(self) -> bool:
        """Whether the wait lasts until the orchestrator or a person acts."""
        return self.blocked or self.kind in NEEDY


SLOT = Wait(kind=WaitKind.SLOT)


def wait_words(wait: Wait) -> str:
    """The wait as readers see it."""
    match wait.kind:
        case WaitKind.INPUTS:
            return f"its input {wait.on} {wait.detail}" if wait.blocked else f"inputs: {wait.on}"
        case WaitKind.CHECKOUT:
            return f"{wait.on} writes in this checkout" + (" and waits for an answer" if wait.blocked else "")
        case WaitKind.BUDGET if wait.blocked:
            return f"budget: {wait.detail}"
        case WaitKind.BUDGET:
            return f"budget of {wait.on} {wait.detail}" if wait.on else f"budget {wait.detail}"
        case WaitKind.QUOTA:
            return f"{'refused; next try' if wait.blocked else 'parked until'} {wait.detail}"
        case WaitKind.OVERLOAD:
            return f"retrying {wait.detail}"
        case _:
            return str(wait.kind)


def clock_time(at: float, now: float) -> str:
    """The moment in this machine's time: 14:00, with its date if it is not within a day."""
    moment = datetime.fromtimestamp(math.ceil(at / 60) * 60, UTC).astimezone()
    return moment.strftime("%H:%M" if at - now < DAY_SECONDS else "%Y-%m-%d %H:%M")
