"""The queue: a commit costs the same however long it is, and no more agents start than may."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event

from orchestrator.domain.agent import NewAgent
from orchestrator.domain.budget import Unit
from orchestrator.store.engine.connection import Connection
from tests.fixtures.personas import define
from tests.fleet.scripted import Lab, Spawn, eventually

pytestmark = pytest.mark.anyio


async def statements(lab: Lab) -> list[str]:
    """What a commit that changes nothing asks of the database until its own end."""
    asked: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *more: object) -> None:
        asked.append(statement)

    def begin(connection: Connection) -> Connection:
        event.listen(connection, "before_cursor_execute", note)
        return connection

    connection = await lab.context.work.commit(begin)
    event.remove(connection, "before_cursor_execute", note)
    return [one.split(" IN (")[0] for one in asked[: asked.index("RELEASE op")]]


@pytest.mark.requirement("budget:cap:resumes-after-top-up")
@pytest.mark.parametrize("caps", [{}, {Unit.TOKENS: 1e6}], ids=["no cap", "a cap of the fleet"])
async def test_a_commit_asks_the_store_as_much_with_thirty_agents_in_the_line_as_with_six(
    lab: Lab, caps: dict[Unit, float]
) -> None:
    if caps:
        await lab.fleet.set_budget(lab.call(), caps)
    for number in range(10):
        await lab.create(f"a{number}")
    few = await statements(lab)
    for number in range(10, 22):
        await lab.create(f"a{number}")
    for number in range(22, 34):
        await lab.create(f"a{number}", inputs=["a0"])
    assert await statements(lab) == few


async def test_a_commit_asks_as_much_for_thirty_agents_with_caps_of_their_own_as_for_six(lab: Lab) -> None:
    async def create(numbers: range) -> None:
        for number in numbers:
            new = NewAgent(name=f"a{number}", task="look", persona="scout", max_tokens=1_000)
            await lab.fleet.create(lab.call(), new)

    await create(range(10))
    few = await statements(lab)
    await create(range(10, 34))
    assert await statements(lab) == few


async def test_writers_behind_one_checkout_cost_a_commit_one_question_about_who_holds_it(lab: Lab) -> None:
    for number in range(6):
        await lab.create(f"w{number}", persona="builder")
    few = await statements(lab)
    for number in range(6, 30):
        await lab.create(f"w{number}", persona="builder")
    assert await statements(lab) == few
    assert (await lab.view("w29")).reason == "w0 writes in this checkout"


@pytest.mark.requirement("budget:cap:resumes-after-top-up")
@pytest.mark.parametrize("of", ["fleet", "family"])
async def test_agents_that_may_start_in_one_commit_do_not_share_the_last_turns_of_a_cap(lab: Lab, of: str) -> None:
    define(lab.project, "lead", "tools: Read, Grep, Glob\nchildren: 5")
    for name in ("x", "y", "z"):
        await lab.create(name)
    await lab.create("lead", persona="lead")
    lab.play("lead", *[Spawn(f"kid{number}") for number in range(3)])

    async def spawned() -> bool:
        return len(lab.provider.answers["lead"]) == 3

    await eventually(spawned)
    if of == "fleet":
        await lab.fleet.set_budget(lab.call(), {Unit.TURNS: 6})
    else:
        await lab.fleet.set_budget(lab.call(), {Unit.TURNS: 3}, agent="lead", subtree=True)
    await lab.fleet.delete(lab.call(), ["x", "y", "z"])  # three slots are free at once
    assert [(await lab.view(f"kid{number}")).status for number in range(3)] == ["working", "working", "waiting"]
    assert "turns" in (await lab.view("kid2")).reason
