"""Operations on whole agents: create and delete them, and give them an account."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import insert, select, update

from orchestrator.domain.agent import OPEN, Account, AgentSpec, Brief, Status, merged_briefs
from orchestrator.domain.event import EventKind
from orchestrator.domain.text import named
from orchestrator.domain.tool import CallingTurn
from orchestrator.domain.turn import TURN_OPEN, TurnStatus
from orchestrator.domain.wait import WaitKind
from orchestrator.errors import ConflictError
from orchestrator.store.engine.connection import Connection
from orchestrator.store.families import budgets, children
from orchestrator.store.families.children import FamilyPlace
from orchestrator.store.schema.rows import AgentRow, StoredBrief, all_rows
from orchestrator.store.schema.states import stored_check
from orchestrator.store.schema.tables import AGENT, TURN
from orchestrator.store.schema.transitions import agent_row, change, cost_is_unknown, emit, move
from orchestrator.store.turns import outcomes
from orchestrator.store.turns.turns import queue_turn, withdraw
from orchestrator.store.waits import leases, ready_queue
from orchestrator.store.waits.inputs import forget_unsettled, set_inputs, source_ended
from orchestrator.store.waits.suspension import resume


def find_by_key(connection: Connection, call_key: str | None) -> str | None:
    """Return the agent that this idempotency key created."""
    if call_key is None:
        return None
    return connection.execute(select(AGENT.c.id).where(AGENT.c.call_key == call_key)).scalar_one_or_none()


def create(
    connection: Connection,
    spec: AgentSpec,
    limits: children.ChildLimits = children.NONE,
    parent: CallingTurn | None = None,
) -> tuple[str, bool]:
    """Insert the agent with its first turn; returns its id, and whether the idempotency key had created it before.

    Raises:
        ConflictError: a living agent of the project has the name, or the inputs form a cycle.
    """
    if existing := find_by_key(connection, spec.call_key):
        return existing, True
    now = spec.created_at
    _check_name_free(connection, spec.project, spec.name)
    children.check_living(connection, limits)
    place = FamilyPlace(id=spec.id, root=spec.id, priority=spec.priority)
    if parent is not None:
        budgets.reserve(connection, parent.agent_id, spec.caps, now)
        place = children.adopt(connection, parent, limits)
    agent_id = place.id
    _insert(connection, spec, place)
    emit(
        connection,
        agent_id,
        EventKind.CREATED,
        now,
        name=spec.name,
        persona=spec.persona.name,
        provider=spec.provider,
        model=spec.model,
    )
    leases.hold(connection, leases.DESK, f"{spec.desks}/{agent_id}", agent_id, now)
    budgets.set_caps(connection, agent_id, spec.persona.cap_scope, spec.caps)
    queue_turn(connection, agent_id, turn_id=spec.turn_id, prompt=spec.task, now=now)
    set_inputs(connection, agent_id, 1, spec.inputs, spec.any_end)
    return agent_id, False


def add_briefs(connection: Connection, agent_id: str, briefs: Sequence[Brief]) -> None:
    """Add to what the agent reads in each session from now on.

    Raises:
        InvalidError: it would be too long.
    """
    has = [Brief(**brief) for brief in agent_row(connection, agent_id).briefs or ()]
    known = {brief.text.strip() for brief in has}
    if any(brief.text.strip() not in known for brief in briefs):
        merged = merged_briefs([*has, *briefs])
        change(connection, agent_id, briefs=[StoredBrief(of=brief.of, text=brief.text) for brief in merged])


def _insert(connection: Connection, spec: AgentSpec, place: FamilyPlace) -> None:
    checks = spec.checks.checks
    row = insert(AGENT).values(
        name=spec.name,
        project=spec.project,
        orchestrator=spec.orchestrator,
        call_key=spec.call_key,
        created_at=spec.created_at,
        persona=spec.persona.name,
        persona_body=asdict(spec.persona),
        provider=spec.provider,
        model=spec.model,
        task=spec.task,
        cwd=spec.cwd,
        checkout=spec.checkout,
        writes=spec.persona.writes,
        max_turns=spec.max_turns,
        rehearsal=spec.rehearsal,
        checks=None if checks is None else [stored_check(one) for one in checks],
        check_retries=spec.checks.retries,
        briefs=[asdict(brief) for brief in spec.briefs] or None,
        account=spec.account.id,
        account_public=dict(spec.account.public),
        environment=dict(spec.account.environment),
        session_id=spec.session_id,
        status=Status.CREATING,
        changed_at=spec.created_at,
    )
    connection.execute(row.values(asdict(place)))


def _check_name_free(connection: Connection, project: str, name: str) -> None:
    row = connection.execute(
        select(AGENT.c.id, AGENT.c.status, AGENT.c.persona, AGENT.c.orchestrator).where(
            AGENT.c.project == project, AGENT.c.name == name, AGENT.c.deleted_at.is_(None)
        )
    ).one_or_none()
    if row:
        raise ConflictError(
            f"the name {name!r} is taken by {row[0]} ({named(row[2])}, {row[1]}, created by {named(row[3])})",
            hint=f"choose another name, give that agent its next task with command_agent({name}), or delete it",
        )


def delete(connection: Connection, agent_id: str, now: float) -> str:
    """Mark the agent deleted, end its open turns, release its leases, and return the status that it had.

    Its record, results and files are kept. Its epoch advances, so that a running session cannot write any more. The
    caller releases its checkout once that session has ended.
    """
    agent = agent_row(connection, agent_id)
    before = agent.status
    if before is Status.DELETED:
        return str(before)
    budgets.fold(connection, agent, now)
    end_open_turns(connection, agent, now, reason="deleted")
    outcomes.drop(connection, agent_id, now)
    withdraw(connection, agent)
    move(connection, agent, Status.DELETED, now, deleted_at=now, epoch=agent.epoch + 1, owner=None)
    leases.release(connection, agent_id, now, leases.DESK if before is Status.WORKING else None)
    emit(connection, agent_id, EventKind.DELETED, now, was=str(before))
    source_ended(connection, agent_id, Status.DELETED)
    children.ended(connection, agent, now)
    return str(before)


def delete_families(connection: Connection, agent_ids: Sequence[str], now: float) -> dict[str, str]:
    """Delete the agents and all their descendants; returns the status that each had, by id, parents first."""
    family = dict.fromkeys(one for agent_id in agent_ids for one in children.subtree(connection, agent_id))
    return {agent_id: delete(connection, agent_id, now) for agent_id in family}


def end_open_turns(connection: Connection, agent: AgentRow, now: float, *, reason: str, whole: bool = True) -> None:
    """End the next open turn, or with `whole` all of them, each with its terminal event.

    A turn that had begun ends as interrupted, any other as cancelled, and its inputs are dropped. If no turn is
    left, the last one's end is the agent's, so it has an outcome.
    """
    rows = connection.execute(
        select(TURN.c.id, TURN.c.ordinal, TURN.c.status)
        .where(TURN.c.agent_id == agent.id, TURN.c.status.in_(TURN_OPEN))
        .order_by(TURN.c.ordinal)
    ).all()
    if not whole and (following := ready_queue.next_turn(connection, agent.id)) is not None:
        rows = [row for row in rows if row[0] == following.id]
    ended_turn: tuple[str, int] | None = None
    for turn_id, ordinal, status in rows:
        begun = status != TurnStatus.QUEUED
        ended, kind = (
            (TurnStatus.INTERRUPTED, EventKind.INTERRUPTED) if begun else (TurnStatus.CANCELLED, EventKind.CANCELLED)
        )
        connection.execute(update(TURN).where(TURN.c.id == turn_id).values(status=ended, reason=reason, ended_at=now))
        forget_unsettled(connection, agent.id, ordinal)
        if status in {TurnStatus.WORKING, TurnStatus.RECOVERING}:
            cost_is_unknown(connection, agent.id, turn_id)
        if status == TurnStatus.RECOVERING:
            budgets.fold(connection, agent_row(connection, agent.id), now)
        ended_turn = turn_id, emit(connection, agent.id, kind, now, ordinal, reason=reason)
    if ended_turn is not None and ready_queue.next_turn(connection, agent.id) is None:
        outcomes.record(connection, agent.id, ended_turn[0], TurnStatus.CANCELLED, ended_turn[1])


def drop_queued(connection: Connection, agent_id: str, now: float, *, keep: str) -> None:
    """Cancel the agent's turns that have not begun, except one; they have no outcome: a command asked for that."""
    mine = (TURN.c.agent_id == agent_id) & (TURN.c.status == TurnStatus.QUEUED) & (TURN.c.id != keep)
    rows = connection.execute(select(TURN.c.id, TURN.c.ordinal).where(mine).order_by(TURN.c.ordinal)).all()
    for turn_id, ordinal in rows:
        ended = {"status": TurnStatus.CANCELLED, "reason": "dropped", "ended_at": now}
        connection.execute(update(TURN).where(TURN.c.id == turn_id).values(ended))
        forget_unsettled(connection, agent_id, ordinal)
        emit(connection, agent_id, EventKind.CANCELLED, now, ordinal, reason="dropped")


def rebind(connection: Connection, agent_id: str, account: Account) -> None:
    """Let this account pay for the agent from now on, with its environment."""
    public, environment = dict(account.public), dict(account.environment)
    change(connection, agent_id, account=account.id, account_public=public, environment=environment)


def account_arrived(connection: Connection, account: str, now: float) -> int:
    """Resume the agents that wait for this account; returns how many."""
    waiting = (AGENT.c.account == account) & (AGENT.c.wait_kind == WaitKind.ACCOUNT)
    rows = all_rows(AgentRow, connection.execute(select(AGENT).where(waiting)))
    for agent in rows:
        resume(connection, agent, now)
    return len(rows)


def count_by_status(connection: Connection) -> dict[str, int]:
    """Return how many living agents have each status that is open."""
    rows = connection.execute(select(AGENT.c.status).where(AGENT.c.status.in_(OPEN), AGENT.c.deleted_at.is_(None)))
    counts: dict[str, int] = dict.fromkeys((str(status) for status in OPEN), 0)
    for (status,) in rows:
        counts[status] += 1
    return counts
