"""What was acknowledged survives kill -9 and full disks; what was lost all the same is noticed."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from orchestrator.store.engine.backup import backup
from tests.store.engine.driver import Driver, create, note, run_python

pytestmark = pytest.mark.anyio
PROGRAM = """
    import asyncio, resource, signal, sys
    from pathlib import Path
    from orchestrator.errors import StoreError
    from tests.store.engine.driver import DRIVERS, create, note

    async def write_and_acknowledge(driver, path):
        async with driver.open(path) as store:
            await store.write(create, 0)
            async def writer(number):
                while True:
                    seq = await store.write(note, "ag_0", str(number))
                    print(seq, flush=True)
            await asyncio.gather(*[writer(number) for number in range(8)])

    async def fill_the_disk(driver, path):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        async with driver.open(path) as store:
            await store.write(create, 0)
            size = max(one.stat().st_size for one in path.parent.iterdir())
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20_000, resource.RLIM_INFINITY))
            done = await asyncio.gather(
                *[store.write(note, "ag_0", "x" * 4000) for _ in range(40)], return_exceptions=True
            )
            print("refused", sum(isinstance(one, StoreError) for one in done))
            print("other", sum(not isinstance(one, StoreError | int) for one in done))
            print("kept", sum(isinstance(one, int) for one in done))
            print("text", next(str(one) for one in done if isinstance(one, StoreError)))
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            print("later", await store.write(note, "ag_0", "y"))

    asyncio.run(globals()[sys.argv[1]](DRIVERS[sys.argv[2]], Path(sys.argv[3])))
"""


@pytest.mark.requirement("guarantee:durability:ok-survives-any-crash")
def test_a_kill_in_the_middle_of_commits_loses_nothing_that_was_acknowledged(
    engine: str, driver: Driver, tmp_path: Path
) -> None:
    path = tmp_path / "fleet.db"
    with run_python(PROGRAM, "write_and_acknowledge", engine, str(path)) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(150)]
        os.kill(process.pid, signal.SIGKILL)
        acknowledged += [int(line) for line in process.stdout.read().splitlines()[:-1]]
    found = [seq for (seq,) in driver.query(path, "SELECT seq FROM event WHERE agent_id = 'ag_0' ORDER BY id")]
    assert set(acknowledged) <= set(found)
    assert found == list(range(1, len(found) + 1))


def test_a_full_disk_refuses_writes_and_takes_them_again_when_there_is_room(
    engine: str, driver: Driver, tmp_path: Path
) -> None:
    path = tmp_path / "fleet.db"
    with run_python(PROGRAM, "fill_the_disk", engine, str(path), stderr=subprocess.PIPE) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    told = dict(line.split(" ", 1) for line in out.splitlines())
    assert int(told["refused"]) > 0
    assert told["other"] == "0"
    assert "free disk space" in told["text"]
    found = [seq for (seq,) in driver.query(path, "SELECT seq FROM event WHERE agent_id = 'ag_0' ORDER BY id")]
    assert found == list(range(1, len(found) + 1))
    assert len(found) == 3 + int(told["kept"])
    assert int(told["later"]) == len(found)


async def test_a_history_that_became_shorter_is_noticed_when_the_database_is_opened(
    driver: Driver, tmp_path: Path
) -> None:
    path, old = tmp_path / "fleet.db", tmp_path / "old.db"
    async with driver.open(path) as store:
        await store.write(create, 1)
        await backup(path, old)
        for number in range(3):
            await store.write(note, "ag_1", str(number))
        assert store.lost_events == 0
    async with driver.open(path) as store:
        assert store.lost_events == 0, "all is there"
    old.replace(path)
    async with driver.open(path) as store:
        assert store.lost_events == 3
    async with driver.open(path) as store:
        assert store.lost_events == 0, "it is said once"
