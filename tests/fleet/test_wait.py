"""Waiting and waking: what ends a wait, what does not, and what the digest then says."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.domain.tool import CallContext
from orchestrator.domain.turn import DeliveryMode
from orchestrator.errors import ConflictError, InvalidError, NotFoundError
from orchestrator.fleet.verbs import wait
from tests.fleet.scripted import Lab, eventually

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a wait gives calls of its own message to arrive: tests of that say so themselves."""
    monkeypatch.setattr(wait, "ARRIVAL_SECONDS", 0.3)


async def sleeping(lab: Lab, *agents: str, until: str = "all", key: str | None = None) -> asyncio.Task[wait.Digest]:
    """A wait that has begun to sleep."""
    bells = len(lab.context.work.notifier._subscriptions)
    task = asyncio.create_task(lab.wait(*agents, until=until, key=key))
    await eventually(lambda: asyncio.sleep(0, len(lab.context.work.notifier._subscriptions) > bells))
    return task


@pytest.mark.requirement("wait:wake:event-or-period", "wait:call:one-bounded-wait")
async def test_until_all_sleeps_until_the_last_has_ended(lab: Lab) -> None:
    await lab.create("a")
    await lab.create("b")
    task = await sleeping(lab, "a", "b")
    lab.finish("a", "one")
    await lab.becomes("a", "complete")
    assert not task.done()
    lab.finish("b", "two")
    digest = await task
    assert [outcome.name for outcome in digest.outcomes] == ["a", "b"]
    assert not digest.timed_out
    assert digest.working == ()


@pytest.mark.requirement("wait:call:one-bounded-wait", "wait:wake:event-or-period")
async def test_until_any_wakes_at_the_first_end(lab: Lab) -> None:
    await lab.create("a")
    await lab.create("b")
    task = await sleeping(lab, "a", "b", until="any")
    lab.finish("b", "two")
    digest = await task
    assert [outcome.name for outcome in digest.outcomes] == ["b"]
    assert digest.working == ("a",)


@pytest.mark.requirement("wait:wake:event-or-period")
@pytest.mark.parametrize("until", ["all", "any"])
async def test_a_failure_wakes_whatever_until_says(lab: Lab, until: str) -> None:
    await lab.create("a")
    await lab.create("b")
    task = await sleeping(lab, "a", "b", until=until)
    lab.fail("a", "auth", "try at noon")
    digest = await task
    assert '[a failed (auth: "try at noon")' in digest.text


@pytest.mark.requirement("wait:wake:event-or-period")
@pytest.mark.parametrize("until", ["all", "any"])
async def test_a_question_wakes_whatever_until_says_with_the_call_that_answers_it(lab: Lab, until: str) -> None:
    await lab.create("a")
    await lab.create("b")
    task = await sleeping(lab, "a", "b", until=until)
    await lab.asks("a", "red or blue?", ("red", "blue"))
    digest = await task
    assert digest.needs == ("a",)
    assert 'NEEDS YOU a asks: "red or blue?" (options: 1 "red", 2 "blue") -> command_agent(agent="a"' in digest.text


async def test_a_wait_without_names_is_for_my_agents_only(lab: Lab) -> None:
    from orchestrator.domain.agent import NewAgent

    await lab.create("mine")
    await lab.fleet.create(lab.call(orchestrator="other"), NewAgent(name="theirs", task="t", persona="scout"))
    lab.finish("mine")
    digest = await lab.wait()
    assert [outcome.name for outcome in digest.outcomes] == ["mine"]


@pytest.mark.requirement("wait:digest:delivered-once")
async def test_a_delivered_outcome_does_not_wake_again(lab: Lab) -> None:
    await lab.create("a")
    await lab.create("b")
    lab.fail("a")
    assert [one.name for one in (await lab.wait("a", "b", key="k1")).outcomes] == ["a"]
    task = await sleeping(lab, "a", "b", key="k2")
    await lab.create("poke")
    assert not task.done()
    lab.finish("b")
    assert [one.name for one in (await task).outcomes] == ["b"]
    again = await lab.wait("a", "b", key="k3")
    assert again.outcomes == ()
    assert "nothing new" in again.text


async def test_a_wait_that_is_sent_again_gets_the_same_outcomes_again(lab: Lab) -> None:
    await lab.create("a")
    lab.finish("a", "the result")
    first = await lab.wait("a", key="k1")
    again = await lab.wait("a", key="k1")
    assert [one.text for one in first.outcomes] == [one.text for one in again.outcomes] == ["the result"]


async def test_an_outcome_that_nobody_took_is_unread_until_the_next_call(lab: Lab) -> None:
    await lab.create("a")
    lab.finish("a")
    await lab.wait("a", key="k1")
    assert (await lab.view("a")).unread
    fleet = await lab.fleet.status(lab.call("k2"))
    assert fleet.unread == {}


async def test_looking_as_somebody_else_delivers_nothing(lab: Lab) -> None:
    await lab.create("a")
    lab.finish("a")
    await lab.wait("a", key="k1")
    await lab.fleet.status(lab.call("k9", orchestrator="other"))
    assert (await lab.view("a")).unread


async def test_a_new_turn_has_a_new_outcome(lab: Lab) -> None:
    await lab.create("a")
    lab.finish("a", "one")
    await lab.wait("a", key="k1")
    await lab.fleet.command(lab.call("k2"), "a", "more")
    lab.finish("a", "two")
    digest = await lab.wait("a", key="k3")
    assert [one.text for one in digest.outcomes] == ["two"]
    assert "turn 2" in digest.text


@pytest.mark.requirement("wait:call:one-bounded-wait")
async def test_since_tells_what_ended_behind_the_cursor_whatever_was_delivered(lab: Lab) -> None:
    await lab.create("a")
    before = (await lab.fleet.status(lab.call())).cursor
    lab.finish("a")
    first = await lab.wait("a", key="k1")
    await lab.fleet.status(lab.call("k2"))
    assert [one.name for one in (await lab.wait("a", since=before)).outcomes] == ["a"]
    assert (await lab.wait("a", since=first.cursor)).outcomes == ()


@pytest.mark.requirement("wait:wake:event-or-period")
async def test_a_time_out_is_no_error_and_says_so(lab: Lab) -> None:
    await lab.create("a")
    digest = await lab.fleet.wait(lab.call(), agents=["a"], timeout_seconds=0.05)
    assert digest.timed_out
    assert "your time-out came first" in digest.text
    assert digest.working == ("a",)


@pytest.mark.parametrize("seconds", [0, 0.01])
async def test_a_time_out_shorter_than_the_grace_is_kept(
    lab: Lab, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait, "ARRIVAL_SECONDS", 600.0)
    async with asyncio.timeout(30):
        digest = await lab.fleet.wait(lab.call(), timeout_seconds=seconds)
    assert digest.timed_out or "no agents" in digest.text


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 10**9])
async def test_a_time_out_outside_its_range_is_refused(lab: Lab, seconds: float) -> None:
    with pytest.raises(InvalidError):
        await lab.fleet.wait(lab.call(), timeout_seconds=seconds)


async def test_an_unknown_until_is_refused(lab: Lab) -> None:
    with pytest.raises(InvalidError):
        await lab.wait(until="some")


async def test_a_wait_may_overtake_the_creates_of_its_own_message(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "ARRIVAL_SECONDS", 60.0)
    task = await sleeping(lab, "a", "b")
    await lab.create("a")
    await lab.create("b")
    lab.finish("a")
    await lab.becomes("a", "complete")  # outcomes are told in the order of their ends
    lab.finish("b")
    assert [one.name for one in (await task).outcomes] == ["a", "b"]


async def test_a_wait_may_overtake_the_command_of_its_own_message(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "ARRIVAL_SECONDS", 60.0)
    await lab.create("a")
    lab.finish("a", "one")
    await lab.wait("a", key="k1")
    task = await sleeping(lab, "a", key="k2")
    await lab.fleet.command(lab.call("k3"), "a", "more")
    lab.finish("a", "two")
    assert [one.text for one in (await task).outcomes] == ["two"]


async def test_a_wait_for_nobody_ends_with_an_error_that_says_who_there_is(lab: Lab) -> None:
    await lab.create("a")
    with pytest.raises(NotFoundError) as error:
        await lab.wait("nobody")
    assert "agents here: a" in error.value.hint


async def test_a_wait_for_an_agent_that_is_deleted_meanwhile_ends(lab: Lab) -> None:
    await lab.create("a")
    task = await sleeping(lab, "a")
    await lab.fleet.delete(lab.call(orchestrator="other"), ["a"])
    with pytest.raises(ConflictError) as error:
        await task
    assert "is deleted" in error.value.message


async def test_results_that_are_handed_on_are_not_repeated(lab: Lab) -> None:
    await lab.create("scout")
    await lab.create("plan", persona="planner", inputs=["scout"])
    lab.finish("scout", "# Places\n\nThere are two.\n\n- secret places\n")
    lab.finish("plan", "the plan")
    digest = await lab.wait("scout", "plan")
    assert "| There are two." in digest.text
    assert "secret places" not in digest.text
    assert "| the plan" in digest.text


async def test_a_later_turn_of_an_input_is_told_as_nobody_else_gets_it(lab: Lab) -> None:
    await lab.create("review")
    lab.finish("review", "changes needed")
    await lab.create("build", inputs=["review"])
    lab.finish("build")
    await lab.wait("review", "build", key="k1")
    await lab.fleet.command(lab.call("k2"), "review", "check again")
    lab.finish("review", "all is well")
    digest = await lab.wait("review", key="k3")
    assert "| all is well" in digest.text


@pytest.mark.requirement("turn:usage:unknown-stays-unknown")
async def test_unknown_cost_is_said_to_be_unknown(lab: Lab) -> None:
    await lab.create("a")
    lab.finish("a", cost_usd=None)
    digest = await lab.wait("a")
    assert "[a complete · cost unknown" in digest.text
    assert "$0.00" not in digest.text
    totals = (await lab.fleet.status(lab.call())).totals
    assert totals.cost_usd is None


async def test_one_unknown_cost_makes_the_sum_a_lower_bound(lab: Lab) -> None:
    await lab.create("a")
    await lab.create("b")
    lab.finish("a", cost_usd=0.5)
    lab.finish("b", cost_usd=None)
    digest = await lab.wait("a", "b")
    assert "your agents at least $0.50" in digest.text


@pytest.mark.requirement("mcp:wait:sends-progress")
async def test_a_long_wait_reports_progress(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "PROGRESS_SECONDS", 0.01)
    monkeypatch.setattr(wait, "REREAD_SECONDS", 0.01)
    told: list[str] = []
    enough = asyncio.Event()

    async def progress(seconds: float, text: str) -> None:
        assert seconds >= 0
        told.append(text)
        if len(told) == 3:
            enough.set()

    await lab.create("a")
    call = CallContext(caller=lab.caller, progress=progress)
    task = asyncio.create_task(lab.fleet.wait(call, agents=["a"]))
    async with asyncio.timeout(30):
        await enough.wait()
    assert told[0] == "1 of 1 agents at work"
    lab.finish("a")
    await task


@pytest.mark.requirement("view:live:events-stream")
async def test_events_follow_as_they_are_recorded_without_gaps(lab: Lab) -> None:
    seen: list[tuple[int, str]] = []

    async def watch() -> None:
        async for event in lab.fleet.follow(lab.call(), since="0", agent=None):
            seen.append((event.seq, event.kind))
            if event.kind == "turn.complete":
                return

    await lab.create("a")
    task = asyncio.create_task(watch())
    lab.finish("a")
    async with asyncio.timeout(30):
        await task
    assert [seq for seq, _ in seen] == list(range(1, len(seen) + 1))
    assert [kind for _, kind in seen][:3] == ["agent.created", "turn.queued", "turn.started"]


async def test_a_turn_that_is_cancelled_before_it_began_is_not_told_with_the_result_of_the_one_before(lab: Lab) -> None:
    await lab.create("a")
    lab.finish("a", "first")
    assert "| first" in (await lab.wait("a")).text
    for number in range(4):
        await lab.create(f"w{number}")
    await lab.fleet.command(lab.call(), "a", "second")
    await lab.fleet.interrupt(lab.call(), "a")
    digest = await lab.wait("a")
    assert "[a interrupted (before it began) · turn 2 ·" in digest.text
    assert "first" not in digest.text
    assert (digest.outcomes[0].text, digest.outcomes[0].changes) == ("", None)


async def test_the_digest_numbers_the_turn_whose_result_it_tells_though_a_later_one_ran_before(lab: Lab) -> None:
    await lab.create("a")
    await lab.becomes("a", "working")
    await lab.fleet.command(lab.call(), "a", "in its order")
    await lab.fleet.command(lab.call(), "a", "at once", mode=DeliveryMode.INTERRUPT)
    for task in ("at once", "in its order"):

        async def has_it(task: str = task) -> bool:
            return any(task in prompt for prompt in lab.provider.prompts["a"])

        await eventually(has_it)
        lab.finish("a", f"done: {task}")
    digest = await lab.wait("a")
    assert "turn 2 ·" in digest.text
    assert "| done: in its order" in digest.text
    assert [(one.turn, one.is_latest) for one in digest.outcomes] == [(3, False), (2, True)]
