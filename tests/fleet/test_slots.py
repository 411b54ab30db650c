"""A daemon that resumes turns lets them start before it does anything else, but not for ever."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.fleet.execution.slots import AgentSlots
from orchestrator.store.turns.turns import Claim

pytestmark = pytest.mark.anyio
LONG, SHORT = 60.0, 0.05


def claims(*agents: str) -> list[Claim]:
    return [Claim(agent_id=agent, turn_id=f"tn_{agent}", turn=1, epoch=1, continues=False) for agent in agents]


async def test_without_resumed_turns_nothing_is_waited_for() -> None:
    await AgentSlots().wait_started(LONG)


async def test_the_wait_ends_when_each_session_has_reported_or_its_worker_has_left() -> None:
    slots = AgentSlots()
    slots.dispatch(claims("reports", "leaves"))
    waiting = asyncio.create_task(slots.wait_started(LONG))
    reports, leaves = [await slots.next_unserved() for _ in range(2)]
    reports.started.set()
    done, _ = await asyncio.wait({waiting}, timeout=SHORT)
    assert not done
    while not leaves.inbox.empty():
        leaves.inbox.get_nowait()
    slots.release(leaves)
    async with asyncio.timeout(LONG / 2):
        await waiting


async def test_a_session_that_reports_nothing_is_waited_for_no_longer_than_told() -> None:
    slots = AgentSlots()
    slots.dispatch(claims("hangs"))
    await slots.wait_started(SHORT)
    assert slots.owns("hangs")
