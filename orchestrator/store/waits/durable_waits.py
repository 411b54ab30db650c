"""Operations on durable waits, which outlive their connection, and reads of them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, delete, insert, or_, select, update

from orchestrator.domain.durable_wait import DurableWaitStatus, NewDurableWait, WaitEnd
from orchestrator.store.engine.connection import Connection
from orchestrator.store.schema.rows import DurableWaitRow, all_rows, one_row
from orchestrator.store.schema.tables import DURABLE_WAIT
from orchestrator.store.schema.transitions import touch

_BY_ID = select(DURABLE_WAIT).where(DURABLE_WAIT.c.id == bindparam("wait"))
_BY_KEY = select(DURABLE_WAIT).where(DURABLE_WAIT.c.call_key == bindparam("key"))
_UNDER_WAY = select(DURABLE_WAIT).where(DURABLE_WAIT.c.status == DurableWaitStatus.WORKING)


def begin(connection: Connection, new: NewDurableWait, now: float) -> str:
    """Insert the wait and return its id, or the id of the wait that was begun under the same idempotency key.

    Expired waits are deleted in the same transaction.
    """
    over = or_(DURABLE_WAIT.c.question_id.is_(None), DURABLE_WAIT.c.status != DurableWaitStatus.WORKING)
    connection.execute(delete(DURABLE_WAIT).where(DURABLE_WAIT.c.expires_at <= now, over))
    if key := new.call_key:
        found = connection.execute(select(DURABLE_WAIT.c.id).where(DURABLE_WAIT.c.call_key == key)).scalar_one_or_none()
        if found is not None:
            return str(found)
    connection.execute(
        insert(DURABLE_WAIT).values(
            id=new.id,
            project=new.project,
            orchestrator=new.orchestrator,
            call_key=new.call_key,
            agents=list(new.agents),
            until=new.until,
            since=new.since,
            asks_person=new.asks_person,
            deadline=new.deadline,
            expires_at=new.expires_at,
            question_id=new.question_id,
            status=DurableWaitStatus.WORKING,
            created_at=now,
            updated_at=now,
            result="",
            is_error=False,
            outcomes=[],
        )
    )
    return new.id


def end(connection: Connection, wait_id: str, status: DurableWaitStatus, now: float, ended: WaitEnd) -> bool:
    """End the wait once, with its result, is_error and outcomes; returns whether this call ended it."""
    done = connection.execute(
        update(DURABLE_WAIT)
        .where(DURABLE_WAIT.c.id == wait_id, DURABLE_WAIT.c.status == DurableWaitStatus.WORKING)
        .values(
            status=status, updated_at=now, result=ended.result, is_error=ended.is_error, outcomes=list(ended.outcomes)
        )
    )
    return bool(done.rowcount)


def ask_nobody(connection: Connection, wait_id: str, now: float) -> None:
    """Record that the person will not answer: from now on a question wakes the orchestrator."""
    connection.execute(
        update(DURABLE_WAIT).where(DURABLE_WAIT.c.id == wait_id).values(asks_person=False, updated_at=now)
    )
    touch(connection, wait_id)


def by_id(connection: Connection, wait_id: str, now: float) -> DurableWaitRow | None:
    """Return the wait, unless it has expired."""
    found = one_row(DurableWaitRow, connection.execute(_BY_ID, {"wait": wait_id}))
    return found if found is not None and found.expires_at > now else None


def by_key(connection: Connection, call_key: str) -> DurableWaitRow | None:
    """Return the wait that was begun under this idempotency key."""
    return one_row(DurableWaitRow, connection.execute(_BY_KEY, {"key": call_key}))


def under_way(connection: Connection) -> Sequence[DurableWaitRow]:
    """Return the waits that have not ended."""
    return all_rows(DurableWaitRow, connection.execute(_UNDER_WAY))
