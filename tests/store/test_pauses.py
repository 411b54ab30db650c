"""Suspensions: a refused account holds back its agents, retries at growing intervals, reopens with one success."""

from __future__ import annotations

import pytest

from orchestrator.domain.turn import TurnStatus
from orchestrator.domain.wait import Wait, WaitKind, clock_time
from orchestrator.store.waits import pauses
from tests.store.world import HOUR, MINUTE, NOON, World, names

pytestmark = pytest.mark.anyio
AWAY = WaitKind.QUOTA


def overload(until: float) -> Wait:
    """A wait for the next attempt."""
    return Wait(kind=WaitKind.OVERLOAD, until=until, detail="1/5")


async def test_a_refusal_is_kept_until_the_moment_that_it_told(world: World) -> None:
    await world.refuse(await world.start("a"), resets_at=NOON + HOUR)
    row = (await world.breakers())["account-1"]
    assert (row.provider, row.until, row.tries, row.detail) == ("claude", NOON + HOUR, 0, "the limit is reached")
    assert await world.wait("ag_a") == Wait(
        kind=AWAY, until=NOON + HOUR, detail=clock_time(NOON + HOUR, NOON), blocked=False
    )


async def test_nobody_of_a_refused_account_starts_and_everyone_else_does(world: World) -> None:
    await world.refuse(await world.start("a"), resets_at=NOON + HOUR)
    await world.create("same")
    await world.create("other-account", account="account-2")
    await world.create("other-provider", provider="codex")
    assert sorted(names(await world.admit())) == ["other-account", "other-provider"]
    assert await world.waits_for("ag_same") is AWAY


async def test_those_who_wait_for_one_account_go_on_one_after_the_other(world: World) -> None:
    await world.refuse(await world.start("a0"), resets_at=NOON + HOUR)
    for number in range(1, 4):
        await world.create(f"a{number}")
        await world.admit()
    waits = [await world.wait(f"ag_a{number}") for number in range(4)]
    assert [wait and wait.until for wait in waits] == [
        NOON + HOUR + pauses.STAGGER_SECONDS * number for number in range(4)
    ]
    world.now = NOON + HOUR + pauses.STAGGER_SECONDS
    assert names(await world.wake()) == ["a0", "a1"]


async def test_nobody_goes_on_before_its_time(world: World) -> None:
    await world.refuse(await world.start("a"), resets_at=NOON + HOUR)
    world.now = NOON + HOUR - 1
    assert await world.wake() == []
    world.now += 1
    assert names(await world.wake()) == ["a"]
    assert names(await world.admit()) == ["a"]


async def test_several_who_hear_the_same_refusal_count_as_one(world: World) -> None:
    for name in ("a", "b", "c"):
        await world.create(name)
    for claim in (await world.admit()).values():
        await world.refuse(claim)
    assert (await world.breakers())["account-1"].tries == 1


async def test_a_later_end_that_is_told_extends_a_refusal_and_an_earlier_one_does_not(world: World) -> None:
    for name in ("a", "b", "c"):
        await world.create(name)
    claims = list((await world.admit()).values())
    await world.refuse(claims[0], resets_at=NOON + HOUR)
    await world.refuse(claims[1], resets_at=NOON + MINUTE)
    assert (await world.breakers())["account-1"].until == NOON + HOUR
    await world.refuse(claims[2], resets_at=NOON + 2 * HOUR)
    assert (await world.breakers())["account-1"].until == NOON + 2 * HOUR


async def refuse_again(world: World, times: int, *, ends: bool = True) -> list[float]:
    """Refuse the same agent so often, each time that it is tried; how long each of these pauses was."""
    claim = await world.start("a")
    lengths: list[float] = []
    for _ in range(times):
        await world.refuse(claim, ends=ends)
        until = (await world.breakers())["account-1"].until
        lengths.append(until - world.now)
        world.now = until
        await world.wake()
        claim = (await world.admit())["ag_a"]
    return lengths


async def test_a_refusal_without_an_end_is_tried_again_after_growing_times_up_to_an_hour(world: World) -> None:
    lengths = await refuse_again(world, 8)
    assert lengths[:4] == [60.0, 120.0, 240.0, 480.0]
    assert lengths[-2:] == [HOUR, HOUR]


async def test_after_a_few_refusals_without_an_end_a_person_is_needed(world: World) -> None:
    claim = await world.start("a")
    seen: list[bool] = []
    for _ in range(5):
        await world.refuse(claim)
        wait = await world.wait("ag_a")
        assert wait is not None
        seen.append(wait.blocked)
        world.now = wait.until or 0.0
        await world.wake()
        claim = (await world.admit())["ag_a"]
    assert seen == [False, False, False, True, True]


async def test_a_refusal_that_time_cannot_end_needs_a_person_at_once_and_is_tried_again_all_the_same(
    world: World,
) -> None:
    await world.refuse(await world.start("a"), ends=False)
    wait = await world.wait("ag_a")
    assert wait is not None
    assert wait.needs_action
    assert wait.until == NOON + MINUTE


async def test_one_success_opens_the_account_for_all_and_forgets_the_refusals(world: World) -> None:
    await refuse_again(world, 3)
    await world.create("b")
    claims = await world.admit()
    await world.finish(claims["ag_b"])
    assert await world.breakers() == {}


async def test_a_failure_does_not_open_the_account(world: World) -> None:
    claim = await world.start("a")
    await world.create("b")
    other = (await world.admit())["ag_b"]
    await world.refuse(claim)
    await world.finish(other, TurnStatus.FAILED, "process")
    assert list(await world.breakers()) == ["account-1"]


async def test_a_success_of_another_account_opens_nothing(world: World) -> None:
    await world.refuse(await world.start("a"))
    await world.finish(await world.start("b", account="account-2"))
    assert list(await world.breakers()) == ["account-1"]


async def test_one_agent_tries_first_once_the_time_has_come(world: World) -> None:
    await world.refuse(await world.start("a"), resets_at=NOON + HOUR)
    await world.create("b")
    await world.admit()
    world.now = NOON + HOUR
    await world.wake()
    claims = await world.admit()
    assert names(claims) == ["a"]
    await world.refuse(claims["ag_a"], resets_at=NOON + 3 * HOUR)
    world.now += pauses.STAGGER_SECONDS
    assert names(await world.wake()) == ["b"]
    assert await world.admit() == {}
    assert await world.waits_for("ag_b") is AWAY


# one turn


async def test_a_paused_turn_is_taken_up_again_with_what_it_was(world: World) -> None:
    claim = await world.start("a")
    await world.pause(claim, overload(NOON + 10), prompt_received=False)
    turn = await world.turn(claim.turn_id)
    assert (turn.status, turn.suspended_for, turn.resumes, turn.overloads, turn.prompt_received) == (
        *("waiting", "overload", 1, 1),
        False,
    )
    world.now += 10
    await world.wake()
    again = (await world.admit())["ag_a"]
    assert (again.turn_id, again.was_suspended, again.prompt_received, again.resumes, again.overloads) == (
        *(claim.turn_id, True, False, 1),
        1,
    )
    turn = await world.turn(claim.turn_id)
    assert (turn.suspended_for, turn.attempts) == ("", 1)


async def test_what_a_session_has_shown_to_have_heard_stays_heard(world: World) -> None:
    claim = await world.start("a")
    for prompt_received in (True, False):
        await world.pause(claim, overload(NOON), prompt_received=prompt_received)
        await world.wake()
        claim = (await world.admit())["ag_a"]
        assert claim.prompt_received


async def test_every_pause_is_counted_and_only_overloads_as_overloads(world: World) -> None:
    claim = await world.start("a")
    for wait in (overload(NOON), overload(NOON), Wait(kind=WaitKind.QUOTA, until=NOON)):
        await world.pause(claim, wait)
        await world.wake()
        claim = (await world.admit())["ag_a"]
    assert (claim.resumes, claim.overloads) == (3, 2)


async def test_a_pause_and_its_end_are_told(world: World) -> None:
    await world.pause(await world.start("a"), overload(NOON + 10))
    world.now += 10
    await world.wake()
    waiting, resumed = (await world.events("ag_a"))[-2:]
    assert (waiting.kind, waiting.body["kind"], waiting.body["reason"]) == (
        *("turn.waiting", "overload"),
        "retrying 1/5",
    )
    assert "until" in waiting.body
    assert (resumed.kind, resumed.body["kind"]) == ("turn.resumed", "overload")
    assert "until" not in resumed.body


async def test_the_next_moment_is_the_earliest_of_those_that_wait_for_a_time(world: World) -> None:
    assert await world.next_wake() is None
    await world.pause(await world.start("late"), overload(NOON + 90))
    await world.pause(await world.start("soon"), overload(NOON + 30))
    await world.ask(await world.start("asks"), deadline_at=NOON + 1)
    assert await world.next_wake() == NOON + 30
