"""Waits: what an agent waits for, how that can end, and the reason as text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

DAY_SECONDS = 86_400.0


class WaitKind(StrEnum):
    """What an agent waits for."""

    SLOT = "slot"
    """One of the slots that limit how many agents work."""
    INPUTS = "inputs"
    """The results of other agents."""
    CHECKOUT = "checkout"
    """The right to write in its checkout, which another agent holds."""
    QUESTION = "question"
    PERMISSION = "permission"
    CHILDREN = "children"
    """The end of its last child."""
    AGENTS = "agents"
    """The agents that it directs, if Fleet runs it as an orchestrator."""
    ACCOUNT = "account"
    """Secrets of its account, until a client brings them."""
    BUDGET = "budget"
    """A higher cap, or use that is released."""
    QUOTA = "quota"
    """An account that the provider refuses for a time."""
    OVERLOAD = "overload"
    """The next attempt, after the model's API was overloaded."""
    HELD = "held"
    """A command that releases its queue or drops it, after a failure that its next task would meet, too."""
    # Playbook steps, cards and messages get kinds together with the code that waits for them.


ANSWERS = frozenset({WaitKind.QUESTION, WaitKind.PERMISSION})
"""waits that end with an answer"""
NEEDS_ACTION = ANSWERS | {WaitKind.ACCOUNT, WaitKind.BUDGET, WaitKind.HELD}
"""waits that need the orchestrator or a person"""
TIMED = frozenset({WaitKind.QUOTA, WaitKind.OVERLOAD})
"""waits that end at `until`"""
ON_OTHERS = frozenset({WaitKind.CHILDREN, WaitKind.AGENTS})
"""waits that end when other agents end"""
SUSPENDED = TIMED | ON_OTHERS | {WaitKind.BUDGET}
"""waits in the middle of a turn that do not ask a question"""


@dataclass(frozen=True, kw_only=True)
class QuotaRefusal:
    """What a provider said when it refused an account: when its quota resets, if it said so."""

    resets_at: float | None
    detail: str
    ends: bool = True
    """whether it ends on its own after a while, according to the provider"""


@dataclass(frozen=True, kw_only=True)
class Wait:
    """What one agent waits for."""

    kind: WaitKind
    on: str = ""
    """names of the inputs, the holder of the checkout, the agent that owns the budget ('': the agent itself), or the
    code of the failure that holds the queue
    """
    until: float | None = None
    """when the wait ends by itself, if it does"""
    detail: str = ""
    """details for readers: how an input ended, the amounts of a budget, the local time of a quota, the attempt, the
    number of held tasks
    """
    blocked: bool = False
    """nothing ends the wait in its usual way: an input failed, the holder of the checkout waits for an answer, the
    price of the model is unknown, or the account is refused repeatedly
    """

    @property
    def needs_action(self) -> bool:
        """Whether the wait lasts until the orchestrator or a person acts."""
        return self.blocked or self.kind in NEEDS_ACTION


SLOT = Wait(kind=WaitKind.SLOT)


def wait_words(wait: Wait) -> str:
    """Return the wait in words."""
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
            return f"{'refused; next try' if wait.blocked else 'quota until'} {wait.detail}"
        case WaitKind.OVERLOAD:
            return f"retrying {wait.detail}"
        case WaitKind.HELD:
            return f"held: {wait.detail} after {wait.on.replace('_', ' ')} failure"
        case _:
            return str(wait.kind)


def clock_time(at: float, now: float) -> str:
    """Return the time of day in this machine's zone, 14:00, with the date unless it is within a day."""
    moment = datetime.fromtimestamp(math.ceil(at / 60) * 60, UTC).astimezone()
    return moment.strftime("%H:%M" if at - now < DAY_SECONDS else "%Y-%m-%d %H:%M")
