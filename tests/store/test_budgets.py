"""Budgets: use is the sum of all reports, a cap stops agents under it, and a raise resumes them."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from orchestrator.domain.budget import FLEET, UNPRICED, Scope, Unit
from orchestrator.domain.event import EventKind
from orchestrator.domain.turn import TurnStatus
from orchestrator.domain.usage import RunUsage
from orchestrator.domain.wait import Wait, WaitKind
from orchestrator.errors import NotFoundError, RefusedError
from orchestrator.store.families import budgets
from orchestrator.store.queries import totals
from orchestrator.store.schema.changes import AgentChange
from orchestrator.store.schema.tables import AGENT, BUDGET, TURN
from orchestrator.store.turns.events import Fact, append
from orchestrator.store.turns.turns import Claim
from tests.store.world import NOON, NOTHING_USED, World, names, open_world, usage

pytestmark = pytest.mark.anyio
LONG_PAUSE = Wait(kind=WaitKind.OVERLOAD, until=NOON + 1_000)


async def spend(world: World, claim: Claim, tokens: int, cost_usd: float = 0.0) -> None:
    """Let the running session tell what it has used so far."""
    values: AgentChange = {"live_tokens": tokens, "live_cost_usd": cost_usd}
    await world.write(append, claim, [Fact(kind=None, at=world.now, body={}, values=values)])


async def set_caps(world: World, subject: str, scope: Scope, **caps: float) -> None:
    """Set caps without waking anyone."""
    await world.write(budgets.set_caps, subject, scope, {Unit(unit): cap for unit, cap in caps.items()})


async def raise_caps(world: World, subject: str, scope: Scope = Scope.AGENT, **caps: float) -> list[str]:
    """Set caps by command; those that go on by it."""
    given = {Unit(unit): cap for unit, cap in caps.items()}
    return names(await world.write(budgets.raise_caps, subject, scope, given, world.now))


async def used(world: World, agent_id: str, unit: Unit, subject: str | None = None) -> float:
    """What counts against this cap of the agent, or of the one above it that is named."""
    return (await world.headroom(agent_id))[subject or agent_id, unit].used


# what is counted


async def test_an_agent_without_caps_has_no_limits(world: World) -> None:
    await world.create("a")
    assert await world.headroom("ag_a") == {}


async def test_each_unit_counts_what_its_name_says(world: World) -> None:
    caps = {Unit.USD: 9.0, Unit.TOKENS: 900.0, Unit.TURNS: 9.0, Unit.SECONDS: 900.0}
    claim = await world.start("a", caps=caps)
    await world.queue("ag_a")
    world.now += 30
    await world.finish(claim, used=usage(100, 0.5, output_tokens=20, cache_read_tokens=3, cache_write_tokens=4))
    world.now += 1_000  # between its turns no time of its own passes
    await world.admit()
    world.now += 5
    rooms = await world.headroom("ag_a")
    assert {unit: (room.used, room.cap) for (_, unit), room in rooms.items()} == {
        Unit.USD: (0.5, 9.0),
        Unit.TOKENS: (127, 900.0),
        Unit.TURNS: (2, 9.0),
        Unit.SECONDS: (35.0, 900.0),
    }


async def test_what_a_running_session_tells_counts_at_once_and_is_replaced_by_the_truth(world: World) -> None:
    claim = await world.start("a", caps={Unit.TOKENS: 1_000, Unit.USD: 5.0})
    await spend(world, claim, 400, 0.75)
    assert await used(world, "ag_a", Unit.TOKENS) == 400
    assert await used(world, "ag_a", Unit.USD) == 0.75
    await world.finish(claim, used=usage(300, 0.25))
    assert await used(world, "ag_a", Unit.TOKENS) == 300
    assert await used(world, "ag_a", Unit.USD) == 0.25
    agent = await world.agent("ag_a")
    assert (agent.live_tokens, agent.live_cost_usd) == (0, 0.0)


async def test_a_run_that_tells_nothing_at_its_end_used_at_least_what_it_had_told(world: World) -> None:
    claim = await world.start("a", caps={Unit.TOKENS: 1_000})
    await spend(world, claim, 400, 0.75)
    await world.finish(claim, TurnStatus.FAILED, "process", used=NOTHING_USED)
    agent = await world.agent("ag_a")
    assert (agent.tokens, agent.cost_usd) == (400, 0.75)


async def test_a_paused_run_used_at_least_what_it_had_told(world: World) -> None:
    claim = await world.start("a", caps={Unit.TOKENS: 1_000})
    await spend(world, claim, 400, 0.75)
    await world.pause(claim, LONG_PAUSE, tokens=100, cost_usd=0.1)
    agent = await world.agent("ag_a")
    assert (agent.tokens, agent.cost_usd, agent.live_tokens) == (400, 0.75, 0)


@pytest.mark.requirement("turn:usage:unknown-stays-unknown")
async def test_an_unknown_cost_keeps_the_known_part_and_is_said_to_be_unknown(world: World) -> None:
    claim = await world.start("a", caps={Unit.USD: 5.0})
    await world.queue("ag_a")
    await world.finish(claim, used=usage(10, 0.5))
    claim = (await world.admit())["ag_a"]
    await spend(world, claim, 10, 0.25)
    await world.finish(claim, used=usage(10, None))
    agent, turns = await world.agent("ag_a"), await world.turns("ag_a")
    assert (agent.cost_usd, agent.cost_unknown) == (0.75, True)
    assert [turn.cost_unknown for turn in turns] == [False, True]


async def test_an_agent_that_is_deleted_at_work_leaves_what_it_had_used(world: World) -> None:
    claim = await world.start("a")
    await spend(world, claim, 400, 0.75)
    world.now += 20
    await world.delete("ag_a")
    agent = await world.agent("ag_a")
    assert (agent.tokens, agent.cost_usd, agent.live_tokens, agent.worked_seconds) == (400, 0.75, 0, 20)
    assert agent.cost_unknown
    assert agent.running_since is None


async def test_a_daemons_death_costs_no_time_after_the_last_sign_of_life(world: World) -> None:
    claim = await world.start("a", caps={Unit.SECONDS: 900})
    world.now += 40
    await spend(world, claim, 1)
    await world.write(append, claim, [Fact(kind=EventKind.PROGRESS, at=world.now, body={})])
    world.now += 5_000
    await world.take_over()
    assert await used(world, "ag_a", Unit.SECONDS) == 40


# whose use counts against whose cap


async def test_a_cap_of_an_agent_counts_its_childrens_use_and_what_is_reserved_for_them(world: World) -> None:
    lead = await world.start("lead", caps={Unit.TOKENS: 1_000})
    plain = await world.create("plain", parent=lead)
    capped = await world.create("capped", parent=lead, caps={Unit.TOKENS: 300})
    assert await used(world, "ag_lead", Unit.TOKENS) == 300
    claims = await world.admit()
    await spend(world, claims[plain], 50)
    await spend(world, claims[capped], 120)
    assert await used(world, "ag_lead", Unit.TOKENS) == 350
    await world.finish(claims[capped], used=usage(120))
    assert await used(world, "ag_lead", Unit.TOKENS) == 170


async def test_what_is_reserved_for_a_child_is_not_taken_from_the_child(world: World) -> None:
    lead = await world.start("lead", caps={Unit.TOKENS: 1_000})
    child = await world.create("child", parent=lead, caps={Unit.TOKENS: 300})
    rooms = await world.headroom(child)
    assert (rooms[child, Unit.TOKENS].used, rooms["ag_lead", Unit.TOKENS].used) == (0, 0)


async def test_a_cap_of_a_subtree_counts_use_alone(world: World) -> None:
    lead = await world.start("lead", caps={Unit.TOKENS: 1_000}, scope=Scope.SUBTREE)
    child = await world.create("child", parent=lead, caps={Unit.TOKENS: 300})
    claim = (await world.admit())[child]
    assert await used(world, "ag_lead", Unit.TOKENS) == 0
    await spend(world, claim, 120)
    assert await used(world, "ag_lead", Unit.TOKENS) == 120


async def test_a_child_gets_no_more_than_its_ancestors_have_left(world: World) -> None:
    lead = await world.start("lead", caps={Unit.TOKENS: 1_000})
    await spend(world, lead, 200)
    await world.create("first", parent=lead, caps={Unit.TOKENS: 500})
    before = await world.count("agent", "turn", "event")
    with pytest.raises(RefusedError, match="a child cannot have 301 tokens") as refused:
        await world.create("second", parent=lead, caps={Unit.TOKENS: 301})
    assert "at most 300" in str(refused.value.hint)
    assert await world.count("agent", "turn", "event") == before
    assert (await world.agent("ag_lead")).children == 1
    await world.create("second", parent=lead, caps={Unit.TOKENS: 300})


async def test_what_was_reserved_for_a_child_is_free_at_its_end(world: World) -> None:
    lead = await world.start("lead", caps={Unit.TOKENS: 1_000})
    first = await world.create("first", parent=lead, caps={Unit.TOKENS: 900})
    with pytest.raises(RefusedError):
        await world.create("second", parent=lead, caps={Unit.TOKENS: 500})
    await world.finish((await world.admit())[first], used=usage(10))
    await world.create("second", parent=lead, caps={Unit.TOKENS: 500})


async def test_a_childs_cap_cannot_be_raised_beyond_what_its_parent_has_left(world: World) -> None:
    lead = await world.start("lead", caps={Unit.TOKENS: 1_000})
    child = await world.create("child", parent=lead, caps={Unit.TOKENS: 400})
    await world.create("sibling", parent=lead, caps={Unit.TOKENS: 500})
    with pytest.raises(RefusedError, match="a child cannot have 501 tokens"):
        await raise_caps(world, child, tokens=501)
    await raise_caps(world, child, tokens=500)
    assert (await world.headroom(child))[child, Unit.TOKENS].cap == 500


async def test_the_fleets_cap_counts_everyone_deleted_agents_too(world: World) -> None:
    await world.finish(await world.start("gone"), used=usage(100))
    await world.delete("ag_gone")
    await world.finish(await world.start("done"), used=usage(20))
    claim = await world.start("busy")
    await spend(world, claim, 3)
    await set_caps(world, FLEET, Scope.FLEET, tokens=1_000)
    assert await used(world, "ag_busy", Unit.TOKENS, FLEET) == 123


# setting caps


async def test_a_cap_that_is_set_again_takes_the_place_of_the_first_and_leaves_other_units(world: World) -> None:
    await world.create("a", caps={Unit.TOKENS: 10, Unit.TURNS: 3})
    await set_caps(world, "ag_a", Scope.AGENT, tokens=50)
    assert {unit: room.cap for (_, unit), room in (await world.headroom("ag_a")).items()} == {
        Unit.TOKENS: 50,
        Unit.TURNS: 3,
    }


async def fleet_caps(world: World, **caps: float | None) -> dict[str, float]:
    """Start a daemon with these settings; the fleet's caps."""
    await world.write(budgets.take_settings, {Unit(unit): cap for unit, cap in caps.items()})
    return {row.unit: row.cap for row in await world.rows(select(BUDGET).where(BUDGET.c.subject == FLEET))}


async def test_a_setting_becomes_the_fleets_cap_and_one_that_is_not_given_changes_nothing(world: World) -> None:
    assert await fleet_caps(world, usd=5.0, tokens=None) == {"usd": 5.0}
    assert await fleet_caps(world, usd=None, tokens=9) == {"usd": 5.0, "tokens": 9.0}


async def test_a_cap_by_command_outlives_a_restart_with_the_same_setting_but_not_a_new_setting(world: World) -> None:
    await fleet_caps(world, usd=5.0)
    await raise_caps(world, FLEET, Scope.FLEET, usd=8.0)
    assert await fleet_caps(world, usd=5.0) == {"usd": 8.0}
    assert await fleet_caps(world, usd=6.0) == {"usd": 6.0}


async def test_caps_of_an_agent_that_does_not_exist_cannot_be_raised(world: World) -> None:
    with pytest.raises(NotFoundError):
        await raise_caps(world, "ag_nobody", tokens=1)
    assert await world.count("budget") == [0]


# going on


async def at_its_cap(world: World, name: str, **caps: float) -> str:
    """An agent that waits for budget in the middle of its turn."""
    claim = await world.start(name, caps={Unit(unit): cap for unit, cap in caps.items()})
    await spend(world, claim, 100)
    (room,) = (await world.headroom(claim.agent_id)).values()
    await world.pause(claim, room.wait(claim.agent_id), tokens=100)
    return claim.agent_id


@pytest.mark.requirement("budget:cap:resumes-after-top-up")
async def test_an_agent_goes_on_where_it_paused_once_its_cap_is_raised(world: World) -> None:
    agent_id = await at_its_cap(world, "a", tokens=100)
    assert await raise_caps(world, agent_id, tokens=100) == []
    assert await raise_caps(world, agent_id, tokens=101) == ["a"]
    claim = (await world.admit())[agent_id]
    assert (claim.turn, claim.was_suspended, claim.prompt_received, claim.resumes, claim.overloads) == (
        1,
        True,
        True,
        1,
        0,
    )
    assert not claim.continues


async def test_a_raise_lets_no_stranger_go_on(world: World) -> None:
    first = await at_its_cap(world, "first", tokens=100)
    await at_its_cap(world, "second", tokens=100)
    assert await raise_caps(world, first, tokens=500) == ["first"]
    assert await world.waits_for("ag_second") is WaitKind.BUDGET


async def test_a_raise_of_the_fleets_cap_lets_all_go_on_who_have_room(world: World) -> None:
    await set_caps(world, FLEET, Scope.FLEET, tokens=150)
    for name in ("first", "second"):
        claim = await world.start(name)
        await spend(world, claim, 100)
        await world.pause(claim, Wait(kind=WaitKind.BUDGET, on="the fleet", detail="150 of 150"), tokens=100)
    assert await raise_caps(world, FLEET, Scope.FLEET, tokens=200) == []
    assert sorted(await raise_caps(world, FLEET, Scope.FLEET, tokens=201)) == ["first", "second"]


async def test_a_turn_that_has_begun_needs_no_room_for_another_turn(world: World) -> None:
    claim = await world.start("a", caps={Unit.TURNS: 1, Unit.TOKENS: 100})
    await world.pause(claim, Wait(kind=WaitKind.BUDGET, detail="100 tokens of 100 tokens"), tokens=100)
    assert await raise_caps(world, "ag_a", tokens=200) == ["a"]
    assert names(await world.admit()) == ["a"]


async def test_a_turn_that_has_not_begun_needs_room_for_a_whole_turn(world: World) -> None:
    claim = await world.start("a", caps={Unit.TURNS: 1})
    await world.queue("ag_a")
    await world.finish(claim)
    await world.admit()
    assert await raise_caps(world, "ag_a", turns=1) == []
    assert await raise_caps(world, "ag_a", turns=2) == ["a"]


async def test_what_a_child_gives_back_at_its_end_lets_its_parent_go_on(world: World) -> None:
    lead = await world.start("lead", caps={Unit.TOKENS: 400})
    child = await world.create("child", parent=lead, caps={Unit.TOKENS: 300})
    claim = (await world.admit())[child]
    await world.pause(lead, Wait(kind=WaitKind.BUDGET, detail="400 tokens of 400 tokens"), tokens=100)
    await world.finish(claim, used=usage(10))
    assert await world.status("ag_lead") == "queued"


async def test_a_truth_below_the_estimate_lets_others_go_on(world: World) -> None:
    await set_caps(world, FLEET, Scope.FLEET, tokens=500)
    first, second = await world.start("first"), await world.start("second")
    await spend(world, first, 450)
    await world.pause(second, Wait(kind=WaitKind.BUDGET, on="the fleet", detail="500 of 500"), tokens=50)
    assert await world.status("ag_second") == "waiting"
    await world.finish(first, used=usage(300))
    assert await world.status("ag_second") == "queued"


async def test_no_cap_in_dollars_lets_an_agent_go_on_whose_model_has_no_known_price(world: World) -> None:
    claim = await world.start("a", caps={Unit.USD: 1.0})
    await world.pause(claim, UNPRICED)
    assert await raise_caps(world, "ag_a", usd=1e9) == []
    assert await world.status("ag_a") == "waiting"


# sums


class Ledger:
    """Agents that work, pause, die and end in any order, and what was told of it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.claims: dict[str, Claim] = {}

    async def begin(self) -> None:
        """One more agent, a child of the last one that works if there is any."""
        parent = next(reversed(self.claims.values()), None)
        deep = parent is not None and parent.agent_id.count("child") >= 4
        await self.world.create(f"a{next(self.world.numbers)}", parent=None if deep else parent)

    async def end(self, what: str, pick: int, used: RunUsage) -> None:
        """Let one run come to an end, or tell what it has used so far."""
        if not self.claims:
            return
        claim = list(self.claims.values())[pick % len(self.claims)]
        if what == "spend":
            await spend(self.world, claim, used.tokens.input_tokens, used.cost_usd or 0.0)
            return
        del self.claims[claim.agent_id]
        if what == "finish":
            await self.world.finish(claim, used=used)
        elif what == "pause":
            await self.world.pause(
                claim, LONG_PAUSE, tokens=used.tokens.input_tokens, cost_usd=used.cost_usd, model_calls=2
            )
        elif what == "lose":
            await self.world.lose(claim, max_resumes=9, tokens=used.tokens.input_tokens, cost_usd=used.cost_usd)
        elif what == "delete":
            await self.world.delete(claim.agent_id)

    async def check(self) -> None:
        """Every sum is the sum of what it is made of."""
        turns = await self.world.rows(select(TURN))
        agents = await self.world.rows(select(AGENT).where(AGENT.c.deleted_at.is_(None)))
        for agent in agents:
            mine = [turn for turn in turns if turn.agent_id == agent.id]
            told = sum(
                turn.input_tokens + turn.output_tokens + turn.cache_read_tokens + turn.cache_write_tokens
                for turn in mine
            )
            assert agent.tokens == told
            assert agent.begun_turns == sum(turn.started_at is not None for turn in mine)
            assert agent.cost_usd >= sum(turn.cost_usd for turn in mine) - 1e-9
            if not agent.cost_unknown:
                assert agent.cost_usd == pytest.approx(sum(turn.cost_usd for turn in mine))
        found = await self.world.store.read(lambda connection: totals.by_status(connection, None))
        assert sum(one.agents for one in found) == len(agents)
        assert sum(one.tokens for one in found) == sum(agent.tokens + agent.live_tokens for agent in agents)
        rooms = (await self.world.headroom(agents[0].id)) if agents else {}
        if rooms:
            everyone = await self.world.rows(select(AGENT))
            assert rooms[FLEET, Unit.TOKENS].used == sum(one.tokens + one.live_tokens for one in everyone)
            assert rooms[FLEET, Unit.TURNS].used == sum(one.begun_turns for one in everyone)


USED = st.builds(usage, st.integers(0, 1_000), st.none() | st.sampled_from([0.0, 0.25, 1.5]))
STEPS = st.tuples(
    st.sampled_from(["begin", "spend", "finish", "pause", "lose", "delete", "more", "clock"]), st.integers(0, 9), USED
)


@pytest.mark.requirement("turn:usage:cost-counted-once")
@given(steps=st.lists(STEPS, min_size=5, max_size=30))
@settings(max_examples=40, deadline=None)
def test_the_use_of_an_agent_is_the_sum_of_its_turns_and_the_fleets_that_of_all(
    steps: list[tuple[str, int, RunUsage]],
) -> None:
    async def run(path: Path) -> None:
        async with open_world(path) as world:
            ledger = Ledger(world)
            await set_caps(world, FLEET, Scope.FLEET, tokens=1e9, turns=1e9)
            for what, pick, told in steps:
                world.now += 1
                if what == "begin":
                    await ledger.begin()
                elif what == "more":
                    for agent_id in list(ledger.claims)[:1]:
                        await world.queue(agent_id)
                elif what == "clock":
                    world.now += 2_000
                    await world.wake()
                else:
                    await ledger.end(what, pick, told)
                ledger.claims |= await world.admit()
                await ledger.check()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder) / "fleet.db"))
