"""The engines that the suite in this folder runs for, and how a test reaches their databases past the store.

A second engine adds an entry to `DRIVERS`. What only one engine has is in a separate module (`test_sqlite.py`), and
so is the history of its files (`tests/store/test_migrate*.py`).
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from orchestrator.domain.event import EventKind
from orchestrator.store.agents import lifecycle
from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.database import Store, open_store
from orchestrator.store.schema.tables import AGENT
from orchestrator.store.schema.transitions import emit
from tests.store.world import agent_spec

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Driver:
    """An engine, and what other programs can do to its database."""

    open: Callable[[Path], AbstractAsyncContextManager[Store]]
    query: Callable[[Path, str], list[tuple[Any, ...]]]
    """what another program reads at this moment; it fails if the database is damaged"""
    execute: Callable[[Path, str], None]
    """a statement of another program, committed"""
    locked: Callable[[Path], AbstractContextManager[None]]
    """while another program keeps everybody from writing"""

    def count(self, path: Path, table: str) -> int:
        """How many rows another program sees at this moment."""
        return int(self.query(path, f"SELECT count(*) FROM {table}")[0][0])

    def add_events(self, path: Path, count: int) -> None:
        """Give the agent ag_1 so many events more, past the store."""
        self.execute(path, ADD.format(count=count))


ADD = """WITH RECURSIVE number(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM number WHERE n < {count})
    INSERT INTO event (agent_id, seq, turn, kind, at, body)
    SELECT 'ag_1', 1000 + n, 1, 'progress', n, '{{"text": "' || n || '"}}' FROM number"""


def _query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        rows = connection.execute(sql).fetchall()
        assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
        return rows


def _execute(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(sql)


@contextmanager
def _locked(path: Path) -> Generator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


DRIVERS = {"sqlite": Driver(open=open_store, query=_query, execute=_execute, locked=_locked)}


def create(connection: Connection, number: int) -> str:
    """An agent with its first turn, queued."""
    return lifecycle.create(connection, agent_spec(f"agent-{number}", float(number), id=f"ag_{number}"))[0]


def note(connection: Connection, agent_id: str, text: str) -> int:
    """The agent's next event; its number."""
    emit(connection, agent_id, EventKind.PROGRESS, time.time(), text=text)
    return connection.execute(select(AGENT.c.last_seq).where(AGENT.c.id == agent_id)).scalar_one()


def run_python(source: str, *arguments: str, stderr: int | None = None) -> subprocess.Popen[str]:
    """Another process that works on the same database."""
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-c", textwrap.dedent(source), *arguments]
    return subprocess.Popen(argv, env=env, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=stderr)
