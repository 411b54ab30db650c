"""Operations on sleeps, the waits that outlive their connection, and their readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Connection, bindparam, delete, insert, or_, select, update

from orchestrator.domain.durable_wait import SleepStatus
from orchestrator.store.schema.tables import SLEEP, Sleep
from orchestrator.store.schema.transitions import tell

_BY_ID = select(SLEEP).where(SLEEP.c.id == bindparam("sleep"))
_BY_KEY = select(SLEEP).where(SLEEP.c.call_key == bindparam("key"))
_UNDER_WAY = select(SLEEP).where(SLEEP.c.status == SleepStatus.WORKING)


def begin(connection: Connection, values: Mapping[str, Any], now: float) -> str:
    """Insert the sleep and return its id: that of the one which the same idempotency key began, if there is one.

    Sleeps whose time is over are cleaned up with it.
    """
    over = or_(SLEEP.c.question_id.is_(None), SLEEP.c.status != SleepStatus.WORKING)
    connection.execute(delete(SLEEP).where(SLEEP.c.expires_at <= now, over))
    if key := values.get("call_key"):
        found = connection.execute(select(SLEEP.c.id).where(SLEEP.c.call_key == key)).scalar_one_or_none()
        if found is not None:
            return str(found)
    connection.execute(
        insert(SLEEP).values(
            **values, status=SleepStatus.WORKING, created_at=now, updated_at=now, result="", is_error=False, outcomes=[]
        )
    )
    return str(values["id"])


def end(connection: Connection, sleep_id: str, status: SleepStatus, now: float, **values: Any) -> bool:
    """End the sleep with its one end and tell whether this call did: result, is_error, outcomes."""
    done = connection.execute(
        update(SLEEP)
        .where(SLEEP.c.id == sleep_id, SLEEP.c.status == SleepStatus.WORKING)
        .values(status=status, updated_at=now, **values)
    )
    return bool(done.rowcount)


def ask_nobody(connection: Connection, sleep_id: str, now: float) -> None:
    """The person will not answer: from now on a question wakes the orchestrator."""
    connection.execute(update(SLEEP).where(SLEEP.c.id == sleep_id).values(asks_person=False, updated_at=now))
    tell(connection, sleep_id)


def by_id(connection: Connection, sleep_id: str, now: float) -> Sleep | None:
    """The sleep, unless its time is over."""
    found = cast("Sleep | None", connection.execute(_BY_ID, {"sleep": sleep_id}).one_or_none())
    return found if found is not None and found.expires_at > now else None


def by_key(connection: Connection, call_key: str) -> Sleep | None:
    """The sleep that this idempotency key began."""
    return cast("Sleep | None", connection.execute(_BY_KEY, {"key": call_key}).one_or_none())


def under_way(connection: Connection) -> Sequence[Sleep]:
    """Those that have not ended."""
    return cast("Sequence[Sleep]", connection.execute(_UNDER_WAY).all())
