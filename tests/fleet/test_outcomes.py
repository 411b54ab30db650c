"""An outcome belongs to a turn: each ended turn is delivered once, in order, whatever its agent does next."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.domain.agent import NewAgent
from orchestrator.domain.durable_wait import DurableWait, WaitRequest
from orchestrator.domain.turn import DeliveryMode
from orchestrator.fleet.digest_views import Digest
from orchestrator.fleet.verbs import wait
from orchestrator.store.waits import durable_waits
from tests.fleet.scripted import Lab, ScriptedProvider, eventually, open_lab

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a wait gives calls of its own message to arrive."""
    monkeypatch.setattr(wait, "ARRIVAL_SECONDS", 0.2)


def told(digest: Digest) -> list[tuple[str, int, str]]:
    """The turns that a digest tells."""
    return [(one.name, one.turn, one.status) for one in digest.outcomes]


async def has_begun(lab: Lab, name: str, task: str) -> None:
    """Return once the agent's session has this task."""
    await eventually(lambda: asyncio.sleep(0, any(task in prompt for prompt in lab.provider.prompts[name])))


async def three_turns(lab: Lab) -> None:
    """Give an agent three tasks; the first is at work."""
    await lab.create("a", task="one")
    await has_begun(lab, "a", "one")
    await lab.fleet.command(lab.call(), "a", "two")
    await has_ended_turns(lab, 0)
    await lab.fleet.command(lab.call(), "a", "three")


async def has_ended_turns(lab: Lab, count: int) -> None:
    """Return once so many of the agent's turns have ended."""

    async def ended() -> bool:
        return sum(turn.ended_at is not None for turn in await lab.turns("a")) == count

    await eventually(ended)


@pytest.mark.requirement("wait:digest:every-turn-once", "guarantee:turns:none-vanishes")
async def test_every_ended_turn_is_told_with_its_own_status_text_cost_and_duration(lab: Lab) -> None:
    await three_turns(lab)
    lab.finish("a", "first words", cost_usd=0.10)
    lab.fail("a", "api", "the model said no")
    await has_ended_turns(lab, 2)
    lab.finish("a", "third words", cost_usd=0.30)
    await lab.becomes("a", "complete")
    digest = await lab.wait("a")
    assert told(digest) == [("a", 1, "complete"), ("a", 2, "failed"), ("a", 3, "complete")]
    assert [round(one.cost_usd or 0, 2) for one in digest.outcomes] == [0.10, 0.01, 0.30]
    assert all(one.elapsed_seconds is not None for one in digest.outcomes)
    assert digest.text.split("\n")[1:] == [
        "[a complete · turn 1 · $0.10]",
        "| first words",
        '[a failed (api: "the model said no") · turn 2 · $0.01]',
        "[a complete · turn 3 · $0.30]",
        "| third words",
    ]


@pytest.mark.requirement("wait:wake:earlier-turn")
async def test_until_any_wakes_at_the_first_ended_turn_though_its_agent_works_on(lab: Lab) -> None:
    await three_turns(lab)
    lab.finish("a", "first")
    digest = await lab.wait("a", until="any", key="k1")
    assert told(digest) == [("a", 1, "complete")]
    assert digest.working == ("a",)
    assert "\n[a complete · turn 1 · turn 2 " in digest.text


@pytest.mark.requirement("wait:wake:earlier-turn")
async def test_until_all_sleeps_over_complete_turns_and_wakes_at_a_failed_one_though_its_agent_works_on(
    lab: Lab,
) -> None:
    await three_turns(lab)
    task = asyncio.create_task(lab.wait("a"))
    lab.finish("a", "first")
    await has_begun(lab, "a", "two")
    assert not task.done()
    lab.fail("a")
    digest = await task
    assert told(digest) == [("a", 1, "complete"), ("a", 2, "failed")]
    assert digest.working == ("a",)


@pytest.mark.requirement("wait:digest:every-turn-once")
async def test_no_turn_is_told_twice(lab: Lab) -> None:
    await three_turns(lab)
    for number, name in ((1, "one"), (2, "two"), (3, "three")):
        await has_begun(lab, "a", name)
        lab.finish("a", name)
        digest = await lab.wait("a", until="any", key=f"k{number}")
        assert told(digest) == [("a", number, "complete")]
    again = await lab.wait("a", key="k4")
    assert told(again) == []
    assert "nothing new" in again.text


@pytest.mark.requirement("agent:status:unread-turns")
async def test_unread_turns_are_counted_wherever_they_are_shown(lab: Lab) -> None:
    await three_turns(lab)
    lab.finish("a")
    lab.finish("a")
    await has_ended_turns(lab, 2)
    assert (await lab.view("a")).unread == 2
    assert (await lab.fleet.status(lab.call())).unread == {"a": 2}
    assert "unread outcomes: a (2) ->" in await lab.fleet.catch_up(lab.call(orchestrator="successor"))


async def test_a_turn_that_was_commanded_to_give_way_is_not_told(lab: Lab) -> None:
    await lab.create("a", task="one")
    await lab.becomes("a", "working")
    await lab.fleet.command(lab.call(), "a", "instead", mode=DeliveryMode.INTERRUPT)
    await has_begun(lab, "a", "instead")
    lab.finish("a", "done instead")
    assert told(await lab.wait("a", until="any")) == [("a", 2, "complete")]


async def test_an_interrupted_turn_is_told_though_another_was_queued_behind_it(lab: Lab) -> None:
    await three_turns(lab)
    await lab.fleet.interrupt(lab.call(), "a")
    assert told(await lab.wait("a")) == [("a", 1, "interrupted")]


async def test_text_that_a_queued_agent_will_receive_is_told_while_a_later_turn_may_replace_it(lab: Lab) -> None:
    await lab.create("a", task="one")
    await has_begun(lab, "a", "one")
    await lab.fleet.command(lab.call(), "a", "two")
    await lab.create("plan", persona="planner", inputs=["a"])
    lab.finish("a", "first words")
    first = await lab.wait("a", until="any", key="k1")
    assert "| first words" in first.text
    lab.finish("a", "one line\nsecond words")
    await lab.becomes("plan", "working")
    second = await lab.wait("a", until="any", key="k2")
    assert "turn 2" in second.text
    assert "second words" not in second.text, "plan has received them"


@pytest.mark.requirement("wait:digest:every-turn-once")
async def test_a_call_that_is_sent_again_to_the_next_daemon_is_told_the_same_turns_and_later_ones_once(
    tmp_path: Path,
) -> None:
    provider = ScriptedProvider()
    async with open_lab(tmp_path, provider=provider) as lab:
        await three_turns(lab)
        lab.finish("a", "first")
        lab.fail("a")
        await has_begun(lab, "a", "three")
        assert told(await lab.wait("a", key="k1")) == [("a", 1, "complete"), ("a", 2, "failed")]
        await lab.die()
    async with open_lab(tmp_path, provider=provider) as lab:
        assert told(await lab.wait("a", key="k1")) == [("a", 1, "complete"), ("a", 2, "failed")]
        lab.finish("a", "third")
        assert told(await lab.wait("a", key="k2")) == [("a", 3, "complete")]
        await lab.fleet.status(lab.call("k3"))
        await lab.die()
    async with open_lab(tmp_path, provider=provider) as lab:
        assert told(await lab.wait("a", key="k4")) == []


async def test_a_task_wakes_for_an_earlier_turn_and_delivers_just_what_it_told(lab: Lab) -> None:
    await three_turns(lab)
    sleep = await lab.fleet.begin_durable_wait(lab.call("k1"), WaitRequest(until="any"), asks_person=True)
    assert isinstance(sleep, DurableWait)
    lab.finish("a", "first")

    async def is_over() -> bool:
        row = await lab.context.work.store.read(lambda connection: durable_waits.by_id(connection, sleep.id, 0.0))
        return row is not None and row.status == "completed"

    await eventually(is_over)
    lab.finish("a", "second")
    await has_ended_turns(lab, 2)
    assert "| first" in (await lab.fleet.durable_wait(lab.call("k2"), sleep.id)).result
    assert told(await lab.wait("a", until="any", key="k3")) == [("a", 2, "complete")]


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["command", "finish", "fail", "read", "resend", "look", "restart"]), st.sampled_from(["a", "b"])
    ),
    max_size=14,
)


@pytest.mark.requirement("wait:digest:every-turn-once")
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ACTIONS)
async def test_every_ended_turn_is_told_exactly_once_in_the_order_of_its_agents_turns(
    actions: list[tuple[str, str]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        await Story(Path(folder)).play(actions)


class Story:
    """A fleet that lives through any order of commands, ends, reads and restarts."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.provider = ScriptedProvider()
        self.read: dict[str, list[int]] = {"a": [], "b": []}
        self.offered: list[tuple[str, int]] = []
        """what the last call told: its orchestrator's next one confirms it, a daemon's end takes it back"""
        self.ended = {"a": 0, "b": 0}
        self.given = {"a": 1, "b": 1}
        self.calls = 0

    async def play(self, actions: list[tuple[str, str]]) -> None:
        """Carry the actions out, then read what is left."""
        pending, created = list(actions), False
        while pending or not created:
            async with open_lab(self.place, provider=self.provider) as lab:
                if not created:
                    for name in self.read:
                        await lab.fleet.create(lab.call(self.key()), NewAgent(name=name, task="t", persona="scout"))
                    created = True
                while pending:
                    action, name = pending.pop(0)
                    if action == "restart":
                        self.offered = []
                        break
                    await self.step(lab, action, name)
        self.offered = []
        async with open_lab(self.place, provider=self.provider) as lab:
            await self.look(lab, self.key())
            self.key()
            assert self.read == {name: list(range(1, count + 1)) for name, count in self.ended.items()}
            await lab.die()

    def key(self) -> str:
        """The key of another call, which confirms what the one before told."""
        for name, turn in self.offered:
            self.read[name].append(turn)
        self.offered = []
        self.calls += 1
        return f"k{self.calls}"

    async def step(self, lab: Lab, action: str, name: str) -> None:
        """Carry one action out."""
        match action:
            case "command" if self.given[name] == self.ended[name] or await self.works(lab, name):
                await lab.fleet.command(lab.call(self.key()), name, "more")
                self.given[name] = len(await lab.turns(name))
            case "finish" | "fail" if self.given[name] > self.ended[name]:
                await self.works(lab, name)
                lab.finish(name) if action == "finish" else lab.fail(name)
                self.ended[name] += 1
                await eventually(lambda: self.has_ended(lab, name))
            case "read":
                await self.look(lab, self.key())
            case "resend":
                key = self.key()
                before = await self.digest(lab, key)
                again = await self.digest(lab, key)
                assert told(again) == told(before)
                self.note(again)
            case "look":
                await lab.fleet.status(lab.call(self.key()))
            case _:
                pass

    async def works(self, lab: Lab, name: str) -> bool:
        """Whether the agent works, once it does."""
        await lab.becomes(name, "working")
        return True

    async def has_ended(self, lab: Lab, name: str) -> bool:
        """Whether the turns that were to end have ended."""
        return sum(turn.ended_at is not None for turn in await lab.turns(name)) == self.ended[name]

    async def digest(self, lab: Lab, key: str) -> Digest:
        """What a wait that does not sleep tells."""
        return await lab.fleet.wait(lab.call(key), agents=["a", "b"], until="any", timeout_seconds=0)

    async def look(self, lab: Lab, key: str) -> None:
        """Read what there is to read."""
        self.note(await self.digest(lab, key))

    def note(self, digest: Digest) -> None:
        """Remember what was told until the next call confirms it."""
        self.offered = [(one.name, one.turn) for one in digest.outcomes]
