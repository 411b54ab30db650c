"""Row types: each has exactly the columns of its table, so that a row can be built by position."""

from __future__ import annotations

import types
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import pytest
from sqlalchemy import JSON, Column, Table, TypeDecorator, create_engine, insert, select
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect

from orchestrator.domain.durable_wait import DurableWaitStatus
from orchestrator.errors import StoreError
from orchestrator.store.schema import changes, rows, tables
from orchestrator.store.schema.base import EnumText
from orchestrator.store.schema.rows import all_rows, one_row
from orchestrator.store.turns.events import EventRow

PAIRS: list[tuple[type[NamedTuple], Table]] = [
    (rows.AgentRow, tables.AGENT),
    (rows.TurnRow, tables.TURN),
    (rows.QuestionRow, tables.QUESTION),
    (rows.InputRow, tables.INPUT),
    (rows.ArtifactRow, tables.ARTIFACT),
    (rows.BudgetRow, tables.BUDGET),
    (rows.BreakerRow, tables.BREAKER),
    (rows.CommandRow, tables.COMMAND),
    (rows.DurableWaitRow, tables.DURABLE_WAIT),
    (rows.ProcessRow, tables.PROCESS),
]


def row_types() -> set[str]:
    return {name for name in vars(rows) if name.endswith("Row")}


def without_none(hint: Any) -> tuple[Any, bool]:
    """The type of a field, and whether it may be None."""
    if get_origin(hint) in {Union, types.UnionType}:
        (only,) = (one for one in get_args(hint) if one is not type(None))
        return only, True
    return hint, False


def fits(hint: Any, column: Column[Any]) -> bool:
    """Whether the field's type is what a select of the column returns."""
    kind = column.type.impl_instance if isinstance(column.type, TypeDecorator) else column.type
    if isinstance(kind, JSON):
        return hint not in {str, int, float, bool}
    return hint is (kind.words if isinstance(kind, EnumText) else kind.python_type)


def test_every_row_type_is_compared_with_its_table() -> None:
    assert {row_type.__name__ for row_type, _ in PAIRS} == row_types()


@pytest.mark.parametrize(("row_type", "table"), PAIRS, ids=[table.name for _, table in PAIRS])
def test_a_row_type_has_the_columns_of_its_table_in_order_with_their_types(
    row_type: type[NamedTuple], table: Table
) -> None:
    hints = {name: without_none(hint) for name, hint in get_type_hints(row_type).items()}
    assert list(hints) == table.columns.keys()
    assert {name: optional for name, (_, optional) in hints.items()} == {c.name: c.nullable for c in table.columns}
    assert [c.name for c in table.columns if not fits(hints[c.name][0], c)] == []


def test_an_event_has_the_columns_of_its_table_and_the_name_of_its_agent() -> None:
    assert EventRow._fields == (*tables.EVENT.columns.keys(), "name")


def test_a_row_that_was_written_is_read_with_its_values_and_cannot_be_changed() -> None:
    engine = create_engine("sqlite://")
    tables.metadata.create_all(engine)
    written = rows.DurableWaitRow(
        id="dw_1",
        project="/p",
        orchestrator="o",
        call_key=None,
        agents=["ag_1"],
        until="all",
        since=None,
        asks_person=True,
        status=DurableWaitStatus.WORKING,
        created_at=1.0,
        updated_at=2.0,
        deadline=None,
        expires_at=3.0,
        result="",
        is_error=False,
        outcomes=[],
        question_id=None,
    )
    everything = select(tables.DURABLE_WAIT)
    with engine.connect() as connection:
        assert one_row(rows.DurableWaitRow, connection.execute(everything)) is None
        connection.execute(insert(tables.DURABLE_WAIT).values(**written._asdict()))
        read = one_row(rows.DurableWaitRow, connection.execute(everything))
        assert all_rows(rows.DurableWaitRow, connection.execute(everything)) == [written]
    engine.dispose()
    assert read == written
    assert read is not None
    assert read.status is DurableWaitStatus.WORKING
    with pytest.raises(AttributeError):
        read.result = "another"  # pyright: ignore[reportAttributeAccessIssue] - that it is refused is the test


def test_a_select_of_other_columns_makes_no_row() -> None:
    with pytest.raises(TypeError, match="Expected 5 arguments, got 1"):
        all_rows(rows.BreakerRow, [("account",)])


def test_a_change_of_an_agent_writes_what_its_row_reads() -> None:
    read, written = get_type_hints(rows.AgentRow), get_type_hints(changes.AgentChange)
    assert {name: hint for name, hint in written.items() if name != "deleted_at"}.items() <= read.items()


def test_a_word_that_this_version_does_not_know_is_an_error_that_a_person_can_read() -> None:
    look_up = EnumText(DurableWaitStatus).result_processor(sqlite_dialect(), None)
    assert look_up("working") is DurableWaitStatus.WORKING
    assert look_up(None) is None
    with pytest.raises(StoreError, match="'asleep', a DurableWaitStatus that this version does not know"):
        look_up("asleep")
