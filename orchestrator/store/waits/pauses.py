"""Turns that are put aside in the middle and taken up again: at a cap, at a quota, at an overloaded model's API."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, RowMapping, bindparam, delete, func, or_, select, update
from sqlalchemy.dialects.sqlite import insert

from orchestrator.domain.agent import Status
from orchestrator.domain.event import Kind
from orchestrator.domain.turn import TurnStatus
from orchestrator.store.schema.tables import AGENT, BREAKER, TURN
from orchestrator.store.schema.transitions import CLOCK, agent_row, emit, move, tell
from orchestrator.store.waits import ready_queue

PARKED = "parked until "
"""how the reason of an agent begins whose account is refused for a time"""
REFUSED = "refused; next try "
"""the same for one that is refused without an end in sight: it is tried all the same, but somebody must look at it"""
RETRY = "retrying "
"""how the reason of an agent begins whose turn is repeated after a while"""
CHILDREN = "children"
"""how the reason of an agent begins that sleeps on its children"""
AGENTS = "agents"
"""the same for an orchestrator that Fleet runs, and its fleet"""
BY_ITSELF = (PARKED, RETRY, CHILDREN, AGENTS)
"""agents that wait so go on without their orchestrator"""
FIRST_BACK_OFF_SECONDS = 60.0
MAX_BACK_OFF_SECONDS = 3600.0
STAGGER_SECONDS = 2.0
"""between two agents of one account that go on after its quota came back"""
DAY_SECONDS = 86_400.0
ENDLESS_TRIES = 4
"""refusals in a row, none of which told when it ends, after which nobody can say that it will"""
_STANDING = select(BREAKER).where(BREAKER.c.until > bindparam("now"))


@dataclass(frozen=True, kw_only=True)
class Pause:
    """Why a run is put aside; `wake_at` None: until somebody lets it go on."""

    why: str
    """budget, quota, overloaded"""
    reason: str
    wake_at: float | None = None
    heard: bool = True
    """the session has shown that it has the prompt"""


def put_aside(connection: Connection, agent_id: str, turn: RowMapping, pause: Pause, now: float) -> None:
    """Let the turn wait in the middle: no slot, no process; it keeps its checkout."""
    connection.execute(
        update(TURN)
        .where(TURN.c.id == turn["id"])
        .values(
            status=TurnStatus.WAITING,
            parked=pause.why,
            heard=turn["heard"] or pause.heard,
            resumes=turn["resumes"] + 1,
            overloads=turn["overloads"] + (pause.why == "overloaded"),
        )
    )
    wait(connection, agent_row(connection, agent_id), turn["ordinal"], pause.reason, now, pause.wake_at)


def wait(
    connection: Connection, agent: RowMapping, ordinal: int, reason: str, now: float, wake_at: float | None = None
) -> None:
    """Let the agent wait for what its orchestrator, a person or time must bring."""
    move(connection, agent, Status.WAITING, reason, now, wake_at=wake_at, owner=None)
    until = {} if wake_at is None else {"until": datetime.fromtimestamp(wake_at, UTC).isoformat(timespec="seconds")}
    emit(connection, agent["id"], Kind.WAITING, now, ordinal, reason=reason, **until)
    if wake_at is not None:
        tell(connection, CLOCK)


class Refusal(NamedTuple):
    """A refusal of an account that stands."""

    until: float
    tries: int

    def shown(self, now: float) -> str:
        """The words for the status of its agents."""
        begins = REFUSED if self.tries >= ENDLESS_TRIES else PARKED
        return begins + clock_time(self.until, now)


def refusals(connection: Connection, now: float) -> dict[tuple[str, str], Refusal]:
    """Which accounts are refused now, by account and provider."""
    rows = connection.execute(_STANDING, {"now": now}).mappings()
    return {(row["account"], row["provider"]): Refusal(row["until"], row["tries"]) for row in rows}


def wait_at(connection: Connection, place: ready_queue.Place, obstacle: str, now: float) -> None:
    """Let a queued agent wait with this obstacle; one whose account is refused wakes by itself, after its like."""
    refusal = refusals(connection, now).get((place.account, place.provider))
    wake_at = None
    if refusal is not None and obstacle == refusal.shown(now):
        wake_at = refusal.until + STAGGER_SECONDS * _parked(connection, place.account, place.provider)
    wait(connection, agent_row(connection, place.agent_id), place.turn, obstacle, now, wake_at)


def _parked(connection: Connection, account: str, provider: str) -> int:
    mine = (AGENT.c.account == account) & (AGENT.c.provider == provider) & (AGENT.c.status == Status.WAITING)
    query = select(func.count()).select_from(AGENT).where(mine, AGENT.c.wake_at.is_not(None))
    return int(connection.execute(query).scalar_one())


def trip(
    connection: Connection, agent: RowMapping, resets_at: float | None, detail: str, now: float, *, ends: bool = True
) -> Refusal:
    """Record that the agent's account is refused: until when it was told, else for a growing time.

    `ends`: time alone may end it, as far as the refusal tells.
    """
    account, provider = agent["account"], agent["provider"]
    same = (BREAKER.c.account == account) & (BREAKER.c.provider == provider)
    before = connection.execute(select(BREAKER.c.until, BREAKER.c.tries).where(same)).one_or_none()
    if before is not None and before[0] > now and (resets_at is None or resets_at <= before[0]):
        return Refusal(float(before[0]), int(before[1]))  # several agents heard the same refusal: that is one
    told = resets_at if resets_at is not None and resets_at > now else None
    tries = 0 if told else (int(before[1]) if before else 0) + 1
    grown = min(MAX_BACK_OFF_SECONDS, FIRST_BACK_OFF_SECONDS * 2 ** (tries - 1))
    refusal = Refusal(told or now + grown, tries if ends else max(tries, ENDLESS_TRIES))
    new = {**refusal._asdict(), "detail": detail}
    row = insert(BREAKER).values(account=account, provider=provider, **new)
    connection.execute(row.on_conflict_do_update(index_elements=["account", "provider"], set_=new))
    return refusal


def close(connection: Connection, agent: RowMapping) -> None:
    """The account is served again."""
    same = (BREAKER.c.account == agent["account"]) & (BREAKER.c.provider == agent["provider"])
    connection.execute(delete(BREAKER).where(same))


def parked_pause(connection: Connection, agent: RowMapping, refusal: Refusal, now: float) -> Pause:
    """The pause of an agent whose account is refused."""
    wake_at = refusal.until + STAGGER_SECONDS * _parked(connection, agent["account"], agent["provider"])
    return Pause(why="quota", reason=refusal.shown(now), wake_at=wake_at)


def wake(connection: Connection, now: float) -> list[str]:
    """Queue the agents whose time has come; return their ids."""
    due = _timed() & (AGENT.c.wake_at <= now)
    woken: list[str] = []
    for agent in connection.execute(select(AGENT).where(due).order_by(AGENT.c.wake_at)).mappings().all():
        ready_queue.go_on(
            connection, agent, ready_queue.next_turn(connection, agent["id"]), now, agent["reason"], wake_at=None
        )
        woken.append(agent["id"])
    return woken


def next_wake(connection: Connection) -> float | None:
    """When the next parked agent is due; None if none is."""
    return connection.execute(select(func.min(AGENT.c.wake_at)).where(_timed())).scalar_one()


def _timed() -> ColumnElement[bool]:
    timed = or_(*[AGENT.c.reason.startswith(begins) for begins in (PARKED, REFUSED, RETRY)])
    return (AGENT.c.status == Status.WAITING) & AGENT.c.wake_at.is_not(None) & timed


def taken_up(connection: Connection, turn: RowMapping) -> None:
    """The turn goes on: it is put aside no longer."""
    connection.execute(update(TURN).where(TURN.c.id == turn["id"]).values(parked=""))


def clock_time(at: float, now: float) -> str:
    """The moment for a reader, in this machine's time: 14:00, with its date if it is not within a day."""
    moment = datetime.fromtimestamp(math.ceil(at / 60) * 60, UTC).astimezone()
    return moment.strftime("%H:%M" if at - now < DAY_SECONDS else "%Y-%m-%d %H:%M")


def values_of(turn: RowMapping) -> Mapping[str, Any]:
    """What a claim of this turn needs to know of its pauses."""
    parked = turn["status"] == TurnStatus.WAITING and bool(turn["parked"])
    return {"goes_on": parked, "heard": turn["heard"], "resumes": turn["resumes"], "overloads": turn["overloads"]}
