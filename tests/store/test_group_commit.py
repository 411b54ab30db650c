"""kill -9 in the middle of group commits: what was acknowledged is there, and every transaction whole or not there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import select

from orchestrator.domain.event import TERMINAL
from orchestrator.store.schema.tables import BUDGET
from orchestrator.store.waits.leases import DESK
from tests.store.world import World, open_world

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
    import asyncio, os, signal, sys
    from pathlib import Path
    from orchestrator.domain.budget import Unit
    from orchestrator.store.schema.transitions import change
    from tests.store.world import open_world

    CAPS = {Unit.TOKENS: 500, Unit.TURNS: 5}

    async def live(path):
        async with open_world(path) as world:
            claims = {}

            async def one(number):
                for life in range(1_000):
                    made = await world.create(f"a{number}-{life}", caps=CAPS, writes=True, checkout=f"/c{number}")
                    print("created", made, flush=True)
                    claims.update(await world.admit())  # another one may have claimed it already
                    while made not in claims:
                        await asyncio.sleep(0)
                    print("started", made, flush=True)
                    await world.finish(claims[made])
                    print("finished", made, flush=True)

            await asyncio.gather(*[one(number) for number in range(8)])

    async def die_inside(path):
        def die(connection):
            change(connection, "ag_before", task="never")
            os.kill(os.getpid(), signal.SIGKILL)

        async with open_world(path) as world:
            print("created", await world.create("before"), flush=True)
            first = [asyncio.create_task(world.create(f"a{number}", caps=CAPS)) for number in range(20)]
            await asyncio.gather(*first, world.write(die), *[world.create(f"b{number}") for number in range(20)])

    asyncio.run(globals()[sys.argv[1]](Path(sys.argv[2])))
"""


def program(what: str, path: Path) -> subprocess.Popen[str]:
    """A process that works on the file."""
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-c", textwrap.dedent(PROGRAM), what, str(path)]
    return subprocess.Popen(argv, env=env, cwd=ROOT, text=True, stdout=subprocess.PIPE)


def told(lines: Sequence[str], what: str) -> set[str]:
    """The agents of which this was acknowledged."""
    return {line.split(" ")[1] for line in lines if line.startswith(f"{what} ag_")}


async def check_whole(world: World) -> None:
    """Every agent has all the rows of its creation, its claim and its end, or none of them."""
    desks = set((await world.held(DESK)).values())
    caps = Counter(row.subject for row in await world.rows(select(BUDGET)))
    held = set((await world.held()).values())
    for name in await world.statuses():
        agent_id = f"ag_{name}"
        agent, (turn,) = await world.agent(agent_id), await world.turns(agent_id)
        events = await world.events(agent_id)
        assert [event.seq for event in events] == list(range(1, agent.last_seq + 1))
        assert agent_id in desks
        assert caps[agent_id] in {0, 2}
        ends = [event.id for event in events if event.kind in TERMINAL]
        is_done, is_begun = turn.status == "complete", turn.status != "queued"
        assert agent.status == ("complete" if is_done else "working" if is_begun else "queued")
        assert [str(event.kind) for event in events] == [
            "agent.created",
            "turn.queued",
            *(["turn.started"] if is_begun else []),
            *(["turn.complete"] if is_done else []),
        ]
        assert ends == ([turn.outcome_cursor] if is_done else [])
        assert (agent_id in held) == (is_begun and not is_done and agent.writes)
        assert agent.tokens == turn.input_tokens == (10 if is_done else 0)


@pytest.mark.requirement("guarantee:durability:ok-survives-any-crash")
@pytest.mark.parametrize("lines", [5, 60])
async def test_a_kill_while_eight_agents_live_loses_nothing_acknowledged_and_halves_nothing(
    tmp_path: Path, lines: int
) -> None:
    path = tmp_path / "fleet.db"
    with program("live", path) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        os.kill(process.pid, signal.SIGKILL)
        said += process.stdout.read().splitlines(keepends=True)
    said = [line.strip() for line in said if line.endswith("\n")]
    async with open_world(path) as world:
        assert world.store.lost_events == 0
        await check_whole(world)
        assert told(said, "created") <= {f"ag_{name}" for name in await world.statuses()}
        for agent_id in told(said, "started"):
            assert (await world.turns(agent_id))[0].status in {"working", "complete"}
        for agent_id in told(said, "finished"):
            assert (await world.turns(agent_id))[0].status == "complete"


@pytest.mark.requirement("store:writer:group-commit")
async def test_a_process_that_dies_inside_a_group_leaves_nothing_of_the_group(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    with program("die_inside", path) as process:
        assert process.stdout is not None
        said = process.stdout.read()
    assert process.returncode == -signal.SIGKILL
    assert said == "created ag_before\n"
    async with open_world(path) as world:
        statuses = await world.statuses()
        assert statuses["before"] == "queued"
        assert (await world.agent("ag_before")).task == "the task of before"
        assert not [name for name in statuses if name.startswith("b") and name != "before"]
        await check_whole(world)
        assert await world.create("after") == "ag_after"
