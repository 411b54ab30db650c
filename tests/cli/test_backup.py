"""`fleet backup` with and without a daemon."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.fixtures.fleet_command import Command


def is_sound(copy: Path) -> bool:
    with closing(sqlite3.connect(copy)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.requirement("store:backup:one-moment")
def test_a_backup_is_made_by_the_daemon_or_without_one(fleet: Command) -> None:
    absent = fleet("backup", "early.db")
    assert absent.code == 3
    assert "no database" in absent.err
    assert fleet("up").code == 0
    try:
        by_daemon = fleet("backup", "running.db", "--json")
    finally:
        assert fleet("down").code == 0
    assert by_daemon.json["file"] == str(fleet.cwd / "running.db")
    assert by_daemon.json["bytes"] == (fleet.cwd / "running.db").stat().st_size
    directly = fleet("backup", "down.db")
    assert directly.out.startswith(f"backed up to {fleet.cwd / 'down.db'} (")
    assert fleet("down", "--json").json["was_running"] is False, "a backup starts no daemon"
    assert is_sound(fleet.cwd / "running.db")
    assert is_sound(fleet.cwd / "down.db")
    again = fleet("backup", "down.db")
    assert again.code == 1
    assert "down.db exists" in again.err
    assert fleet("backup", "down.db", "--force").code == 0
    assert sorted(path.name for path in fleet.cwd.glob(".*.part")) == []
