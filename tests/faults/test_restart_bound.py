"""A daemon with a large fleet restarts within its bound, and every status is then true."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from orchestrator import paths
from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.database import open_store
from orchestrator.store.scheduling.admission import Admission, admit
from orchestrator.store.turns import turns
from orchestrator.store.turns.turns import Claim
from tests.fixtures.daemon import clean_env, spawn_daemon, wait_until
from tests.store.engine.driver import create
from tests.store.test_survival import ENDED, NO_COST

RESTING, RUNNING, QUEUED = 300, 8, 12
BOUND_SECONDS = 5.0 + 0.020 * (RESTING + RUNNING + QUEUED)
"""as promised: of the daemon's own work, its processor time, whatever else the machine does"""
BUSY_MACHINE = 4.0
"""so many times the bound the clock may show on a machine that is busy with other things"""


def claims(connection: Connection, slots: int) -> list[Claim]:
    """Let these many start, in the name of a daemon that is no more."""
    return admit(connection, Admission(owner="dead", slots=slots, payable=lambda _: True), time.time())


async def populate(path: Path) -> None:
    """A fleet as a killed daemon leaves it."""
    async with open_store(path) as store:
        for number in range(RESTING):
            await store.write(create, number)
        for claim in await store.write(claims, RESTING):
            await store.write(turns.finish, claim, ENDED, NO_COST, time.time())
        for number in range(RESTING, RESTING + RUNNING + QUEUED):
            await store.write(create, number)
        assert len(await store.write(claims, RUNNING)) == RUNNING
    with closing(sqlite3.connect(path)) as rows, rows:  # so that nobody's `claude` need start: its secrets are gone
        rows.execute("UPDATE agent SET account = 'key-1'")


@pytest.mark.requirement("guarantee:restart:bounded")
def test_a_daemon_is_ready_and_has_marked_every_cut_off_turn_within_its_bound(tmp_path: Path, state: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    database = paths.database_path(state)
    asyncio.run(populate(database))
    begun = time.monotonic()
    daemon = spawn_daemon(state, clean_env(home, state))
    try:
        wait_until(daemon.is_serving, "the daemon", seconds=BUSY_MACHINE * BOUND_SECONDS)
        used = psutil.Process(daemon.pid).cpu_times()
        assert used.user + used.system < BOUND_SECONDS
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as rows:
            lost = rows.execute("SELECT count(*) FROM event WHERE kind = 'turn.lost'").fetchone()[0]
            by_status = dict(rows.execute("SELECT status, count(*) FROM agent GROUP BY status").fetchall())
        print(f"ready after {time.monotonic() - begun:.1f} s, promised {BOUND_SECONDS:.1f} s; {by_status}")
        assert lost == RUNNING
        assert by_status["complete"] == RESTING
        assert by_status["waiting"] == RUNNING + QUEUED, "nobody works without a session"
        assert set(by_status) == {"complete", "waiting"}
    finally:
        daemon.stop()
