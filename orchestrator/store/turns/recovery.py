"""Operations on turns whose session or daemon died: they are taken over and resumed, a bounded number of times."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import select, update

from orchestrator.domain.agent import Status
from orchestrator.domain.event import EventKind
from orchestrator.domain.turn import DAEMON, TURN_OPEN, TurnResult, TurnStatus
from orchestrator.domain.usage import RunUsage
from orchestrator.domain.wait import SLOT
from orchestrator.store.engine.connection import Connection
from orchestrator.store.families import budgets
from orchestrator.store.schema.rows import AgentRow, TurnRow, all_rows, one_row
from orchestrator.store.schema.tables import AGENT, TURN
from orchestrator.store.schema.transitions import StaleOwnerError, change, emit, move, owned_row
from orchestrator.store.turns import outcomes
from orchestrator.store.turns.turns import Claim, count, rest, run_ended, withdraw
from orchestrator.store.waits import leases

DAEMON_ENDED = "the daemon ended in the middle of this turn; the conversation is kept: command the agent to continue"
CRASH_LOOP = "crash_loop"
CRASH_LOOP_HINT = "read `fleet logs` of the agent and the daemon's log; command the agent to try once more"


@dataclass(frozen=True, kw_only=True)
class Loss:
    """How a run was lost."""

    reason: str
    detail: str
    counts: bool = True
    """whether something died; a daemon that was asked to stop leaves its runs to the next one"""


@dataclass(frozen=True, kw_only=True)
class LostRun:
    """A run that died, as its turn remembers it."""

    attempt: int
    reason: str
    detail: str
    at: float

    @property
    def why(self) -> str:
        """Why it was lost, in a few words."""
        return "the daemon ended" if self.reason == DAEMON else f"{self.reason} ({self.detail})"

    @property
    def told(self) -> str:
        """How it was lost, in a few words."""
        return f"{_clock(self.at)} attempt {self.attempt}: {self.why}"


def take_over(connection: Connection, owner: str, now: float, max_resumes: int) -> list[str]:
    """Take over every turn that a former daemon ran; returns the ids of their agents.

    Waiting agents hold no process and are left as they are; queued ones are admitted as usual.
    """
    leases.release_of_deleted(connection, now)
    # one process owns the database: any other owner is gone
    theirs = (AGENT.c.status == Status.WORKING) & AGENT.c.owner.is_distinct_from(owner)
    lost: list[str] = []
    for agent in all_rows(AgentRow, connection.execute(select(AGENT).where(theirs))):
        turn = _running(connection, agent.id)
        loss = Loss(reason=DAEMON, detail=DAEMON_ENDED)
        if turn is None:
            _rest(connection, agent, Status.INTERRUPTED, "the daemon ended", now)
        elif (final := _lose(connection, agent, turn, loss, now, max_resumes)) is not None:
            _end(connection, agent, turn, final, now)
        else:
            budgets.run_ended(connection, agent, _last_seen(agent, now))
        lost.append(agent.id)
    return lost


def held_by(connection: Connection, owner: str) -> list[Claim]:
    """Return the running turns of this daemon, as it claimed them."""
    query = (
        select(AGENT.c.id, AGENT.c.epoch, TURN.c.id, TURN.c.ordinal)
        .join(TURN, TURN.c.agent_id == AGENT.c.id)
        .where(AGENT.c.status == Status.WORKING, AGENT.c.owner == owner, TURN.c.status == TurnStatus.WORKING)
    )
    return [
        Claim(agent_id=agent_id, turn_id=turn_id, turn=turn, epoch=epoch, continues=False)
        for agent_id, epoch, turn_id, turn in connection.execute(query)
    ]


def give_up_run(
    connection: Connection, claim: Claim, loss: Loss, usage: RunUsage, now: float, max_resumes: int
) -> TurnResult | None:
    """Queue the turn of a lost run again so that it resumes; if it was lost too often, return how it must end instead.

    Raises:
        StaleOwnerError: the claim is over or the turn has ended; nothing is written.
    """
    agent = owned_row(connection, claim.agent_id, claim.epoch)
    turn = _running(connection, claim.agent_id)
    if turn is None or turn.id != claim.turn_id:
        raise StaleOwnerError(f"turn {claim.turn_id} has already ended")
    final = _lose(connection, agent, turn, loss, now, max_resumes)
    if final is None:
        run_ended(connection, agent, claim, usage, now)
    return final


def note_prompt(connection: Connection, claim: Claim, prompt_id: str) -> None:
    """Record the id of a prompt before it is sent, so that a successor can find it in the transcript.

    Raises:
        StaleOwnerError: the claim is over.
    """
    owned_row(connection, claim.agent_id, claim.epoch)
    row = connection.execute(select(TURN.c.prompts).where(TURN.c.id == claim.turn_id)).scalar_one()
    prompts: Sequence[str] = row or []
    if prompt_id in prompts:
        return
    connection.execute(update(TURN).where(TURN.c.id == claim.turn_id).values(prompts=[*prompts, prompt_id]))


def count_lost(connection: Connection, claim: Claim, usage: RunUsage) -> None:
    """Add what a dead run used, according to its transcript, to its turn.

    Raises:
        StaleOwnerError: the claim is over.
    """
    count(connection, owned_row(connection, claim.agent_id, claim.epoch), claim.turn_id, usage)


def _running(connection: Connection, agent_id: str) -> TurnRow | None:
    query = select(TURN).where(TURN.c.agent_id == agent_id, TURN.c.status == TurnStatus.WORKING)
    return one_row(TurnRow, connection.execute(query))


def _lose(
    connection: Connection, agent: AgentRow, turn: TurnRow, loss: Loss, now: float, max_resumes: int
) -> TurnResult | None:
    attempt = turn.attempts
    known = [LostRun(**one) for one in turn.losses or ()]
    lost = LostRun(attempt=attempt, reason=loss.reason, detail=loss.detail[:300], at=now)
    losses = [*(one for one in known if one.attempt != attempt), lost]
    if loss.counts:
        rows = [asdict(one) for one in losses]
        connection.execute(update(TURN).where(TURN.c.id == turn.id).values(losses=rows))
    if turn.stop or outcomes.is_replaced(connection, agent.id):
        return TurnResult(status=TurnStatus.INTERRUPTED, reason="interrupted", detail="interrupted on request")
    if not max_resumes or (loss.counts and attempt > max_resumes):
        return _final(loss, losses, max_resumes)
    attempts = attempt if loss.counts else attempt - 1  # the next claim counts it again
    values = {"status": TurnStatus.RECOVERING, "attempts": attempts}
    connection.execute(update(TURN).where(TURN.c.id == turn.id).values(**values))
    emit(connection, agent.id, EventKind.LOST, now, turn.ordinal, attempt=attempt, reason=loss.reason)
    move(connection, agent, Status.QUEUED, now, wait=SLOT, owner=None, epoch=agent.epoch + 1)
    return None


def _final(loss: Loss, losses: Sequence[LostRun], max_resumes: int) -> TurnResult:
    if max_resumes:
        detail = f"its session died {len(losses)} times: {_history(losses)}"
        return TurnResult(status=TurnStatus.FAILED, reason=CRASH_LOOP, detail=detail[:2_000], hint=CRASH_LOOP_HINT)
    status = TurnStatus.INTERRUPTED if loss.reason == DAEMON else TurnStatus.FAILED
    return TurnResult(status=status, reason=loss.reason, detail=loss.detail)


def _history(losses: Sequence[LostRun]) -> str:
    """Return how each run was lost; a cause that all share is said once."""
    if len({(one.reason, one.detail) for one in losses}) > 1:
        return "; ".join(one.told for one in losses)
    return f"{losses[0].why}, last at {_clock(losses[-1].at)}"


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%SZ", time.gmtime(at))


def _end(connection: Connection, agent: AgentRow, turn: TurnRow, final: TurnResult, now: float) -> None:
    """End the turn of a dead daemon with its one terminal event; its cost is unknown."""
    values = {"status": final.status, "reason": final.reason, "detail": final.detail, "hint": final.hint}
    connection.execute(
        update(TURN)
        .where(TURN.c.id == turn.id, TURN.c.status.in_(TURN_OPEN))
        .values(**values, ended_at=now, cost_unknown=True)
    )
    kind = EventKind(f"turn.{final.status}")
    cursor = emit(connection, agent.id, kind, now, turn.ordinal, reason=final.reason, detail=final.detail)
    change(connection, agent.id, cost_unknown=True)
    outcomes.record(connection, agent.id, turn.id, final.status, cursor)
    shown = "the daemon ended" if final.reason == DAEMON else final.reason
    _rest(connection, agent, Status(str(final.status)), shown, now)


def _last_seen(agent: AgentRow, now: float) -> float:
    """When the dead run was last heard of; no time counts while no daemon ran."""
    return min(now, max(agent.running_since or now, agent.last_event_at or 0.0))


def _rest(connection: Connection, agent: AgentRow, status: Status, reason: str, now: float) -> None:
    leases.release(connection, agent.id, now, leases.CHECKOUT)
    budgets.fold(connection, agent, _last_seen(agent, now))
    change(connection, agent.id, epoch=agent.epoch + 1)
    withdraw(connection, agent)
    rest(connection, agent, status, reason, now)
