"""A copy of the database while others write to it: consistent, complete or absent."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from orchestrator.errors import ConflictError, FleetError, InvalidError, NotFoundError
from orchestrator.store.engine import backup as backups
from orchestrator.store.engine.backup import PagesCopied, backup
from orchestrator.store.engine.database import Store
from tests.store.engine.driver import Driver, create, note, run_python

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(store: Store, driver: Driver) -> Store:
    """A store with a long history."""
    await store.write(create, 1)
    driver.add_events(store.path, 20_000)
    return store


@pytest.mark.requirement("store:backup:one-moment")
async def test_a_backup_while_others_write_is_of_one_moment_between_its_begin_and_its_end(
    driver: Driver, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backups, "PAGES", 8)
    steps: list[PagesCopied] = []
    before = driver.count(store.path, "event")
    copying = asyncio.create_task(backup(store.path, tmp_path / "copy.db", report=steps.append))
    written = 0
    while not copying.done():
        await store.write(note, "ag_1", "meanwhile")
        written += 1
    size = await copying
    assert size == (tmp_path / "copy.db").stat().st_size
    assert written > 1
    assert before <= driver.count(tmp_path / "copy.db", "event") <= before + written
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    assert len(steps) > 10
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert steps[-1].done == steps[-1].total
    async with driver.open(tmp_path / "copy.db") as copy:
        assert await copy.write(note, "ag_1", "and it works") > 0


async def test_an_existing_file_is_replaced_only_on_request(driver: Driver, store: Store, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.write_text("dear to somebody")
    with pytest.raises(ConflictError, match=r"copy\.db exists") as refused:
        await backup(store.path, target)
    assert "--force" in refused.value.hint
    assert target.read_text() == "dear to somebody"
    await backup(store.path, target, overwrite=True)
    assert driver.count(target, "event") == driver.count(store.path, "event")


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
    driver: Driver, store: Store, tmp_path: Path, name: str, error: type[FleetError], words: str
) -> None:
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error, match=words) as refused:
        await backup(store.path, tmp_path / name, overwrite=True)
    assert refused.value.hint
    assert sorted(tmp_path.iterdir()) == before
    assert driver.count(store.path, "event") > 0


async def test_what_is_not_there_is_not_backed_up(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no database"):
        await backup(tmp_path / "fleet.db", tmp_path / "copy.db")
    assert not list(tmp_path.iterdir())


async def test_a_backup_that_is_called_off_leaves_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backups, "PAGES", 1)
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
    with run_python(program, str(store.path), str(folder / "copy.db"), stderr=subprocess.PIPE) as process:
        _, errors = await asyncio.to_thread(process.communicate, timeout=60)
    assert "StoreError" in errors
    assert "nothing was left behind" in errors
    assert not list(folder.iterdir())
