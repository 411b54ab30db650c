"""An old or newer database: upgraded with a backup, never downgraded, never half."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from orchestrator.errors import SchemaError, StoreError
from orchestrator.store.engine.migrate import MIGRATIONS, SCHEMA, known_revisions, migrate, upgrade
from orchestrator.store.schema.tables import metadata

NEXT = '''"""A later schema"""

from alembic import op

revision = "9001"
down_revision = "{before}"


def upgrade() -> None:
    op.execute("ALTER TABLE agent ADD COLUMN colour TEXT NOT NULL DEFAULT 'grey'")
    {more}
'''


def migrated(path: Path) -> Path | None:
    return asyncio.run(migrate(path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database of this version, with a row of its own."""
    path = tmp_path / "fleet.db"
    assert migrated(path) is None
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO command (key, agent_id, happened, at) VALUES ('k', 'ag_1', 'queued', 1.0)")
    return path


def later_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str = "") -> str:
    """Let this be a Fleet with one more migration; return the schema that was the newest before."""
    before = known_revisions()[-1]
    migrations = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, migrations)
    (migrations / "versions" / "9001_later.py").write_text(NEXT.format(before=before, more=more))
    monkeypatch.setattr("orchestrator.store.engine.migrate.MIGRATIONS", migrations)
    return before


def revision(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def columns(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {name for _, name, *_ in connection.execute("PRAGMA table_info(agent)")}


def commands(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM command").fetchone()[0])


def test_the_migrations_make_exactly_the_tables_that_the_code_knows(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    path = tmp_path / "fleet.db"
    upgrade(path)
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_a_new_database_is_exactly_what_the_migrations_make(tmp_path: Path) -> None:
    new, upgraded = tmp_path / "new.db", tmp_path / "upgraded.db"
    assert migrated(new) is None
    upgrade(upgraded)
    assert _content(new) == _content(upgraded), "make docs writes schema.sql anew"
    assert revision(new) == known_revisions()[-1]
    assert new.stat().st_mode & 0o777 == 0o600


def test_a_new_database_that_cannot_be_made_is_made_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, broken = tmp_path / "fleet.db", tmp_path / "broken.sql"
    broken.write_text(
        f"{SCHEMA.read_text().removesuffix('COMMIT;' + chr(10))}\nCREATE TABLE agent (id TEXT);\nCOMMIT;\n"
    )
    with monkeypatch.context() as context:
        context.setattr("orchestrator.store.engine.migrate.SCHEMA", broken)
        with pytest.raises(StoreError, match="agent already exists"):
            migrated(path)
    assert path.stat().st_size == 0
    assert migrated(path) is None
    assert revision(path) == known_revisions()[-1]


def test_two_that_make_the_same_database_at_once_both_have_it(tmp_path: Path) -> None:
    for number in range(10):
        path = tmp_path / f"{number}.db"
        meeting = threading.Barrier(2)

        def make(path: Path = path, meeting: threading.Barrier = meeting) -> Path | None:
            meeting.wait()
            return migrated(path)

        with ThreadPoolExecutor(2) as pool:
            assert [made.result() for made in (pool.submit(make), pool.submit(make))] == [None, None]
        assert revision(path) == known_revisions()[-1]


def test_a_database_of_this_version_is_left_as_it_is(path: Path) -> None:
    content = path.read_bytes()
    assert migrated(path) is None
    assert path.read_bytes() == content


@pytest.mark.requirement("store:upgrade:backup-first")
def test_an_older_database_is_copied_before_it_is_upgraded(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = later_version(tmp_path, monkeypatch)
    backup = migrated(path)
    assert backup is not None
    assert backup.parent == path.parent
    assert backup.stat().st_mode & 0o777 == 0o600
    assert (revision(path), "colour" in columns(path), commands(path)) == ("9001", True, 1)
    assert (revision(backup), "colour" in columns(backup), commands(backup)) == (before, False, 1)


@pytest.mark.requirement("store:upgrade:backup-first")
def test_an_upgrade_that_fails_changes_nothing(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = later_version(tmp_path, monkeypatch, more='op.execute("DROP TABLE nobody")')
    with pytest.raises(StoreError, match="no such table: nobody") as failure:
        migrated(path)
    assert "backup" in failure.value.hint
    assert (revision(path), "colour" in columns(path), commands(path)) == (before, False, 1)


@pytest.mark.requirement("store:upgrade:newer-refused")
def test_a_newer_database_is_refused_untouched_with_what_to_do(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    content = path.read_bytes()
    with pytest.raises(SchemaError, match="'9999'") as refused:
        migrated(path)
    assert "FLEET_STATE" in refused.value.hint
    assert path.read_bytes() == content
    assert not list(path.parent.glob("*.bak"))


@pytest.mark.parametrize("content", [b"a letter to my mother, no database at all" * 20, b"SQLite format 3\0"])
def test_what_is_no_database_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "fleet.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"fleet\.db") as refused:
        migrated(path)
    assert "move the file away" in refused.value.hint
    assert path.read_bytes() == content


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    path.touch()
    assert migrated(path) is None
    assert revision(path) == known_revisions()[-1]


def test_outcomes_of_an_older_database_belong_to_their_turns_and_what_was_delivered_stays_so(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    _of_revision(path, "0001")
    with closing(sqlite3.connect(path)) as connection, connection:
        _insert(connection, "agent", id="ag_1", status="working", turns=4, delivered_turn=1, ended_cursor=3)
        _insert(connection, "agent", id="ag_2", status="interrupted", turns=2, delivered_turn=0, ended_cursor=5)
        ends = ("complete", "complete", "failed", "working"), ("complete", "cancelled")
        for agent, statuses in zip(("ag_1", "ag_2"), ends, strict=True):
            for ordinal, status in enumerate(statuses, 1):
                turn = {"id": f"{agent}_{ordinal}", "agent_id": agent, "ordinal": ordinal, "status": status}
                _insert(connection, "turn", **turn, ended_at=1.5)
                if status != "working":
                    _insert(connection, "event", agent_id=agent, seq=ordinal, turn=ordinal, kind=f"turn.{status}")
        _insert(connection, "sleep", id="sl_1", outcomes='{"ag_1": 2, "gone": 1}')
    assert migrated(path) is not None
    with closing(sqlite3.connect(path)) as connection:
        turns = connection.execute("SELECT id, outcome_cursor, delivered_at FROM turn ORDER BY id").fetchall()
        outcomes = connection.execute("SELECT outcomes FROM durable_wait").fetchone()[0]
    assert turns == [
        ("ag_1_1", 1, 1.5),
        ("ag_1_2", 2, None),
        ("ag_1_3", 3, None),
        ("ag_1_4", None, None),
        ("ag_2_1", 4, None),
        ("ag_2_2", 5, None),
    ]
    assert json.loads(outcomes) == ["ag_1_2"]


def test_every_column_of_a_durable_wait_is_carried_over(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    _of_revision(path, "0004")
    with closing(sqlite3.connect(path)) as connection, connection:
        _insert(connection, "question", id="qu_1", agent_id="ag_1")
        _insert(connection, "agent", id="ag_1")
        _insert(connection, "sleep", id="sl_1", call_key="key", question_id="qu_1", since="7", deadline=3.5)
        _insert(connection, "sleep", id="sl_2", status="completed", result="all complete", expires_at=9.5)
        connection.row_factory = sqlite3.Row
        before = [dict(row) for row in connection.execute("SELECT * FROM sleep ORDER BY id")]
    migrated(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        assert [dict(row) for row in connection.execute("SELECT * FROM durable_wait ORDER BY id")] == before
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_turn_that_was_suspended_before_the_upgrade_is_so_after_it(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    _of_revision(path, "0007")
    with closing(sqlite3.connect(path)) as connection, connection:
        _insert(connection, "agent", id="ag_1")
        _insert(connection, "turn", id="t1", agent_id="ag_1", ordinal=1, status="waiting", parked="quota", heard=1)
        _insert(connection, "turn", id="t2", agent_id="ag_1", ordinal=2, status="queued")
    migrated(path)
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT id, suspended_for, prompt_received FROM turn ORDER BY id"
        assert connection.execute(query).fetchall() == [("t1", "quota", 1), ("t2", "", 0)]


def test_agents_and_inputs_of_before_have_no_brief_and_wait_as_they_did(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    _of_revision(path, "0008")
    with closing(sqlite3.connect(path)) as connection, connection:
        _insert(connection, "agent", id="ag_1")
        _insert(connection, "input", agent_id="ag_1", source_id="ag_1", turn=1, position=0)
    migrated(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT briefs FROM agent").fetchall() == [(None,)]
        assert connection.execute("SELECT any_end FROM input").fetchall() == [(0,)]


def test_unread_results_of_agents_deleted_before_the_upgrade_count_as_delivered(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    _of_revision(path, "0010")
    with closing(sqlite3.connect(path)) as connection, connection:
        _insert(connection, "agent", id="ag_living", name="a")
        _insert(connection, "agent", id="ag_deleted", name="b", deleted_at=7.5)
        for agent in ("living", "deleted"):
            of = {"agent_id": f"ag_{agent}", "status": "complete"}
            _insert(connection, "turn", id=f"{agent}_unread", ordinal=1, outcome_cursor=1, **of)
            _insert(connection, "turn", id=f"{agent}_read", ordinal=2, outcome_cursor=2, delivered_at=3.5, **of)
            _insert(connection, "turn", id=f"{agent}_without_outcome", ordinal=3, **of)
    migrated(path)
    with closing(sqlite3.connect(path)) as connection:
        delivered = dict(connection.execute("SELECT id, delivered_at FROM turn WHERE delivered_at IS NOT NULL"))
    assert delivered == {"living_read": 3.5, "deleted_read": 3.5, "deleted_unread": 7.5}


def _content(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return set(connection.iterdump())


def _of_revision(path: Path, revision: str) -> None:
    """Make an empty database as that schema has it."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.commit()
    engine.dispose()


def _insert(connection: sqlite3.Connection, table: str, **values: object) -> None:
    """Insert a row; every column that is not given and must have a value gets an empty one."""
    empty = {"VARCHAR": "", "INTEGER": 0, "FLOAT": 0.0, "BOOLEAN": 0, "JSON": "[]"}
    needed = {
        name: empty[kind]
        for _, name, kind, required, _, _ in connection.execute(f"PRAGMA table_info({table})")
        if required and name != "id"
    }
    row = {**needed, **values}
    if table == "agent":
        row["name"] = row["id"]
    columns, marks = ", ".join(row), ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", list(row.values()))
