"""Rows that nobody needs are deleted after thirty days; what an agent did and said is kept."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sqlalchemy import Table, func, select

from orchestrator.store import retention
from orchestrator.store.schema.tables import COMMAND, LEASE, PROCESS, TRANSCRIPT
from orchestrator.store.sessions import processes, transcripts
from tests.fleet.scripted import Lab, eventually, open_lab

pytestmark = pytest.mark.anyio
DAY = 86_400.0


async def left(lab: Lab) -> list[int]:
    """How many rows the tables have that would only grow."""
    tables: list[Table] = [PROCESS, LEASE, COMMAND, TRANSCRIPT]
    return [(await lab.rows(select(func.count()).select_from(table)))[0][0] for table in tables]


async def worked(lab: Lab, name: str, now: float) -> None:
    """An agent that wrote, in a process, by a command with a key, and whose conversation was kept."""
    made = await lab.create(name, persona="builder")
    lab.finish(name, "built")
    await lab.becomes(name, "complete")
    await lab.fleet.command(lab.call(f"key-{name}"), name, "more")
    lab.finish(name, "built more")
    await eventually(lambda: _has(lab, name, 2))
    store, lines = lab.context.work.store, [transcripts.Line(uuid="u1", body="{}")]
    await store.write(transcripts.append, made.agent.id, "", lines)
    await store.write(processes.intend, made.agent.id, epoch=2, marker=name, tier="C", boot="b", now=now)
    await store.write(processes.ended, [name], now)


async def _has(lab: Lab, name: str, turns: int) -> bool:
    return [turn.status for turn in await lab.turns(name)] == ["complete"] * turns


@pytest.mark.requirement("store:retention:thirty-days")
async def test_a_deleted_agents_upkeep_goes_after_thirty_days_and_its_results_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 1)
    now = time.time()
    async with open_lab(tmp_path, clock=lambda: now) as lab:
        await worked(lab, "gone", now)
        await lab.fleet.delete(lab.call(), ["gone"])
        before = await left(lab)
        assert all(before)
        now += 29 * DAY
        assert not await lab.context.work.store.write(retention.prune, now)
        assert await left(lab) == before
    now += 2 * DAY
    async with open_lab(tmp_path, clock=lambda: now) as lab:

        async def is_clean() -> bool:
            return not any(await left(lab))

        await eventually(is_clean)
        assert [turn.result for turn in await lab.turns("gone")] == ["built", "built more"]
        assert await lab.events("gone")


@pytest.mark.requirement("store:retention:thirty-days")
async def test_the_conversation_of_an_agent_that_lives_stays_however_old_it_is(tmp_path: Path) -> None:
    now = time.time()
    async with open_lab(tmp_path, clock=lambda: now) as lab:
        await worked(lab, "kept", now)
        now += 365 * DAY
        assert await lab.context.work.store.write(retention.prune, now)
        assert (await left(lab))[-1] == 1
