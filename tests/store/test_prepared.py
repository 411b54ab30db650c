"""Statements that skip SQLAlchemy's own way to the driver answer as if they had taken it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from sqlalchemy import bindparam, select

from orchestrator.errors import StoreError
from orchestrator.store.engine import prepared
from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.database import Store, open_store
from orchestrator.store.engine.prepared import fetch
from orchestrator.store.schema.tables import AGENT, EVENT
from tests.store.engine.driver import create

pytestmark = pytest.mark.anyio
AGENTS = select(AGENT).order_by(AGENT.c.created_at)
AMONG = AGENTS.where(AGENT.c.id.in_(bindparam("ids", expanding=True)), AGENT.c.rehearsal.is_(False))
BEHIND = select(EVENT).where(EVENT.c.id > bindparam("cursor"), EVENT.c.kind != "progress").limit(bindparam("most"))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[Store]:
    async with open_store(tmp_path / "fleet.db") as store:
        for number in range(1, 6):
            await store.write(create, number)
        yield store


async def test_rows_are_those_of_sqlalchemy_with_decoded_columns(store: Store) -> None:
    def both(connection: Connection) -> None:
        ours, theirs = fetch(connection, AGENTS).all(), connection.execute(AGENTS).all()
        assert ours == theirs
        assert [dict(row._mapping) for row in ours] == [dict(row._mapping) for row in theirs]
        assert isinstance(ours[0].persona_body, dict)
        assert isinstance(ours[0].writes, bool)
        values = {"cursor": 1, "most": 2}
        assert fetch(connection, BEHIND, values).all() == connection.execute(BEHIND, values).all() != []

    await store.read(both)


@pytest.mark.parametrize("most", [prepared.MAX_LIST, 2])
async def test_a_list_may_have_any_length(store: Store, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(prepared, "MAX_LIST", most)

    def all_lengths(connection: Connection) -> list[list[str]]:
        every = [str(row.id) for row in fetch(connection, AGENTS)]
        return [[row.id for row in fetch(connection, AMONG, {"ids": every[:count]})] for count in range(6)]

    assert [len(found) for found in await store.read(all_lengths)] == list(range(6))


async def test_a_statement_that_cannot_be_run_says_so_as_any_other(store: Store) -> None:
    def broken(connection: Connection) -> None:
        fetch(connection, select(AGENT.c.id, AGENT.c.id.op("nonsense")(AGENT.c.name)))

    with pytest.raises(StoreError, match="cannot be read"):
        await store.read(broken)


async def test_the_order_in_which_values_are_given_does_not_matter(store: Store) -> None:
    both = AGENTS.where(
        AGENT.c.id.in_(bindparam("ids", expanding=True)), AGENT.c.project.in_(bindparam("projects", expanding=True))
    )

    def in_both_orders(connection: Connection) -> list[int]:
        ids = [str(row.id) for row in fetch(connection, AGENTS)]
        projects = [str(row.project) for row in fetch(connection, AGENTS)][:1]
        return [
            len(fetch(connection, both, {"projects": projects, "ids": ids}).all()),
            len(fetch(connection, both, {"ids": ids[:1], "projects": [*projects, "/elsewhere", "/nowhere"]}).all()),
        ]

    assert await store.read(in_both_orders) == [5, 1]
