"""The store under kill -9, full disks, crowds of writers and odd directories."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select, text

from orchestrator.domain.event import Kind
from orchestrator.domain.question import NewQuestion, QuestionKind
from orchestrator.domain.turn import TurnEnd, TurnStatus
from orchestrator.domain.usage import RunUsage, Usage
from orchestrator.store.agents import lifecycle
from orchestrator.store.agents.admission import Admission, admit
from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.database import Store, open_store
from orchestrator.store.schema.tables import AGENT
from orchestrator.store.schema.transitions import StaleOwnerError, change, emit
from orchestrator.store.turns import turns
from orchestrator.store.turns.events import Fact, append
from orchestrator.store.turns.turns import Claim
from tests.store.world import agent_values

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).resolve().parents[2]
NO_COST = RunUsage(tokens=Usage(input_tokens=1, output_tokens=1, model_calls=1))
QUESTION = NewQuestion(kind=QuestionKind.QUESTION, call_id="c", tool="Bash", input={}, text="q", asked_at=2.0)
ENDED = TurnEnd(status=TurnStatus.COMPLETE, result="done")
PROGRAM = """
    import asyncio, resource, signal, sys
    from pathlib import Path
    from orchestrator.errors import StoreError
    from orchestrator.store.engine.database import open_store
    from tests.store.test_survival import create, note

    async def write_and_acknowledge(path):
        async with open_store(path) as store:
            await store.write(create, 0)
            async def writer(number):
                while True:
                    seq = await store.write(note, "ag_0", str(number))
                    print(seq, flush=True)
            await asyncio.gather(*[writer(number) for number in range(8)])

    async def fill_the_disk(path):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        async with open_store(path) as store:
            await store.write(create, 0)
            size = path.with_name(path.name + "-wal").stat().st_size
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

    asyncio.run(globals()[sys.argv[1]](Path(sys.argv[2])))
"""


def create(connection: Connection, number: int) -> str:
    """An agent with its first turn, queued."""
    values = agent_values(str(number), float(number)) | {"name": f"agent-{number}"}
    return lifecycle.create(connection, values, turn_id=f"tn_{number}", inputs=(), desk=f"desk-{number}")[0]


def note(connection: Connection, agent_id: str, text: str) -> int:
    """The agent's next event; its number."""
    emit(connection, agent_id, Kind.PROGRESS, time.time(), text=text)
    return connection.execute(select(AGENT.c.last_seq).where(AGENT.c.id == agent_id)).scalar_one()


def claim(connection: Connection) -> list[Claim]:
    """Start what may start."""
    return admit(connection, Admission(owner="me", slots=4, payable=lambda _: True), time.time())


def program(what: str, path: Path, *, stderr: int | None = None) -> subprocess.Popen[str]:
    """Another process that works on the same file."""
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-c", textwrap.dedent(PROGRAM), what, str(path)]
    return subprocess.Popen(argv, env=env, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=stderr)


@pytest.mark.requirement("guarantee:durability:ok-survives-any-crash")
def test_a_kill_in_the_middle_of_commits_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    with program("write_and_acknowledge", path) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(150)]
        os.kill(process.pid, signal.SIGKILL)
        acknowledged += [int(line) for line in process.stdout.read().splitlines()[:-1]]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        found = [seq for (seq,) in connection.execute("SELECT seq FROM event WHERE agent_id = 'ag_0' ORDER BY id")]
    assert set(acknowledged) <= set(found)
    assert found == list(range(1, len(found) + 1))


def test_a_full_disk_refuses_writes_and_takes_them_again_when_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    with program("fill_the_disk", path, stderr=subprocess.PIPE) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    told = dict(line.split(" ", 1) for line in out.splitlines())
    assert int(told["refused"]) > 0
    assert told["other"] == "0"
    assert "free disk space" in told["text"]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        found = [seq for (seq,) in connection.execute("SELECT seq FROM event WHERE agent_id = 'ag_0' ORDER BY id")]
    assert found == list(range(1, len(found) + 1))
    assert len(found) == 3 + int(told["kept"])
    assert int(told["later"]) == len(found)


@pytest.fixture(params=["fleet.db", "odd ?#%&=ü' dir/fleet.db"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where the database lies."""
    path = tmp_path / str(request.param)
    path.parent.mkdir(exist_ok=True)
    return path


async def test_every_connection_has_a_write_ahead_log_and_waits_for_the_disk(path: Path) -> None:
    async with open_store(path) as store:
        assert await store.write(_pragmas) == ("wal", 2, 1)
        assert await store.read(_pragmas) == ("wal", 2, 1)
        assert path.exists()
    assert sorted(one.name for one in path.parent.iterdir()) == ["fleet.db", "fleet.db.last"]


def _pragmas(connection: Connection) -> tuple[object, ...]:
    names = ("journal_mode", "synchronous", "foreign_keys")
    return tuple(connection.execute(text(f"PRAGMA {name}")).scalar_one() for name in names)


@pytest.mark.requirement("store:transaction:change-and-event")
async def test_crowds_of_writers_keep_every_agents_events_dense(tmp_path: Path) -> None:
    async with open_store(tmp_path / "fleet.db") as store:
        for number in range(4):
            await store.write(create, number)
        numbers = await asyncio.gather(*[store.write(note, f"ag_{i % 4}", "x") for i in range(400)])
        for agent in range(4):
            mine = [seq for i, seq in enumerate(numbers) if i % 4 == agent]
            assert mine == list(range(3, 103))


async def _claimed(store: Store) -> Claim:
    await store.write(create, 1)
    (found,) = await store.write(claim)
    return found


async def test_a_stale_owner_writes_neither_events_nor_an_end(tmp_path: Path) -> None:
    async with open_store(tmp_path / "fleet.db") as store:
        mine = await _claimed(store)
        await store.write(change, "ag_1", epoch=mine.epoch + 1)
        fact = Fact(kind=Kind.SAID, at=1.0, body={"text": "late"})
        before = await store.write(note, "ag_1", "x")
        for late in (
            store.write(append, mine, [fact]),
            store.write(turns.finish, mine, ENDED, NO_COST, 2.0),
            store.write(turns.suspend_for_answer, mine, QUESTION, NO_COST, 2.0),
        ):
            with pytest.raises(StaleOwnerError):
                await late
        assert await store.write(note, "ag_1", "y") == before + 1


async def test_a_turn_that_is_finished_twice_has_one_terminal_event(tmp_path: Path) -> None:
    async with open_store(tmp_path / "fleet.db") as store:
        mine = await _claimed(store)
        await store.write(turns.finish, mine, ENDED, NO_COST, 2.0)
        before = await store.write(note, "ag_1", "x")
        with pytest.raises(StaleOwnerError):
            await store.write(turns.finish, mine, ENDED, NO_COST, 3.0)
        assert await store.write(note, "ag_1", "y") == before + 1


async def test_no_more_turns_are_claimed_than_there_are_slots_however_many_claim(tmp_path: Path) -> None:
    async with open_store(tmp_path / "fleet.db") as store:
        await asyncio.gather(*[store.write(create, number) for number in range(10)])
        claims = await asyncio.gather(*[store.write(claim) for _ in range(10)])
        assert sorted(one.agent_id for some in claims for one in some) == ["ag_0", "ag_1", "ag_2", "ag_3"]
