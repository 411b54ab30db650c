"""Owners that are late, ends that come twice, and claims that compete."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from orchestrator.domain.event import EventKind
from orchestrator.domain.question import NewQuestion, QuestionKind
from orchestrator.domain.turn import TurnResult, TurnStatus
from orchestrator.domain.usage import RunUsage, Usage
from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.database import Store, open_store
from orchestrator.store.scheduling.admission import Admission, admit
from orchestrator.store.schema.transitions import StaleOwnerError, change
from orchestrator.store.turns import turns
from orchestrator.store.turns.events import Fact, append
from orchestrator.store.turns.turns import Claim
from tests.store.engine.driver import create, note

pytestmark = pytest.mark.anyio
NO_COST = RunUsage(tokens=Usage(input_tokens=1, output_tokens=1, model_calls=1))
QUESTION = NewQuestion(kind=QuestionKind.QUESTION, call_id="c", tool="Bash", input={}, text="q", asked_at=2.0)
ENDED = TurnResult(status=TurnStatus.COMPLETE, result="done")


def claim(connection: Connection) -> list[Claim]:
    """Start what may start."""
    return admit(connection, Admission(owner="me", slots=4, payable=lambda _: True), time.time())


async def _claimed(store: Store) -> Claim:
    await store.write(create, 1)
    (found,) = await store.write(claim)
    return found


async def test_a_stale_owner_writes_neither_events_nor_an_end(tmp_path: Path) -> None:
    async with open_store(tmp_path / "fleet.db") as store:
        mine = await _claimed(store)
        await store.write(change, "ag_1", epoch=mine.epoch + 1)
        fact = Fact(kind=EventKind.SAID, at=1.0, body={"text": "late"})
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
