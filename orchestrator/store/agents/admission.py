"""Admission: which queued turns start now. Its rules are counted in the claiming transaction.

It runs at every commit, so what it costs must not grow with what many queued agents share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from orchestrator.domain.agent import Status
from orchestrator.domain.event import Kind
from orchestrator.domain.question import INBOX
from orchestrator.domain.turn import TurnStatus
from orchestrator.store.families import budgets
from orchestrator.store.schema.tables import TURN
from orchestrator.store.schema.transitions import agent_row, change, emit, move
from orchestrator.store.turns import progress
from orchestrator.store.turns.turns import Claim
from orchestrator.store.waits import leases, pauses, ready_queue
from orchestrator.store.waits.inputs import BLOCKED, blocked_reason

HELD = " writes in this checkout"
"""how the reason of an agent goes on that waits for another one's right to write"""
ASKS = " and waits for an answer"
"""how that reason ends if the other one cannot go on by itself"""


@dataclass(frozen=True, kw_only=True)
class Admission:
    """Who claims, how many agents may work at once, and whether an account's secrets are at hand."""

    owner: str
    slots: int
    payable: Callable[[str], bool]


def admit(connection: Connection, admission: Admission, now: float) -> list[Claim]:
    """Claim every queued turn that may start now, by priority, then oldest first; say what the others wait for."""
    accounts = ready_queue.accounts(connection)
    if not accounts:
        return []
    free = admission.slots - ready_queue.working(connection)
    gate = _Gate(connection, admission, now)
    full = free <= 0 and all(map(admission.payable, accounts)) and not gate.caps.fleet_is_short()
    places = ready_queue.stuck(connection, now) if full else ready_queue.queued(connection)
    gate.caps.expect({place.root for place in places if place.capped})
    claims: list[Claim] = []
    for place in places:
        obstacle = gate.obstacle(place, free)
        if obstacle is None:
            claims.append(_claim(connection, place, admission.owner, now))
            gate.caps.begun(place.root)
            free -= 1
        else:
            _wait_for(connection, place, obstacle, now)
    return claims


def _wait_for(connection: Connection, place: ready_queue.Place, obstacle: str, now: float) -> None:
    """Say what the agent waits for: in the line, or, where a slot would not help, outside."""
    if obstacle == "account":
        move(connection, agent_row(connection, place.agent_id), Status.WAITING, "account", now)
        emit(connection, place.agent_id, Kind.WAITING, now, place.turn, reason="account")
    elif obstacle.startswith((pauses.PARKED, pauses.REFUSED, budgets.PAUSED)) and HELD not in obstacle:
        pauses.wait_at(connection, place, obstacle, now)
    elif obstacle != place.reason:
        change(connection, place.agent_id, reason=obstacle)
        if obstacle.startswith(BLOCKED):
            change(connection, place.agent_id, changed_at=now)
        if obstacle.startswith(BLOCKED) or obstacle.endswith(ASKS):
            emit(connection, place.agent_id, Kind.BLOCKED, now, place.turn, reason=obstacle)


class _Gate:
    """Says whom of the line something keeps from starting; what many of them share is read once."""

    def __init__(self, connection: Connection, admission: Admission, now: float) -> None:
        self.caps = budgets.Gauge(connection, now)
        self._connection = connection
        self._payable = admission.payable
        self._now = now
        self._unsettled = ready_queue.unsettled(connection)
        self._refused = pauses.refusals(connection, now)
        self._holders: dict[str, leases.Holder] = {}

    def obstacle(self, place: ready_queue.Place, free: int) -> str | None:
        """Why the turn cannot start now; None if it can (the checkout is then held)."""
        if (sources := self._unsettled.get((place.agent_id, place.turn))) is not None:
            failed = [blocked_reason(one.name, Status(one.status), one.reason) for one in sources if one.blocked]
            return failed[0] if failed else "inputs: " + ", ".join(one.name for one in sources)
        if not self._payable(place.account):
            return "account"
        if (refusal := self._refused.get((place.account, place.provider))) is not None:
            return refusal.shown(self._now)
        room = self.caps.shortage(place.agent_id, place.root, starts_turn=not place.begun, capped=place.capped)
        if room is not None:
            return room.shown(place.agent_id)
        if free <= 0:
            return ready_queue.SLOT
        return self._held(place) if place.writes else None

    def _held(self, place: ready_queue.Place) -> str | None:
        """Whose right to write keeps the agent from its checkout; None if it is now its own."""
        holder = self._holders.get(place.checkout)
        if holder is None or holder.agent_id == place.agent_id:
            holder = leases.acquire(self._connection, leases.CHECKOUT, place.checkout, place.agent_id, self._now)
        if holder is None:
            return None
        self._holders[place.checkout] = holder
        asks = Status(holder.status) is Status.WAITING and holder.reason in INBOX
        return holder.name + HELD + (ASKS if asks else "")


def _claim(connection: Connection, place: ready_queue.Place, owner: str, now: float) -> Claim:
    agent = agent_row(connection, place.agent_id)
    turn = connection.execute(select(TURN).where(TURN.c.id == place.turn_id)).mappings().one()
    epoch = int(agent["epoch"]) + 1
    continues, recovers = turn["status"] == TurnStatus.WAITING, turn["status"] == TurnStatus.RECOVERING
    begun = int(agent["begun_turns"]) + (turn["started_at"] is None)
    running = {"running_since": now, "begun_turns": begun, "wake_at": None, **progress.begun(agent)}
    reason = "recovering" if recovers else "starting"
    move(connection, agent, Status.WORKING, reason, now, owner=owner, epoch=epoch, **running)
    connection.execute(
        update(TURN)
        .where(TURN.c.id == turn["id"])
        .values(
            status=TurnStatus.WORKING,
            epoch=epoch,
            started_at=turn["started_at"] or now,
            attempts=TURN.c.attempts + (not continues),
        )
    )
    kind = Kind.RESUMED if continues or recovers else Kind.STARTED
    emit(connection, agent["id"], kind, now, turn["ordinal"], turn_id=turn["id"], epoch=epoch)
    pauses.taken_up(connection, turn)
    paused = pauses.values_of(turn)
    return Claim(
        agent_id=agent["id"],
        turn_id=turn["id"],
        turn=turn["ordinal"],
        epoch=epoch,
        continues=continues and not paused["goes_on"],
        recovers=recovers,
        **paused,
    )
