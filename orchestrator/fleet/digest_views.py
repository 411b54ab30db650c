"""What a wait returns: the ended turns, and the digest about them."""

from __future__ import annotations

from orchestrator.domain.text import NO_TEXT
from orchestrator.fleet.state_views import Foreign, View
from orchestrator.fleet.views import Changes, CheckView


class OpenTurnView(View):
    """The turn that an agent works on, or the next one."""

    turn: int
    status: str
    """queued | working | waiting | recovering"""


class OutcomeView(View):
    """One ended turn of an agent in a digest."""

    name: str
    id: str
    """of the agent"""
    status: str
    """complete | failed | interrupted"""
    reason: str = ""
    """short code, if it failed or was interrupted: `checks`, `auth`, `crash_loop`, …, or `before it began`"""
    detail: Foreign = NO_TEXT
    """the reason in a sentence"""
    hint: Foreign = NO_TEXT
    """what to do about it"""
    turn: int
    is_latest: bool = True
    """no other turn of the agent has ended since"""
    open_turn: OpenTurnView | None = None
    """what the agent works on, if anything"""
    text: Foreign = NO_TEXT
    place: str = ""
    """as in `AgentView`"""
    cost_usd: float | None = None
    """of this turn; None if unknown"""
    changes: Changes | None = None
    changes_unknown: Foreign = NO_TEXT
    """why git could not tell, if so"""
    age_seconds: float = 0.0
    """since its end"""
    elapsed_seconds: float | None = None
    """from its start to its end; None if it never started"""
    checks: tuple[CheckView, ...] = ()
    """result of the last attempt at its checks"""
    handed_on: bool = False
    """another agent receives its result, so the digest tells only the gist of it"""


class Digest(View):
    """What a wait returns to its orchestrator; `text` is what it reads, at most 1,600 bytes."""

    text: str
    cursor: str
    timed_out: bool
    needs: tuple[str, ...] = ()
    """names of the agents that need the orchestrator"""
    outcomes: tuple[OutcomeView, ...] = ()
    """every ended turn that had not been delivered, in the order of their ends"""
    working: tuple[str, ...] = ()
    slept_seconds: float
