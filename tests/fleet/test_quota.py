"""Quotas and overloads: agents of a refused account are suspended, then resume one after the other; no turn is lost."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.domain.event import Ended, Retrying, SessionOutcome
from orchestrator.fleet.execution.pause import RESUME_PROMPT
from orchestrator.store.waits.pauses import ENDLESS_TRIES, FIRST_BACK_OFF_SECONDS, STAGGER_SECONDS
from tests.fleet.scripted import USED, Lab, ScriptedProvider, eventually, open_lab

pytestmark = pytest.mark.anyio
NOON = 1_800_000_000.0


@dataclass
class Clock:
    """A clock that goes on only when it is told to."""

    now: float = NOON

    def __call__(self) -> float:
        return self.now


@dataclass
class Timed:
    """A fleet, and its clock."""

    lab: Lab
    clock: Clock

    def pass_by(self, seconds: float) -> None:
        """Let time pass, and everybody look at the clock."""
        self.clock.now += seconds
        self.lab.context.work.notifier.publish()

    async def due(self, name: str) -> float:
        """Seconds until the agent goes on by itself."""
        agent = await self.lab.context.find(self.lab.caller, name)
        assert agent.wait_until is not None
        return agent.wait_until - self.clock.now


@pytest.fixture
async def timed(tmp_path: Path) -> AsyncGenerator[Timed]:
    clock = Clock()
    async with open_lab(tmp_path, clock=clock, FLEET_TURN_RETRIES=2) as lab:
        yield Timed(lab, clock)
        assert lab.provider.violations == []


def refuse(lab: Lab, name: str, resets_at: float | None = None, reason: str = "quota") -> None:
    lab.play(name, Retrying(attempt=1, max_attempts=1, status=429, error="slow down"))
    detail = f"HTTP 429 of {name}"
    lab.play(
        name,
        Ended(
            outcome=SessionOutcome.FAILED, reason=reason, detail=detail, usage=USED, cost_usd=0.0, resets_at=resets_at
        ),
    )


async def looks(lab: Lab, condition: Callable[[], bool]) -> None:
    async def true() -> bool:
        return condition()

    await eventually(true)


@pytest.mark.requirement(
    "quota:breaker:one-error-suspends-account", "quota:breaker:staggered-resume", "error:model-api:429"
)
async def test_one_refused_quota_suspends_everybody_of_the_account_and_all_resume_staggered_when_it_is_back(
    timed: Timed,
) -> None:
    lab = timed.lab
    await lab.create("a")
    refuse(lab, "a", resets_at=NOON + 3600)
    view = await lab.becomes("a", "waiting", "quota until ")
    for name in ("b", "c"):
        await lab.create(name)
        assert (await lab.becomes(name, "waiting", "quota until ")).reason == view.reason
    assert lab.provider.opening == ["a"]
    dues = [await timed.due(name) for name in ("a", "b", "c")]
    assert dues == [3600, 3600 + STAGGER_SECONDS, 3600 + 2 * STAGGER_SECONDS]
    assert (await lab.fleet.busy())["waiting"] == 3

    for name in ("a", "b", "c"):
        lab.finish(name)
    timed.pass_by(3600)
    await lab.becomes("a", "complete")
    assert (await lab.view("b")).status == "waiting"
    timed.pass_by(STAGGER_SECONDS)
    await lab.becomes("b", "complete")
    timed.pass_by(STAGGER_SECONDS)
    await lab.becomes("c", "complete")
    assert lab.provider.prompts == {"a": ["look", RESUME_PROMPT], "b": ["look"], "c": ["look"]}
    assert [turn.status for turn in await lab.turns("a")] == ["complete"]


async def test_a_suspended_agent_wakes_nobody_and_an_orchestrator_sleeps_on(timed: Timed) -> None:
    lab = timed.lab
    await lab.create("a")
    refuse(lab, "a")
    await lab.becomes("a", "waiting", "quota until ")
    digest = await lab.fleet.wait(lab.call(), timeout_seconds=0.05)
    assert digest.timed_out
    assert digest.needs == ()


async def test_an_unknown_reset_backs_off_longer_each_time_and_a_success_begins_anew(timed: Timed) -> None:
    lab = timed.lab
    await lab.create("a")
    for times in range(3):
        refuse(lab, "a")
        await looks(lab, lambda times=times: len(lab.provider.sessions) == times + 1)
        await lab.becomes("a", "waiting", "quota until ")
        due = await timed.due("a")
        assert due == FIRST_BACK_OFF_SECONDS * 2**times
        timed.pass_by(due)
        await looks(lab, lambda times=times: len(lab.provider.sessions) == times + 2)
    lab.finish("a")
    await lab.becomes("a", "complete")
    await lab.create("b")
    refuse(lab, "b")
    await lab.becomes("b", "waiting", "quota until ")
    assert await timed.due("b") == FIRST_BACK_OFF_SECONDS


@pytest.mark.requirement("quota:breaker:staggered-resume")
async def test_a_used_up_credit_wakes_who_waits_and_is_tried_again_all_the_same(timed: Timed) -> None:
    lab = timed.lab
    await lab.create("a")
    refuse(lab, "a", reason="credit")
    await lab.becomes("a", "waiting", "refused; next try ")
    digest = await lab.wait("a")
    assert digest.needs == ("a",)
    assert "out of credit" in digest.text
    await lab.create("b")
    await lab.becomes("b", "waiting", "refused; next try ")
    assert (await lab.wait("b")).needs == ("b",)
    assert "behind its open turn (refused; " in (await lab.fleet.command(lab.call(), "a", "and this")).happened
    for _ in range(2):
        lab.finish("a")
    lab.finish("b")
    timed.pass_by(await timed.due("b"))
    await lab.becomes("a", "complete")
    await lab.becomes("b", "complete")
    assert lab.provider.prompts["a"] == ["look", RESUME_PROMPT, "and this"]


@pytest.mark.requirement("quota:breaker:staggered-resume")
async def test_refusals_in_a_row_that_tell_no_time_wake_who_waits_and_those_that_tell_one_do_not(timed: Timed) -> None:
    lab = timed.lab
    await lab.create("a")
    for times in range(1, 2 * ENDLESS_TRIES - 1):
        refuse(lab, "a", resets_at=timed.clock.now + 60 if times < ENDLESS_TRIES else None)
        await looks(lab, lambda times=times: len(lab.provider.sessions) == times)
        await lab.becomes("a", "waiting", "quota until ")
        timed.pass_by(await timed.due("a"))
        await looks(lab, lambda times=times: len(lab.provider.sessions) == times + 1)
    refuse(lab, "a")
    await lab.becomes("a", "waiting", "refused; next try ")
    assert (await lab.wait("a")).needs == ("a",)


async def test_another_account_is_not_suspended(tmp_path: Path) -> None:
    provider = ScriptedProvider()
    async with open_lab(tmp_path, provider=provider, account={"ANTHROPIC_API_KEY": "sk-ant-one"}) as lab:
        await lab.create("a")
        refuse(lab, "a")
        await lab.becomes("a", "waiting", "quota until ")
        lab.caller = type(lab.caller)(
            project=lab.caller.project,
            orchestrator="boss",
            cwd=lab.caller.cwd,
            account={"ANTHROPIC_API_KEY": "sk-ant-two"},
            environment=lab.caller.environment,
        )
        await lab.create("b")
        lab.finish("b")
        await lab.becomes("b", "complete")


async def test_a_suspended_agent_survives_the_daemon_and_resumes_at_its_time(tmp_path: Path) -> None:
    provider, clock = ScriptedProvider(), Clock()
    async with open_lab(tmp_path, provider=provider, clock=clock) as lab:
        await lab.create("a")
        refuse(lab, "a", resets_at=NOON + 600)
        await lab.becomes("a", "waiting", "quota until ")
    clock.now += 300
    async with open_lab(tmp_path, provider=provider, clock=clock) as lab:
        assert (await lab.view("a")).status == "waiting"
        lab.finish("a")
        Timed(lab, clock).pass_by(300)
        await lab.becomes("a", "complete")
        assert provider.prompts["a"] == ["look", RESUME_PROMPT]


@pytest.mark.requirement("quota:retry:jitter-and-401")
async def test_an_overloaded_model_repeats_the_turn_with_growing_jitter_and_then_fails(timed: Timed) -> None:
    lab = timed.lab
    await lab.create("a")
    for times in (1, 2):
        refuse(lab, "a", reason="overloaded")
        await lab.becomes("a", "waiting", f"retrying {times}/2")
        due = await timed.due("a")
        assert 2.5 * 2 ** (times - 1) <= due <= 5 * 2 ** (times - 1)
        timed.pass_by(due)
    refuse(lab, "a", reason="overloaded")
    await lab.becomes("a", "failed", "overloaded")
    assert lab.provider.prompts["a"] == ["look", RESUME_PROMPT, RESUME_PROMPT]
    assert [turn.status for turn in await lab.turns("a")] == ["failed"]


@pytest.mark.requirement("quota:retry:jitter-and-401")
async def test_a_refused_key_fails_at_once(timed: Timed) -> None:
    lab = timed.lab
    await lab.create("a")
    refuse(lab, "a", reason="auth")
    await lab.becomes("a", "failed", "auth")


async def test_a_command_for_a_suspended_agent_is_queued_behind_its_open_turn(timed: Timed) -> None:
    lab = timed.lab
    await lab.create("a")
    refuse(lab, "a")
    await lab.becomes("a", "waiting", "quota until ")
    receipt = await lab.fleet.command(lab.call(), "a", "and then this")
    assert "behind its open turn (quota until " in receipt.happened
    lab.finish("a")
    lab.finish("a")
    timed.pass_by(FIRST_BACK_OFF_SECONDS)
    await looks(lab, lambda: lab.provider.prompts["a"] == ["look", RESUME_PROMPT, "and then this"])
    await lab.becomes("a", "complete")


async def test_an_interrupted_suspended_turn_ends_and_is_not_woken(timed: Timed) -> None:
    lab = timed.lab
    await lab.create("a")
    refuse(lab, "a")
    await lab.becomes("a", "waiting", "quota until ")
    await lab.fleet.interrupt(lab.call(), "a")
    await lab.becomes("a", "interrupted")
    timed.pass_by(FIRST_BACK_OFF_SECONDS)
    assert (await lab.view("a")).status == "interrupted"


async def test_the_seconds_of_a_run_whose_session_died_are_told_by_the_fleets_own_clock(timed: Timed) -> None:
    lab = timed.lab
    await lab.create("a")
    await lab.becomes("a", "working")
    assert (await lab.context.find(lab.caller, "a")).created_at == NOON
    timed.clock.now += 40
    lab.play("a", Ended(outcome=SessionOutcome.FAILED, reason="process", detail="killed", usage=USED, cost_usd=0.0))
    await looks(lab, lambda: len(lab.provider.sessions) == 2)
    assert (await lab.context.find(lab.caller, "a")).worked_seconds == 40
