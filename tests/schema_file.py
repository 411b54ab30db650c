"""Writes the schema of a new database from the migrations: `python -m tests.schema_file --write`."""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from orchestrator.store.engine.migrate import SCHEMA, upgrade


def migrated() -> str:
    """The script that makes what all migrations make, one after another."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "fleet.db"
        upgrade(path)
        with closing(sqlite3.connect(path)) as connection:
            script = "".join(f"{statement}\n" for statement in connection.iterdump())
    return script.replace("BEGIN TRANSACTION;", "BEGIN IMMEDIATE;", 1)  # so that a second process waits


if __name__ == "__main__":
    if "--write" in sys.argv:
        SCHEMA.write_text(migrated(), encoding="utf-8")
    else:
        sys.stdout.write(migrated())
