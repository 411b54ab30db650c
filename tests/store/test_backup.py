"""A copy of the database while others write to it: consistent, complete or absent."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import AsyncGenerator
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.errors import ConflictError, FleetError, InvalidError, NotFoundError
from orchestrator.store.engine import backup as engine
from orchestrator.store.engine.backup import PagesCopied, backup
from orchestrator.store.engine.database import Store, open_store
from tests.store.test_stream import add
from tests.store.test_survival import ROOT, create, note

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[Store]:
    async with open_store(tmp_path / "fleet.db") as store:
        await store.write(create, 1)
        add(store.path, 20_000)
        yield store


def whole(path: Path) -> int:
    """How many events a sound database holds."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return int(connection.execute("SELECT count(*) FROM event").fetchone()[0])


@pytest.mark.requirement("store:backup:one-moment")
async def test_a_backup_while_others_write_is_of_one_moment_between_its_begin_and_its_end(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "PAGES", 8)
    steps: list[PagesCopied] = []
    before = whole(store.path)
    copying = asyncio.create_task(backup(store.path, tmp_path / "copy.db", report=steps.append))
    written = 0
    while not copying.done():
        await store.write(note, "ag_1", "meanwhile")
        written += 1
    size = await copying
    assert size == (tmp_path / "copy.db").stat().st_size
    assert written > 1
    assert before <= whole(tmp_path / "copy.db") <= before + written
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    assert len(steps) > 10
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert steps[-1].done == steps[-1].total
    async with open_store(tmp_path / "copy.db") as copy:
        assert await copy.write(note, "ag_1", "and it works") > 0


async def test_an_existing_file_is_replaced_only_on_request(store: Store, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.write_text("dear to somebody")
    with pytest.raises(ConflictError, match=r"copy\.db exists") as refused:
        await backup(store.path, target)
    assert "--force" in refused.value.hint
    assert target.read_text() == "dear to somebody"
    await backup(store.path, target, overwrite=True)
    assert whole(target) == whole(store.path)


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("missing/copy.db", InvalidError, "not a directory"),
        ("folder", InvalidError, "is a directory"),
        ("fleet.db", InvalidError, "belongs to the database itself"),
        ("fleet.db-wal", InvalidError, "belongs to the database itself"),
        ("folder/../fleet.db", InvalidError, "belongs to the database itself"),
    ],
)
async def test_a_path_that_can_be_no_backup_is_refused(
    store: Store, tmp_path: Path, name: str, error: type[FleetError], words: str
) -> None:
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error, match=words) as refused:
        await backup(store.path, tmp_path / name, overwrite=True)
    assert refused.value.hint
    assert sorted(tmp_path.iterdir()) == before
    assert whole(store.path) > 0


async def test_what_is_not_there_is_not_backed_up(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no database"):
        await backup(tmp_path / "fleet.db", tmp_path / "copy.db")
    assert not list(tmp_path.iterdir())


async def test_a_backup_that_is_called_off_leaves_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "PAGES", 1)
    begun = asyncio.Event()
    before = sorted(path.name for path in tmp_path.iterdir())
    copying = asyncio.create_task(backup(store.path, tmp_path / "copy.db", report=lambda _: begun.set()))
    await begun.wait()
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.requirement("store:backup:one-moment")
async def test_a_full_disk_leaves_no_half_backup_and_says_so(store: Store, tmp_path: Path) -> None:
    program = """
        import asyncio, resource, signal, sys
        from pathlib import Path
        from orchestrator.store.engine.backup import backup

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        asyncio.run(backup(Path(sys.argv[1]), Path(sys.argv[2])))
    """
    folder = tmp_path / "full"
    folder.mkdir()
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-c", textwrap.dedent(program), str(store.path), str(folder / "copy.db")]
    done = await asyncio.to_thread(
        subprocess.run, argv, env=env, cwd=ROOT, text=True, capture_output=True, timeout=60, check=False
    )
    assert "StoreError" in done.stderr
    assert "nothing was left behind" in done.stderr
    assert not list(folder.iterdir())
