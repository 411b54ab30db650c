"""Durable waits, as the fleet's verbs show them."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.domain.durable_wait import DurableWait, Reply
from orchestrator.errors import InvalidError, NotFoundError
from orchestrator.fleet.digest_views import Digest
from orchestrator.fleet.verbs import durable_wait, wait
from orchestrator.fleet.verbs.durable_wait import WaitRequest
from tests.fleet.scripted import Lab, eventually, open_lab

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a wait gives calls of its own message to arrive."""
    monkeypatch.setattr(wait, "ARRIVAL_SECONDS", 0.2)


async def asleep(
    lab: Lab, wish: WaitRequest | None = None, *, key: str | None = None, asks_person: bool = True
) -> DurableWait:
    """A sleep that has begun."""
    found = await lab.fleet.begin_durable_wait(lab.call(key), wish or WaitRequest(), asks_person=asks_person)
    assert isinstance(found, DurableWait), found
    return found


async def ended(lab: Lab, sleep: DurableWait) -> DurableWait:
    """The sleep once it has ended."""
    now = sleep

    async def is_over() -> bool:
        nonlocal now
        now = await lab.fleet.durable_wait(lab.call(), sleep.id)
        return now.status in {"completed", "cancelled", "failed"}

    await eventually(is_over)
    return now


@pytest.mark.requirement("task:wait:durable")
async def test_a_sleep_ends_with_the_digest_once_all_agents_have_ended(lab: Lab) -> None:
    await lab.create("a")
    await lab.create("b")
    sleep = await asleep(lab)
    assert (sleep.status, sleep.message) == ("working", "2 of 2 agents at work")
    lab.finish("a", "found it")
    await lab.becomes("a", "complete")
    assert (await lab.fleet.durable_wait(lab.call(), sleep.id)).status == "working"
    lab.finish("b", "built it")
    over = await ended(lab, sleep)
    assert (over.status, over.is_error) == ("completed", False)
    assert "| found it" in over.result
    assert "| built it" in over.result


async def test_the_watch_stores_the_result_though_nobody_asks(lab: Lab) -> None:
    await lab.create("a")
    sleep = await asleep(lab)
    lab.finish("a", "while you were away")

    async def is_stored() -> bool:
        row = await lab.context.work.store.read(
            lambda connection: durable_wait.durable_waits.by_id(connection, sleep.id, 0.0)
        )
        return row is not None and "while you were away" in row.result

    await eventually(is_stored)


async def test_what_has_ended_already_is_told_at_once_and_needs_no_task(lab: Lab) -> None:
    await lab.create("a")
    lab.finish("a", "quick")
    await lab.becomes("a", "complete")
    found = await lab.fleet.begin_durable_wait(lab.call(), WaitRequest(), asks_person=True)
    assert isinstance(found, Digest)
    assert "| quick" in found.text


@pytest.mark.requirement("task:wait:durable")
async def test_the_same_idempotency_key_gives_the_same_sleep_also_after_its_end(lab: Lab) -> None:
    await lab.create("a")
    first = await asleep(lab, key="k")
    assert (await asleep(lab, key="k")).id == first.id
    lab.finish("a")
    await ended(lab, first)
    again = await asleep(lab, key="k")
    assert (again.id, again.status) == (first.id, "completed")
    assert first.id != (await asleep_again(lab)).id


async def asleep_again(lab: Lab) -> DurableWait:
    """Another sleep under another key."""
    await lab.create("other")
    return await asleep(lab, WaitRequest(agents=("other",)), key="k2")


async def test_the_result_counts_as_delivered_with_the_call_after_it_was_fetched(lab: Lab) -> None:
    await lab.create("a")
    sleep = await asleep(lab)
    lab.finish("a")
    await lab.becomes("a", "complete")
    await lab.fleet.status(lab.call())
    assert (await lab.view("a")).unread, "nobody has fetched the result yet"
    await ended(lab, sleep)
    assert (await lab.view("a")).unread, "fetched by the client, not yet known to have reached the model"
    await lab.fleet.status(lab.call())
    assert not (await lab.view("a")).unread


async def test_two_results_fetched_together_are_both_delivered_by_the_next_call(lab: Lab) -> None:
    await lab.create("a")
    await lab.create("b")
    sleeps = [await asleep(lab, WaitRequest(agents=(name,))) for name in ("a", "b")]
    for name, sleep in zip(("a", "b"), sleeps, strict=True):
        lab.finish(name)
        await ended(lab, sleep)
    await lab.fleet.status(lab.call())
    assert not any([(await lab.view(name)).unread for name in ("a", "b")])


async def test_the_time_out_of_a_sleep_ends_it_and_says_so(lab: Lab) -> None:
    await lab.create("a")
    over = await ended(lab, await asleep(lab, WaitRequest(timeout_seconds=0.2)))
    assert over.status == "completed"
    assert "your time-out came first" in over.result


@pytest.mark.requirement("task:input:terminal-form")
async def test_a_question_becomes_a_form_whose_reply_lets_the_agent_go_on(lab: Lab) -> None:
    await lab.create("a")
    sleep = await asleep(lab)
    await lab.asks("a", "which database?", ("sqlite", "postgres"))
    now = await lab.fleet.durable_wait(lab.call(), sleep.id)
    ((key, form),) = now.forms.items()
    assert now.status == "input_required"
    assert form.text == "a asks: which database?"
    assert form.schema["properties"]["answer"]["enum"] == ["sqlite", "postgres"]
    await lab.fleet.reply_to_forms(
        lab.call(), sleep.id, {"no-such-form": Reply(fields={}), key: Reply(fields={"answer": "sqlite"})}
    )
    await lab.fleet.reply_to_forms(lab.call(), sleep.id, {key: Reply(fields={"answer": "too late"})})
    await lab.becomes("a", "working")
    assert (await lab.fleet.durable_wait(lab.call(), sleep.id)).status == "working"
    lab.finish("a", "done with it")
    assert "| done with it" in (await ended(lab, sleep)).result
    assert lab.provider.answers["a"] == ["sqlite"]


async def test_a_reply_without_an_answer_is_refused_and_the_question_stands(lab: Lab) -> None:
    await lab.create("a")
    sleep = await asleep(lab)
    await lab.asks("a")
    (key,) = (await lab.fleet.durable_wait(lab.call(), sleep.id)).forms
    with pytest.raises(InvalidError, match="no text in 'answer'"):
        await lab.fleet.reply_to_forms(lab.call(), sleep.id, {key: Reply(fields={"answer": "  "})})
    assert (await lab.fleet.durable_wait(lab.call(), sleep.id)).status == "input_required"


async def test_a_person_who_declines_leaves_the_question_to_the_orchestrator(lab: Lab) -> None:
    await lab.create("a")
    sleep = await asleep(lab)
    await lab.asks("a", "which one?")
    (key,) = (await lab.fleet.durable_wait(lab.call(), sleep.id)).forms
    await lab.fleet.reply_to_forms(lab.call(), sleep.id, {key: Reply(fields=None)})
    assert 'NEEDS YOU a asks: "which one?"' in (await ended(lab, sleep)).result


async def test_without_a_person_to_ask_a_question_wakes_the_orchestrator(lab: Lab) -> None:
    await lab.create("a")
    sleep = await asleep(lab, asks_person=False)
    await lab.asks("a", "which one?")
    assert "NEEDS YOU a asks" in (await ended(lab, sleep)).result


async def test_the_digest_names_a_question_that_is_still_with_the_person(lab: Lab) -> None:
    await lab.create("a")
    await lab.create("b")
    sleep = await asleep(lab)
    await lab.asks("a", "which one?")
    lab.fail("b")
    over = await ended(lab, sleep)
    assert "[b failed" in over.result
    assert "NEEDS YOU a asks" in over.result


@pytest.mark.requirement("task:verbs:survive-restarts")
async def test_a_cancelled_sleep_ends_once_and_its_agents_work_on(lab: Lab) -> None:
    await lab.create("a")
    sleep = await asleep(lab)
    await lab.fleet.cancel_durable_wait(lab.call(), sleep.id)
    await lab.fleet.cancel_durable_wait(lab.call(), sleep.id)
    assert (await lab.fleet.durable_wait(lab.call(), sleep.id)).status == "cancelled"
    assert (await lab.view("a")).status == "working"


async def test_an_agent_that_is_deleted_meanwhile_ends_the_sleep_with_an_error(lab: Lab) -> None:
    await lab.create("a")
    sleep = await asleep(lab, WaitRequest(agents=("a",)))
    await lab.fleet.delete(lab.call(), ["a"])
    over = await ended(lab, sleep)
    assert over.is_error
    assert "is deleted" in over.result


@pytest.mark.requirement("task:verbs:survive-restarts")
async def test_only_its_own_orchestrator_may_see_a_sleep(lab: Lab) -> None:
    await lab.create("a")
    sleep = await asleep(lab)
    stranger = lab.call(orchestrator="stranger")
    with pytest.raises(NotFoundError, match="wait_for_agents again"):
        await lab.fleet.durable_wait(stranger, sleep.id)
    with pytest.raises(NotFoundError):
        await lab.fleet.cancel_durable_wait(stranger, sleep.id)
    with pytest.raises(NotFoundError):
        await lab.fleet.reply_to_forms(stranger, sleep.id, {})


async def test_a_sleep_over_its_time_is_forgotten(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable_wait, "TTL_SECONDS", 0.0)
    await lab.create("a")
    with pytest.raises(NotFoundError):
        await lab.fleet.begin_durable_wait(lab.call(), WaitRequest(), asks_person=True)


@pytest.mark.requirement("task:verbs:survive-restarts")
async def test_a_sleep_goes_on_under_the_next_daemon(tmp_path: Path) -> None:
    async with open_lab(tmp_path) as lab:
        await lab.create("a")
        sleep = await asleep(lab)
        await lab.asks("a", "which one?")
    async with open_lab(tmp_path) as lab:
        now = await lab.fleet.durable_wait(lab.call(), sleep.id)
        assert now.status == "input_required"
        (key,) = now.forms
        await lab.fleet.reply_to_forms(lab.call(), sleep.id, {key: Reply(fields={"answer": "this one"})})
        lab.finish("a", "after the restart")
        assert "| after the restart" in (await ended(lab, sleep)).result


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        (WaitRequest(agents=("nobody",)), NotFoundError),
        (WaitRequest(until="never"), InvalidError),
        (WaitRequest(timeout_seconds=-1), InvalidError),
        (WaitRequest(since="yesterday"), InvalidError),
    ],
)
async def test_a_wish_that_cannot_mean_anything_begins_no_sleep(
    lab: Lab, wish: WaitRequest, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await lab.fleet.begin_durable_wait(lab.call(), wish, asks_person=True)


@pytest.mark.requirement("session:adopt:by-name")
async def test_a_sleep_for_agents_of_an_ended_session_says_that_they_are_its_callers_now(lab: Lab) -> None:
    await lab.create("a")
    after = lab.call(orchestrator="after")
    sleep = await lab.fleet.begin_durable_wait(after, WaitRequest(agents=["a"]), asks_person=True)
    assert isinstance(sleep, DurableWait)
    assert sleep.message == "1 of 1 agents at work; yours now, as the session that created them has ended: a"
    lab.finish("a", "found")
    await lab.becomes("a", "complete")
    over = await lab.fleet.durable_wait(after, sleep.id)
    assert "| found" in over.result


@pytest.mark.requirement("session:adopt:by-name")
@pytest.mark.parametrize("agents", [(), ("a",)])
async def test_the_sleep_of_an_ended_session_ends_though_its_agents_are_anothers_now(
    lab: Lab, agents: tuple[str, ...]
) -> None:
    await lab.create("a")
    sleep = await asleep(lab, WaitRequest(agents=agents))
    await lab.fleet.command(lab.call(orchestrator="after"), "a", "more")
    if agents:
        lab.finish("a", "one")
        lab.finish("a", "two")

    async def is_stored() -> bool:
        row = await lab.context.work.store.read(
            lambda connection: durable_wait.durable_waits.by_id(connection, sleep.id, 0.0)
        )
        return row is not None and row.status == "completed"

    await eventually(is_stored)
