"""Operations on families: a parent creates children and waits, suspended, until the last one has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import func, select, update

from orchestrator.domain.agent import OPEN, Status
from orchestrator.domain.event import EventKind
from orchestrator.domain.question import AnsweredBy, NewQuestion
from orchestrator.domain.tool import CallingTurn
from orchestrator.domain.turn import TurnStatus
from orchestrator.domain.wait import SLOT, Wait, WaitKind
from orchestrator.errors import ConflictError, RefusedError
from orchestrator.store.engine.connection import Connection
from orchestrator.store.families import budgets
from orchestrator.store.schema.rows import AgentRow, all_rows
from orchestrator.store.schema.tables import AGENT, TURN
from orchestrator.store.schema.transitions import agent_row, change, emit, move
from orchestrator.store.waits import leases, questions, suspension
from orchestrator.store.waits.deadlocks import circle


class Suspended(Protocol):
    """The claim of a run whose turn is suspended to wait for children."""

    @property
    def agent_id(self) -> str:
        """The parent."""
        ...

    @property
    def turn_id(self) -> str:
        """Its turn."""
        ...

    @property
    def turn(self) -> int:
        """The turn's ordinal."""
        ...


@dataclass(frozen=True, kw_only=True)
class ChildLimits:
    """How many agents may live, how deep families may be, and how many children one agent may have."""

    agents: int
    depth: int
    children: int


@dataclass(frozen=True, kw_only=True)
class FamilyPlace:
    """The place of a new agent in its family: at the top, or as the next child of its parent."""

    id: str
    root: str
    priority: int
    parent: str | None = None
    depth: int = 0
    child_index: int | None = None


NONE = ChildLimits(agents=10**9, depth=0, children=0)
"""as many agents as wanted, none of which may create any"""


def check_living(connection: Connection, limits: ChildLimits) -> None:
    """Check that one more agent may live.

    Raises:
        ConflictError: the limit is reached.
    """
    query = select(func.count()).select_from(AGENT).where(AGENT.c.deleted_at.is_(None))
    living = int(connection.execute(query).scalar_one())
    if living >= limits.agents:
        raise ConflictError(
            f"{living} agents live and AGENT_MAX_SESSION is {limits.agents}",
            hint="delete agents that are done: their results stay readable",
        )


def adopt(connection: Connection, run: CallingTurn, limits: ChildLimits) -> FamilyPlace:
    """Count one more child of the parent; returns the columns that tie the child to it, including its id.

    Raises:
        RefusedError: the parent may have no more children, or none at this depth.
        ConflictError: the turn that called is not at work.
    """
    parent_id = run.agent_id
    parent = agent_row(connection, parent_id)
    if parent.epoch != run.epoch or parent.status is not Status.WORKING:
        raise ConflictError(f"{parent.name} has stopped working on the turn that made this call", hint="end your turn")
    if parent.depth + 1 > limits.depth:
        raise RefusedError(
            f"you are at depth {parent.depth} and AGENT_MAX_RECURSIVE_DEPTH is {limits.depth}",
            hint="do this part yourself",
        )
    if parent.children >= limits.children:
        raise RefusedError(
            f"you have created {parent.children} agents and may create {limits.children}",
            hint="do the rest yourself, or give more work to each",
        )
    index = parent.children  # single writer: nobody else takes the number
    change(connection, parent_id, children=index + 1)
    return FamilyPlace(
        id=f"{parent_id}_child_{index}",
        root=parent.root,
        priority=parent.priority,
        parent=parent_id,
        depth=parent.depth + 1,
        child_index=index,
    )


def of(connection: Connection, parent_id: str) -> list[AgentRow]:
    """Return the parent's living children, in order."""
    mine = (AGENT.c.parent == parent_id) & AGENT.c.deleted_at.is_(None)
    return all_rows(AgentRow, connection.execute(select(AGENT).where(mine).order_by(AGENT.c.child_index)))


def subtree(connection: Connection, agent_id: str) -> list[str]:
    """Return the ids of the agent and all its living descendants, parents first."""
    found, ahead = [agent_id], [agent_id]
    while ahead:
        below = (AGENT.c.parent.in_(ahead)) & AGENT.c.deleted_at.is_(None)
        ahead = list(connection.execute(select(AGENT.c.id).where(below).order_by(AGENT.c.child_index)).scalars())
        found.extend(ahead)
    return found


def suspend(connection: Connection, claim: Suspended, asked: NewQuestion, now: float) -> None:
    """Let the parent wait for its children; it resumes at once if none is working, or if one waits for the parent."""
    open_now = [child.name for child in of(connection, claim.agent_id) if child.status in OPEN]
    suspend_turn(connection, claim, asked, Wait(kind=WaitKind.CHILDREN), now, children=open_now)
    if not open_now:
        resume(connection, claim.agent_id, AnsweredBy.CHILDREN, now)
    elif (other := circle(connection, claim.agent_id)) is not None:
        told = f"not waited for: {other} starts only when you have ended, so you would wait for each other"
        resume(connection, claim.agent_id, AnsweredBy.CHILDREN, now, told=told)


def suspend_turn(
    connection: Connection, claim: Suspended, asked: NewQuestion, wait: Wait, now: float, **told: object
) -> str:
    """Suspend the agent until others have ended; it gives up its slot, process and checkout, which they may need.

    Returns the id of the question that its call asks.
    """
    agent_id = claim.agent_id
    connection.execute(
        update(TURN).where(TURN.c.id == claim.turn_id).values(status=TurnStatus.WAITING, suspended_for="")
    )
    leases.release(connection, agent_id, now, leases.CHECKOUT)
    question_id = questions.ask(connection, agent_id, claim.turn, asked)
    suspension.suspend(connection, agent_row(connection, agent_id), claim.turn, wait, now, **told)
    return question_id


def ended(connection: Connection, child: AgentRow, now: float) -> None:
    """After a child's last open turn: free what was reserved for it; if it was the last child, resume the parent."""
    if child.parent is None:
        return
    parent = agent_row(connection, child.parent)
    waits = parent.wait_kind == WaitKind.CHILDREN
    if waits and not any(one.status in OPEN for one in of(connection, parent.id)):
        resume(connection, parent.id, AnsweredBy.CHILDREN, now)
    budgets.resume(connection, now, child.root)


def resume(connection: Connection, agent_id: str, by: AnsweredBy, now: float, *, told: str | None = None) -> None:
    """Resume the agent in the call in which it waits for others; `told` answers its call, if it must not wait."""
    agent, asked = agent_row(connection, agent_id), questions.open_question(connection, agent_id)
    if asked is not None:
        questions.put_answer(connection, asked.id, told or str(by), by, now)
        body = {"question_id": asked.id, "call_id": asked.call_id, "by": str(by)}
        emit(connection, agent_id, EventKind.ANSWERED, now, asked.turn, **body)
    move(connection, agent, Status.QUEUED, now, wait=SLOT)
