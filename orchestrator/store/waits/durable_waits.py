"""Operations on sleeps, the waits that outlive their connection, and their readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Connection, bindparam, delete, insert, or_, select, update

from orchestrator.domain.durable_wait import DurableWaitStatus
from orchestrator.store.schema.tables import DURABLE_WAIT, DurableWaitTable
from orchestrator.store.schema.transitions import touch

_BY_ID = select(DURABLE_WAIT).where(DURABLE_WAIT.c.id == bindparam("wait"))
_BY_KEY = select(DURABLE_WAIT).where(DURABLE_WAIT.c.call_key == bindparam("key"))
_UNDER_WAY = select(DURABLE_WAIT).where(DURABLE_WAIT.c.status == DurableWaitStatus.WORKING)


def begin(connection: Connection, values: Mapping[str, Any], now: float) -> str:
    """Insert the sleep and return its id: that of the one which the same idempotency key began, if there is one.

    Sleeps whose time is over are cleaned up with it.
    """
    over = or_(DURABLE_WAIT.c.question_id.is_(None), DURABLE_WAIT.c.status != DurableWaitStatus.WORKING)
    connection.execute(delete(DURABLE_WAIT).where(DURABLE_WAIT.c.expires_at <= now, over))
    if key := values.get("call_key"):
        found = connection.execute(select(DURABLE_WAIT.c.id).where(DURABLE_WAIT.c.call_key == key)).scalar_one_or_none()
        if found is not None:
            return str(found)
    connection.execute(
        insert(DURABLE_WAIT).values(
            **values,
            status=DurableWaitStatus.WORKING,
            created_at=now,
            updated_at=now,
            result="",
            is_error=False,
            outcomes=[],
        )
    )
    return str(values["id"])


def end(connection: Connection, wait_id: str, status: DurableWaitStatus, now: float, **values: Any) -> bool:
    """End the sleep with its one end and tell whether this call did: result, is_error, outcomes."""
    done = connection.execute(
        update(DURABLE_WAIT)
        .where(DURABLE_WAIT.c.id == wait_id, DURABLE_WAIT.c.status == DurableWaitStatus.WORKING)
        .values(status=status, updated_at=now, **values)
    )
    return bool(done.rowcount)


def ask_nobody(connection: Connection, wait_id: str, now: float) -> None:
    """The person will not answer: from now on a question wakes the orchestrator."""
    connection.execute(
        update(DURABLE_WAIT).where(DURABLE_WAIT.c.id == wait_id).values(asks_person=False, updated_at=now)
    )
    touch(connection, wait_id)


def by_id(connection: Connection, wait_id: str, now: float) -> DurableWaitTable | None:
    """The sleep, unless its time is over."""
    found = cast("DurableWaitTable | None", connection.execute(_BY_ID, {"wait": wait_id}).one_or_none())
    return found if found is not None and found.expires_at > now else None


def by_key(connection: Connection, call_key: str) -> DurableWaitTable | None:
    """The sleep that this idempotency key began."""
    return cast("DurableWaitTable | None", connection.execute(_BY_KEY, {"key": call_key}).one_or_none())


def under_way(connection: Connection) -> Sequence[DurableWaitTable]:
    """Those that have not ended."""
    return cast("Sequence[DurableWaitTable]", connection.execute(_UNDER_WAY).all())
