"""Creates a database file, or upgrades it to this version's schema after a backup; never downgrades.

One script makes a new file; `make docs` generates it from the migrations. Alembic is imported only if an upgrade is
due: with its import, all migrations took 0.43 s of CPU on a machine where the script took 0.007 s.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from sqlalchemy import URL, create_engine
from sqlalchemy.exc import DatabaseError

from orchestrator import log
from orchestrator.errors import SchemaError, StoreError
from orchestrator.store.engine.backup import PagesCopied, backup

LOG = log.logger("fleet.store")
MIGRATIONS = Path(__file__).parents[1] / "migrations"
SCHEMA = MIGRATIONS / "schema.sql"
"""the newest schema and its revision, generated from the migrations"""


async def migrate(path: Path) -> Path | None:
    """Create or upgrade the file; returns the backup, if the file had an older schema.

    Raises:
        SchemaError: a newer version of Fleet wrote the file; it is left untouched.
        StoreError: the file is not a database, or cannot be written.
    """
    try:
        found, known = await asyncio.to_thread(_revision, path), known_revisions()
        if found == known[-1]:
            return None
        if found is not None and found not in known:
            raise SchemaError(
                f"the database {path} has schema {found!r}, which this version of Fleet does not know",
                hint="a newer Fleet wrote it: upgrade this one (pip install -U agent-fleet), or set FLEET_STATE",
            )
        copy = await _back_up(path, found) if found is not None else None
        await asyncio.to_thread(_create if _is_new(path) else upgrade, path)
    except (sqlite3.DatabaseError, DatabaseError, OSError) as error:
        if "locked" in str(error):
            raise StoreError(
                f"the database {path} is locked by another program",
                hint=f"end that program (fuser {path} names it), then start again; nothing was changed",
            ) from error
        raise StoreError(
            f"the database {path} is not usable: {error}",
            hint="move the file away (a backup may be next to it), or set FLEET_STATE to another directory",
        ) from error
    return copy


def known_revisions() -> list[str]:
    """Return the schemas that this version knows, oldest first; migrations are named `<revision>_<what>.py`."""
    return sorted(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))


def _is_new(path: Path) -> bool:
    return not path.exists() or path.stat().st_size == 0


def _revision(path: Path) -> str | None:
    if _is_new(path):
        return None
    with closing(sqlite3.connect(path)) as connection:
        known = connection.execute("SELECT name FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if known else None
    return str(row[0]) if row else None


async def _back_up(path: Path, revision: str) -> Path:
    target, started = path.with_name(f"{path.name}.before-{revision}.bak"), time.monotonic()

    def report(progress: PagesCopied) -> None:
        nonlocal started
        if time.monotonic() - started >= 1:
            started = time.monotonic()
            LOG.info("backup_before_upgrade", file=str(target), pages_done=progress.done, pages=progress.total)

    await backup(path, target, overwrite=True, report=report)
    return target


def _make_private(path: Path) -> None:
    path.touch(mode=0o600)
    os.chmod(path, 0o600)  # noqa: PTH101 - an existing file may have been created with another umask


def _create(path: Path) -> None:
    """Make the tables in one transaction; does nothing if another process has just made them."""
    _make_private(path)
    with closing(sqlite3.connect(path)) as connection:
        try:
            connection.executescript(SCHEMA.read_text(encoding="utf-8"))
        except sqlite3.OperationalError:
            connection.rollback()
            if _revision(path) != known_revisions()[-1]:
                raise


def upgrade(path: Path) -> None:
    """Run every migration that the file has not had; a failed one leaves it unchanged.

    Raises:
        DatabaseError: the file is locked, or is not a database.
    """
    from alembic import command
    from alembic.config import Config

    _make_private(path)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"isolation_level": None})
    try:
        with engine.connect() as connection:
            # the driver begins no transaction for CREATE or ALTER; this way a failed upgrade is undone completely
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.exec_driver_sql("COMMIT")
    finally:
        engine.dispose()
