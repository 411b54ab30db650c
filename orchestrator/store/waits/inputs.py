"""Operations on inputs: which turns wait for the results of other agents, and what the end of such an agent changes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, delete, insert, update

from orchestrator.domain.agent import OPEN, Status
from orchestrator.domain.check import FAILED_CHECK_REASONS
from orchestrator.domain.wait import Wait, WaitKind
from orchestrator.errors import ConflictError, InvalidError
from orchestrator.store.engine.connection import Connection
from orchestrator.store.schema.tables import INPUT
from orchestrator.store.schema.transitions import agent_row
from orchestrator.store.waits.deadlocks import circle


def set_inputs(
    connection: Connection, agent_id: str, turn: int, sources: Sequence[str], any_end: Collection[str] = ()
) -> None:
    """Make these the inputs of the turn; it waits for those that have not ended, for `any_end` to end in any way.

    Raises:
        ConflictError: agents would wait for each other in a cycle.
    """
    connection.execute(delete(INPUT).where(INPUT.c.agent_id == agent_id, INPUT.c.turn == turn))
    waits = False
    for position, source in enumerate(dict.fromkeys(sources)):
        open_now = agent_row(connection, source).status in OPEN
        if source == agent_id:
            _check_self(connection, agent_id, turn)
            open_now = False
        waits |= open_now
        connection.execute(
            insert(INPUT).values(
                agent_id=agent_id,
                turn=turn,
                position=position,
                source_id=source,
                settled=not open_now,
                blocked=False,
                any_end=source in any_end,
            )
        )
    if waits:  # single writer: no operation adds the other half of a cycle meanwhile
        _check_circle(connection, agent_id)


def _check_self(connection: Connection, agent_id: str, turn: int) -> None:
    if turn == 1:
        name = agent_row(connection, agent_id).name
        raise InvalidError(f"{name} cannot be its own input", hint="name other agents")


def _check_circle(connection: Connection, agent_id: str) -> None:
    if (other := circle(connection, agent_id)) is not None:
        name = agent_row(connection, agent_id).name
        raise ConflictError(
            f"{name} and {other} would wait for each other",
            hint="wait for one of them first, or omit that input",
        )


def forget_unsettled(connection: Connection, agent_id: str, turn: int) -> None:
    """Drop the inputs of a turn that ended without having begun."""
    mine = (INPUT.c.agent_id == agent_id) & (INPUT.c.turn == turn)
    connection.execute(delete(INPUT).where(mine, INPUT.c.settled.is_(False)))


def source_opened(connection: Connection, source: str) -> None:
    """Unblock the turns that wait for an input that failed and now works again."""
    connection.execute(update(INPUT).where(_waits_for(source)).values(blocked=False))


def source_failed(connection: Connection, source: str) -> None:
    """Block the inputs that wait for this agent, because one of its turns has no result, whatever its later turns do.

    Only its next command unblocks them (`source_opened`). Those that it may end for in any way are not blocked.
    """
    connection.execute(update(INPUT).where(_waits_for(source), INPUT.c.any_end.is_(False)).values(blocked=True))


def source_ended(connection: Connection, source: str, status: Status) -> None:
    """Settle the inputs that waited for this agent, or block them; admission updates the waiting agents.

    An input that an earlier turn has blocked stays blocked. A deleted agent blocks them all, `:ended` ones too: it was
    removed, it did not finish.
    """
    if status is Status.DELETED:
        connection.execute(update(INPUT).where(_waits_for(source)).values(blocked=True))
        return
    connection.execute(update(INPUT).where(_waits_for(source), INPUT.c.any_end.is_(True)).values(settled=True))
    if status is not Status.COMPLETE:
        source_failed(connection, source)
        return
    connection.execute(update(INPUT).where(_waits_for(source), INPUT.c.blocked.is_(False)).values(settled=True))


def _waits_for(source: str) -> ColumnElement[bool]:
    return (INPUT.c.source_id == source) & INPUT.c.settled.is_(False)


def blocked_by(name: str, status: Status, reason: str = "") -> Wait:
    """Return the wait of an agent whose input is in this state and has had a turn without a result."""
    failed = f"failed ({reason})" if reason in FAILED_CHECK_REASONS else "failed"
    verb = {
        Status.DELETED: "was deleted",
        Status.INTERRUPTED: "was interrupted",
        Status.FAILED: failed,
    }.get(status, "failed in an earlier turn")
    return Wait(kind=WaitKind.INPUTS, on=name, detail=verb, blocked=True)
