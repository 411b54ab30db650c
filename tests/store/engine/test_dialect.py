"""The constructs that each engine builds in its own way: upserts, partial indexes, ids, row ids."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.database import Store
from orchestrator.store.engine.dialect import ROW_ID, insert_or_ignore, upsert
from orchestrator.store.schema.tables import ARTIFACT, EVENT, LEASE, TRANSCRIPT
from tests.store.engine.driver import create, note

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("store:engine:owns-dialect")]


@pytest.fixture
async def store(store: Store) -> Store:
    """A store with an agent."""
    await store.write(create, 1)
    return store


def artifact(path: str, at: float) -> dict[str, object]:
    return {"agent_id": "ag_1", "turn": 1, "kind": "produced", "path": path, "at": at}


async def test_an_upsert_inserts_what_is_new_and_changes_the_named_columns_of_what_is_there(store: Store) -> None:
    def note_files(connection: Connection) -> dict[str, float]:
        statement = upsert(ARTIFACT, "at")
        connection.execute(statement, [artifact("a", 1.0), artifact("b", 1.0)])
        connection.execute(statement, [artifact("b", 2.0), artifact("c", 2.0)])
        return {row.path: row.at for row in connection.execute(select(ARTIFACT.c.path, ARTIFACT.c.at))}

    assert await store.write(note_files) == {"a": 1.0, "b": 2.0, "c": 2.0}


async def test_insert_or_ignore_keeps_the_first_row_and_inserts_the_others(store: Store) -> None:
    def append(connection: Connection) -> list[str]:
        rows = [
            {"agent_id": "ag_1", "subpath": "", "seq": seq, "uuid": uuid, "body": body}
            for seq, uuid, body in ((1, "u1", "first"), (2, "u1", "again"), (3, None, "second"), (3, None, "taken"))
        ]
        connection.execute(insert_or_ignore(TRANSCRIPT), rows)
        return list(connection.execute(select(TRANSCRIPT.c.body).order_by(TRANSCRIPT.c.seq)).scalars())

    assert await store.write(append) == ["first", "second"]


async def test_a_partial_unique_index_refuses_two_rows_only_where_its_condition_holds(store: Store) -> None:
    lease = insert(LEASE).values(kind="checkout", name="/c", agent_id="ag_1", acquired_at=1.0)

    def take(connection: Connection) -> None:
        connection.execute(lease)

    def give_back(connection: Connection) -> None:
        connection.execute(update(LEASE).values(released_at=2.0))

    await store.write(take)
    with pytest.raises(IntegrityError):
        await store.write(take)
    for _ in range(2):
        await store.write(give_back)
        await store.write(take)


async def test_the_id_of_a_deleted_event_is_never_used_again(store: Store) -> None:
    def newest(connection: Connection) -> int:
        return connection.execute(select(EVENT.c.id).order_by(EVENT.c.id.desc()).limit(1)).scalar_one()

    await store.write(note, "ag_1", "x")
    before = await store.read(newest)
    await store.write(lambda connection: connection.execute(delete(EVENT).where(EVENT.c.id == before)))
    await store.write(note, "ag_1", "y")
    assert await store.read(newest) == before + 1


async def test_a_row_id_names_single_rows_of_a_table_with_a_key_of_many_columns(store: Store) -> None:
    def delete_two(connection: Connection) -> int:
        connection.execute(insert(ARTIFACT), [artifact(path, 1.0) for path in "abc"])
        some = select(ROW_ID).select_from(ARTIFACT).limit(2)
        connection.execute(delete(ARTIFACT).where(ROW_ID.in_(some)))
        return len(connection.execute(select(ARTIFACT.c.path)).all())

    assert await store.write(delete_two) == 1
