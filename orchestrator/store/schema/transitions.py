"""The building blocks of all operations: the rows of an agent and a turn, the next event, and changes of status."""

from __future__ import annotations

from functools import cache
from typing import Any, Unpack

from sqlalchemy import BindParameter, Update, bindparam, insert, select, update

from orchestrator.domain.activity import Activity
from orchestrator.domain.agent import Status, check_move
from orchestrator.domain.event import EventKind
from orchestrator.domain.wait import Wait
from orchestrator.errors import ConflictError, NotFoundError
from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.prepared import fetch
from orchestrator.store.schema.changes import AgentChange, MoveColumns
from orchestrator.store.schema.rows import AgentRow, TurnRow, one_row
from orchestrator.store.schema.states import activity_values, wait_values
from orchestrator.store.schema.tables import AGENT, EVENT, TURN

# Built once: building a statement and its cache key costs four times as much as running it (measured).
_AGENT = select(AGENT).where(AGENT.c.id == bindparam("agent"))
_TURN = select(TURN).where(TURN.c.id == bindparam("turn"))
_NEXT = (
    update(AGENT)
    .where(AGENT.c.id == bindparam("agent"))
    .values(last_seq=AGENT.c.last_seq + 1)
    .returning(AGENT.c.last_seq, AGENT.c.root, AGENT.c.project, AGENT.c.orchestrator)
)
_EVENT = insert(EVENT)
_TOUCHED = "told"
CLOCK = "clock"
"""topic that is published when a new due time was stored"""


@cache
def _setting(*names: str) -> Update:
    new: dict[str, BindParameter[Any]] = {name: bindparam(f"new_{name}") for name in names}
    return update(AGENT).where(AGENT.c.id == bindparam("agent")).values(new)


class StaleOwnerError(ConflictError):
    """The writer no longer owns the agent: its epoch is over."""


def agent_row(connection: Connection, agent_id: str) -> AgentRow:
    """Return the agent's row.

    Raises:
        NotFoundError: the agent does not exist.
    """
    row = one_row(AgentRow, fetch(connection, _AGENT, {"agent": agent_id}))
    if row is None:
        raise NotFoundError(f"no agent {agent_id}")
    return row


def turn_row(connection: Connection, turn_id: str) -> TurnRow:
    """Return the turn's row.

    Raises:
        NotFoundError: the turn does not exist.
    """
    row = one_row(TurnRow, connection.execute(_TURN, {"turn": turn_id}))
    if row is None:
        raise NotFoundError(f"no turn {turn_id}")
    return row


def owned_row(connection: Connection, agent_id: str, epoch: int) -> AgentRow:
    """Return the agent's row, if the caller's epoch is still valid.

    Raises:
        StaleOwnerError: there was another claim since.
    """
    row = agent_row(connection, agent_id)  # single writer: no claim comes before the operation ends
    if row.epoch != epoch:
        raise StaleOwnerError(f"epoch {epoch} of {agent_id} is over; {row.epoch} is valid")
    return row


def change(connection: Connection, agent_id: str, **values: Unpack[AgentChange]) -> None:
    """Set columns of the agent."""
    new = {f"new_{name}": value for name, value in values.items()}
    connection.execute(_setting(*sorted(values)), {"agent": agent_id, **new})


def move(
    connection: Connection,
    agent: AgentRow,
    status: Status,
    now: float,
    *,
    wait: Wait | None = None,
    activity: Activity | None = None,
    reason: str = "",
    **values: Unpack[MoveColumns],
) -> None:
    """Change the status, with its time and with what is true only in the new status.

    That is the wait of a queued or waiting agent, the activity of a working one, the reason of one that has ended; what
    is not given is cleared.

    Raises:
        ConflictError: the move is illegal.
    """
    before = agent.status
    if before is not status:
        check_move(before, status)
    state: AgentChange = {"status": status, "changed_at": now, "reason": reason}
    change(connection, agent.id, **(state | wait_values(wait) | activity_values(activity) | values))


def emit(
    connection: Connection, agent_id: str, kind: EventKind, now: float, turn: int | None = None, /, **body: object
) -> int:
    """Append the agent's next event in this transaction and return its cursor."""
    seq, root, project, orchestrator = connection.execute(_NEXT, {"agent": agent_id}).one()
    _touched(connection).update((agent_id, root, project, owner_name(project, orchestrator)))
    row = {"agent_id": agent_id, "seq": seq, "turn": turn, "kind": kind, "at": now, "body": body}
    done = connection.execute(_EVENT, row)
    key = done.inserted_primary_key
    return int(key[0]) if key is not None else 0


def owner_name(project: str, orchestrator: str) -> str:
    """Return the topic of an orchestrator's agents."""
    return f"{project}\n{orchestrator}"


def touched_topics(connection: Connection) -> set[str]:
    """Return the topics of the events since the last call, and forget them.

    An event has four topics: its agent, its family (id of its root), its project and its orchestrator.
    """
    told = _touched(connection)
    connection.info[_TOUCHED] = set[str]()
    return told


def touch(connection: Connection, name: str) -> None:
    """Publish this topic, too, once this transaction is committed."""
    _touched(connection).add(name)


def _touched(connection: Connection) -> set[str]:
    return connection.info.setdefault(_TOUCHED, set[str]())


def cost_is_unknown(connection: Connection, agent_id: str, turn_id: str) -> None:
    """Mark the cost of a turn that was cut off as unknown."""
    connection.execute(update(TURN).where(TURN.c.id == turn_id).values(cost_unknown=True))
    change(connection, agent_id, cost_unknown=True)
