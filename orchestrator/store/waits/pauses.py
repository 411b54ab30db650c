"""Turns that are suspended in the middle and resumed: at a cap, at a quota, at an overloaded model API."""

from __future__ import annotations

from typing import NamedTuple, TypedDict

from sqlalchemy import bindparam, delete, func, select, update

from orchestrator.domain.agent import Status
from orchestrator.domain.turn import TurnStatus
from orchestrator.domain.wait import TIMED, QuotaRefusal, Wait, WaitKind, clock_time
from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.dialect import upsert
from orchestrator.store.schema.rows import AgentRow, BreakerRow, TurnRow, all_rows
from orchestrator.store.schema.tables import AGENT, BREAKER, TURN
from orchestrator.store.schema.transitions import agent_row
from orchestrator.store.waits.suspension import resume, suspend

FIRST_BACK_OFF_SECONDS = 60.0
MAX_BACK_OFF_SECONDS = 3600.0
STAGGER_SECONDS = 2.0
"""between resuming two agents of one account after its quota has reset"""
ENDLESS_TRIES = 4
"""refusals in a row without an announced end, after which the wait counts as blocked"""
_STANDING = select(BREAKER).where(BREAKER.c.until > bindparam("now"))
_OPEN = upsert(BREAKER, "until", "tries", "detail")
_TIMED = (AGENT.c.status == Status.WAITING) & AGENT.c.wait_kind.in_(sorted(TIMED)) & AGENT.c.wait_until.is_not(None)


def suspend_turn(
    connection: Connection, agent_id: str, turn: TurnRow, wait: Wait, now: float, *, prompt_received: bool = True
) -> None:
    """Suspend the turn in the middle, without slot or process; it keeps its checkout.

    `prompt_received`: the session has shown that it has the prompt.
    """
    connection.execute(
        update(TURN)
        .where(TURN.c.id == turn.id)
        .values(
            status=TurnStatus.WAITING,
            suspended_for=wait.kind,
            prompt_received=turn.prompt_received or prompt_received,
            resumes=turn.resumes + 1,
            overloads=turn.overloads + (wait.kind is WaitKind.OVERLOAD),
        )
    )
    suspend(connection, agent_row(connection, agent_id), turn.ordinal, wait, now)


class OpenBreaker(NamedTuple):
    """Until when an account is refused, and how many refusals in a row told no time."""

    until: float
    tries: int

    def wait(self, until: float, now: float) -> Wait:
        """Return the wait of an agent of this account that is tried again at `until`."""
        clock = clock_time(self.until, now)
        return Wait(kind=WaitKind.QUOTA, until=until, detail=clock, blocked=self.tries >= ENDLESS_TRIES)


def open_breakers(connection: Connection, now: float) -> dict[tuple[str, str], OpenBreaker]:
    """Return which accounts are refused now, by account and provider."""
    rows = all_rows(BreakerRow, connection.execute(_STANDING, {"now": now}))
    return {(row.account, row.provider): OpenBreaker(row.until, row.tries) for row in rows}


def quota_wait(connection: Connection, account: str, provider: str, breaker: OpenBreaker, now: float) -> Wait:
    """Return the wait of one more agent of a refused account: it resumes a little after those that already wait."""
    mine = (AGENT.c.account == account) & (AGENT.c.provider == provider)
    before = int(connection.execute(select(func.count()).select_from(AGENT).where(mine, _TIMED)).scalar_one())
    return breaker.wait(breaker.until + STAGGER_SECONDS * before, now)


def open_breaker(connection: Connection, agent: AgentRow, refusal: QuotaRefusal, now: float) -> OpenBreaker:
    """Record that the agent's account is refused: until the stated time, or for a growing time if none was stated."""
    resets_at = refusal.resets_at
    account, provider = agent.account, agent.provider
    same = (BREAKER.c.account == account) & (BREAKER.c.provider == provider)
    # single writer: refusals are recorded one after the other
    before = connection.execute(select(BREAKER.c.until, BREAKER.c.tries).where(same)).one_or_none()
    if before is not None and before[0] > now and (resets_at is None or resets_at <= before[0]):
        return OpenBreaker(float(before[0]), int(before[1]))  # several agents got the same refusal: it counts once
    told = resets_at if resets_at is not None and resets_at > now else None
    tries = 0 if told else (int(before[1]) if before else 0) + 1
    grown = min(MAX_BACK_OFF_SECONDS, FIRST_BACK_OFF_SECONDS * 2 ** (tries - 1))
    breaker = OpenBreaker(told or now + grown, tries if refusal.ends else max(tries, ENDLESS_TRIES))
    row = {"account": account, "provider": provider, **breaker._asdict(), "detail": refusal.detail}
    connection.execute(_OPEN, row)
    return breaker


def close(connection: Connection, agent: AgentRow) -> None:
    """Record that the account is served again."""
    same = (BREAKER.c.account == agent.account) & (BREAKER.c.provider == agent.provider)
    connection.execute(delete(BREAKER).where(same))


def wake(connection: Connection, now: float) -> list[str]:
    """Resume the agents whose time has come; returns their ids."""
    due = _TIMED & (AGENT.c.wait_until <= now)
    woken = all_rows(AgentRow, connection.execute(select(AGENT).where(due).order_by(AGENT.c.wait_until)))
    for agent in woken:
        resume(connection, agent, now)
    return [agent.id for agent in woken]


def next_wake(connection: Connection) -> float | None:
    """Return when the next suspended agent is due; None if none is."""
    return connection.execute(select(func.min(AGENT.c.wait_until)).where(_TIMED)).scalar_one()


class SuspensionFields(TypedDict):
    """The fields of a claim that its turn's suspensions decide."""

    was_suspended: bool
    prompt_received: bool
    resumes: int
    overloads: int


def suspension_fields(turn: TurnRow) -> SuspensionFields:
    """Return the fields of a claim that describe the turn's suspensions."""
    return {
        "was_suspended": turn.status == TurnStatus.WAITING and bool(turn.suspended_for),
        "prompt_received": turn.prompt_received,
        "resumes": turn.resumes,
        "overloads": turn.overloads,
    }
