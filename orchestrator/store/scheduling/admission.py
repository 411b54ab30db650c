"""Admission: decides which queued turns start now, in the transaction that claims them.

It runs at every commit, so facts that many queued agents share are read once, not once per agent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import update

from orchestrator.domain.activity import RECOVERING, STARTING
from orchestrator.domain.agent import Status
from orchestrator.domain.event import EventKind
from orchestrator.domain.turn import TurnStatus
from orchestrator.domain.wait import ANSWERS, SLOT, SUSPENDED, Wait, WaitKind
from orchestrator.store.engine.connection import Connection
from orchestrator.store.families import budgets
from orchestrator.store.schema.changes import MoveColumns
from orchestrator.store.schema.states import wait_body, wait_values
from orchestrator.store.schema.tables import TURN
from orchestrator.store.schema.transitions import agent_row, change, emit, move, turn_row
from orchestrator.store.turns import progress
from orchestrator.store.turns.turns import Claim
from orchestrator.store.waits import leases, pauses, ready_queue
from orchestrator.store.waits.inputs import blocked_by
from orchestrator.store.waits.suspension import suspend

OUTSIDE = SUSPENDED | {WaitKind.ACCOUNT}
"""waits that a slot would not end: an agent with one leaves the queue"""
ACCOUNT = Wait(kind=WaitKind.ACCOUNT)


@dataclass(frozen=True, kw_only=True)
class Admission:
    """The claiming daemon, how many agents may work at once, and which accounts' secrets are known."""

    owner: str
    slots: int
    payable: Callable[[str], bool]


def admit(connection: Connection, admission: Admission, now: float) -> list[Claim]:
    """Claim every queued turn that may start, by priority, then oldest first; record what the others wait for."""
    accounts = ready_queue.accounts(connection)
    if not accounts:
        return []
    # single writer: nobody else claims a slot or uses a cap meanwhile
    free = admission.slots - ready_queue.working(connection)
    gate = _AdmissionRules(connection, admission, now)
    full = free <= 0 and all(map(admission.payable, accounts)) and not gate.caps.fleet_is_short()
    entries = ready_queue.blocked(connection, now) if full else ready_queue.queued(connection)
    gate.caps.expect({entry.root for entry in entries if entry.capped})
    claims: list[Claim] = []
    for entry in entries:
        wait = gate.wait(entry, free)
        if wait is None:
            claims.append(_claim(connection, entry, admission.owner, now))
            gate.caps.begun(entry.root)
            free -= 1
        else:
            _keep(connection, entry, wait, now)
    return claims


def _keep(connection: Connection, entry: ready_queue.Entry, wait: Wait, now: float) -> None:
    """Record what the agent waits for; suspend it if a slot would not help."""
    if wait.kind in OUTSIDE:
        suspend(connection, agent_row(connection, entry.agent_id), entry.turn, wait, now)
    elif wait != entry.wait:
        new = wait_values(wait)
        if wait.kind is WaitKind.INPUTS and wait.blocked:
            new["changed_at"] = now
        change(connection, entry.agent_id, **new)
        if wait.blocked:
            emit(connection, entry.agent_id, EventKind.BLOCKED, now, entry.turn, **wait_body(wait))


class _AdmissionRules:
    """Finds what keeps each queued agent from starting; facts that agents share are read once."""

    def __init__(self, connection: Connection, admission: Admission, now: float) -> None:
        self.caps = budgets.BudgetReader(connection, now)
        self._connection = connection
        self._payable = admission.payable
        self._now = now
        self._unsettled = ready_queue.unsettled(connection)
        self._breakers = pauses.open_breakers(connection, now)
        self._holders: dict[str, leases.Holder] = {}

    def wait(self, entry: ready_queue.Entry, free: int) -> Wait | None:
        """Return what the turn waits for, or None if it can start; its agent then holds the checkout."""
        if (sources := self._unsettled.get((entry.agent_id, entry.turn))) is not None:
            failed = [blocked_by(one.name, Status(one.status), one.reason) for one in sources if one.blocked]
            return failed[0] if failed else Wait(kind=WaitKind.INPUTS, on=", ".join(one.name for one in sources))
        if not self._payable(entry.account):
            return ACCOUNT
        if (breaker := self._breakers.get((entry.account, entry.provider))) is not None:
            return pauses.quota_wait(self._connection, entry.account, entry.provider, breaker, self._now)
        room = self.caps.shortage(entry.agent_id, entry.root, starts_turn=not entry.begun, capped=entry.capped)
        if room is not None:
            return room.wait(entry.agent_id)
        if free <= 0:
            return SLOT
        return self._held(entry) if entry.writes else None

    def _held(self, entry: ready_queue.Entry) -> Wait | None:
        """Return the wait for the agent that holds the checkout; None if this one holds it now."""
        holder = self._holders.get(entry.checkout)
        if holder is None or holder.agent_id == entry.agent_id:
            holder = leases.acquire_checkout(self._connection, entry.checkout, entry.agent_id, self._now)
        if holder is None:
            return None
        self._holders[entry.checkout] = holder
        return Wait(kind=WaitKind.CHECKOUT, on=holder.name, blocked=holder.wait_kind in ANSWERS)


def _claim(connection: Connection, entry: ready_queue.Entry, owner: str, now: float) -> Claim:
    agent = agent_row(connection, entry.agent_id)
    turn = turn_row(connection, entry.turn_id)
    epoch = agent.epoch + 1
    continues, recovers = turn.status == TurnStatus.WAITING, turn.status == TurnStatus.RECOVERING
    begun = agent.begun_turns + (turn.started_at is None)
    running: MoveColumns = {"running_since": now, "begun_turns": begun, "owner": owner, "epoch": epoch}
    running |= progress.begun(agent)
    activity = RECOVERING if recovers else STARTING
    move(connection, agent, Status.WORKING, now, activity=activity, **running)
    connection.execute(
        update(TURN)
        .where(TURN.c.id == turn.id)
        .values(
            status=TurnStatus.WORKING,
            epoch=epoch,
            started_at=turn.started_at or now,
            attempts=TURN.c.attempts + (not continues),
            suspended_for="",
        )
    )
    kind = EventKind.RESUMED if continues or recovers else EventKind.STARTED
    emit(connection, agent.id, kind, now, turn.ordinal, turn_id=turn.id, epoch=epoch)
    suspensions = pauses.suspension_fields(turn)
    return Claim(
        agent_id=agent.id,
        turn_id=turn.id,
        turn=turn.ordinal,
        epoch=epoch,
        continues=continues and not suspensions["was_suspended"],
        recovers=recovers,
        **suspensions,
    )
