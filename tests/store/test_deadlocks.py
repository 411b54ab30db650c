"""Agents that would wait for each other forever are refused, whatever they would wait by."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.wait import WaitKind
from orchestrator.errors import ConflictError, InvalidError
from orchestrator.store.turns.recovery import held_by
from orchestrator.store.turns.turns import Claim
from orchestrator.store.waits.deadlocks import Waits, blocks_on
from tests.store.world import HOUR, OWNER, World, open_world

pytestmark = pytest.mark.anyio


async def test_agents_in_a_row_are_no_circle(world: World) -> None:
    await world.create("a0")
    for number in range(1, 12):
        await world.create(f"a{number}", inputs=[f"ag_a{number - 1}"])
    assert list(await world.admit()) == ["ag_a0"]


async def test_two_ways_to_one_source_are_no_circle(world: World) -> None:
    await world.create("source")
    for name in ("left", "right"):
        await world.create(name, inputs=["ag_source"])
    await world.create("last", inputs=["ag_left", "ag_right"])


@pytest.mark.parametrize("length", [2, 3, 8])
async def test_a_circle_of_inputs_is_refused_however_long_it_is(world: World, length: int) -> None:
    await world.create("a0", account="away")
    for number in range(1, length):
        await world.create(f"a{number}", inputs=[f"ag_a{number - 1}"])
    with pytest.raises(ConflictError, match=f"a0 and a{length - 1} would wait for each other"):
        await world.set_inputs("ag_a0", 1, [f"ag_a{length - 1}"])


async def test_a_later_turn_of_a_source_counts_too(world: World) -> None:
    await world.start("one")
    await world.create("two", inputs=["ag_one"])
    with pytest.raises(ConflictError, match="would wait for each other"):
        await world.command("ag_one", inputs=["ag_two"])


async def test_an_ended_agent_closes_no_circle(world: World) -> None:
    claim = await world.start("one")
    await world.create("two", inputs=["ag_one"])
    await world.finish(claim)
    await world.command("ag_one", inputs=["ag_two"])
    assert await world.inputs("ag_one") == {"ag_two": "open"}


async def test_a_parent_does_not_wait_for_a_child_that_waits_for_the_parents_end(world: World) -> None:
    lead = await world.start("lead")
    child = await world.create("child", parent=lead, inputs=["ag_lead"])
    await world.wait_for_children(lead)
    assert await world.status("ag_lead") == "queued"
    (question,) = await world.questions("ag_lead")
    assert (question.state, question.answered_by) == ("answered", "children")
    assert "not waited for: child starts only when you have ended" in question.answer
    assert (await world.admit())["ag_lead"].continues
    assert await world.waits_for(child) is WaitKind.INPUTS


async def test_nobody_may_wait_for_the_parent_that_waits_for_him(world: World) -> None:
    lead = await world.start("lead")
    child = await world.create("child", parent=lead)
    await world.admit()
    await world.wait_for_children(lead)
    with pytest.raises(ConflictError, match="child and lead would wait for each other"):
        await world.command(child, inputs=["ag_lead"])


async def test_a_stranger_may_wait_for_a_parent_unless_a_child_waits_for_the_stranger(world: World) -> None:
    lead = await world.start("lead")
    await world.create("stranger", account="away")
    await world.create("child", parent=lead, inputs=["ag_stranger"])
    await world.wait_for_children(lead)
    with pytest.raises(ConflictError, match="stranger and lead would wait for each other"):
        await world.set_inputs("ag_stranger", 1, ["ag_lead"])
    await world.create("friend", inputs=["ag_lead"])


async def test_a_durable_wait_on_agents_that_wait_for_the_waiter_is_refused_and_told(world: World) -> None:
    boss = await world.start("boss")
    await world.create("worker", inputs=["ag_boss"])
    wait_id = await world.wait_for_agents(boss, agents=["ag_worker"])
    row = await world.durable_wait(wait_id)
    assert (row.status, row.is_error) == ("completed", True)
    assert "boss and worker would wait for each other" in row.result
    assert await world.status("ag_boss") == "queued"


async def test_a_durable_wait_for_any_needs_one_that_can_end(world: World) -> None:
    boss = await world.start("boss")
    await world.create("behind", inputs=["ag_boss"])
    await world.create("free")
    wait_id = await world.wait_for_agents(boss, agents=["ag_behind", "ag_free"], until="any")
    assert (await world.durable_wait(wait_id)).status == "working"


async def test_a_durable_wait_for_any_of_those_that_all_wait_for_the_waiter_is_refused(world: World) -> None:
    boss = await world.start("boss")
    for name in ("one", "two"):
        await world.create(name, inputs=["ag_boss"])
    wait_id = await world.wait_for_agents(boss, agents=["ag_one", "ag_two"], until="any")
    assert (await world.durable_wait(wait_id)).is_error


async def test_a_durable_wait_with_an_end_of_its_own_closes_no_circle(world: World) -> None:
    boss = await world.start("boss")
    await world.create("worker", inputs=["ag_boss"])
    wait_id = await world.wait_for_agents(boss, agents=["ag_worker"], deadline=world.now + HOUR)
    assert (await world.durable_wait(wait_id)).status == "working"


async def test_a_durable_wait_without_names_is_for_all_agents_of_the_waiter(world: World) -> None:
    boss = await world.start("boss", orchestrator="host-9")
    await world.create("theirs", inputs=["ag_boss"], orchestrator="ag_boss")
    wait_id = await world.wait_for_agents(boss, orchestrator="ag_boss")
    assert (await world.durable_wait(wait_id)).is_error


async def test_nobody_may_wait_for_an_orchestrator_that_waits_for_him(world: World) -> None:
    boss = await world.start("boss")
    await world.create("worker", account="away")
    await world.wait_for_agents(boss, agents=["ag_worker"])
    with pytest.raises(ConflictError, match="worker and boss would wait for each other"):
        await world.set_inputs("ag_worker", 1, ["ag_boss"])


async def test_a_question_or_a_pause_is_not_a_wait_for_an_agent(world: World) -> None:
    claim = await world.start("asks")
    await world.create("next", inputs=["ag_asks"])
    await world.ask(claim)
    found = await world.store.read(lambda connection: blocks_on(connection, ["ag_asks", "ag_next"]))
    assert found == {"ag_asks": [], "ag_next": [["ag_asks"]]}


# after any accepted sequence nobody waits for ever


def deadlocked(waits: Waits) -> set[str]:
    """Who can never go on: agents whose every way is through each other."""
    free: set[str] = set()
    while new := {one for one, groups in waits.items() if one not in free and all(free & set(some) for some in groups)}:
        free |= new
    return set(waits) - free


PICK = st.integers(0, 7)
STEP = st.tuples(st.sampled_from(["create", "child", "inputs", "children", "agents", "any", "end"]), PICK, PICK, PICK)


class Tangle:
    """Agents that come to wait for each other; what is refused is refused."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ids: list[str] = []
        self.refused = 0

    def pick(self, *numbers: int) -> list[str]:
        """Some agents, each once."""
        return list(dict.fromkeys(self.ids[number % len(self.ids)] for number in numbers)) if self.ids else []

    async def step(self, what: str, first: int, *numbers: int) -> None:
        """Take one step, if its agent can."""
        others = self.pick(*numbers)
        claims = {claim.agent_id: claim for claim in await self.world.write(held_by, OWNER)}
        agent_id = next(iter(self.pick(first)), "")
        claim = claims.get(agent_id)
        if what == "create":
            self.ids.append(await self.world.create(f"a{len(self.ids)}", inputs=others))
        elif what == "child" and claim is not None:
            self.ids.append(await self.world.create(f"a{len(self.ids)}", inputs=others, parent=claim))
        elif what == "inputs" and agent_id:
            await self.world.command(agent_id, inputs=others)
        elif claim is not None:
            await self._end(what, claim, others)

    async def _end(self, what: str, claim: Claim, others: Sequence[str]) -> None:
        if what == "children":
            await self.world.wait_for_children(claim)
        elif what in {"agents", "any"} and others:
            await self.world.wait_for_agents(claim, agents=others, until="any" if what == "any" else "all")
        elif what == "end":
            await self.world.finish(claim)

    async def check(self) -> None:
        """Nobody waits in a circle, though each one's own account of it may be long."""
        waits = await self.world.store.read(lambda connection: blocks_on(connection, self.ids))
        assert deadlocked(waits) == set(), waits


@given(steps=st.lists(STEP, min_size=4, max_size=25))
@settings(max_examples=60, deadline=None)
def test_after_any_accepted_sequence_nobody_waits_in_a_circle(steps: list[tuple[str, int, int, int]]) -> None:
    async def run(path: Path) -> None:
        async with open_world(path) as world:
            tangle = Tangle(world)
            for what, *numbers in steps:
                world.now += 1
                try:
                    await tangle.step(what, *numbers)
                except (ConflictError, InvalidError):
                    tangle.refused += 1
                await world.admit()
                await tangle.check()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder) / "fleet.db"))
