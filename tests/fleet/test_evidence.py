"""What is reported about a working agent: how long it was silent, what it did since, and whether it loops."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from orchestrator.domain.agent import NewAgent
from orchestrator.domain.event import Retrying, Said, Spent, Stalled, ToolEnded, ToolStarted
from orchestrator.server.mcp.text import status_lines
from tests.fleet.scripted import Lab, Report, eventually, open_lab

pytestmark = pytest.mark.anyio
NOON = 1_800_000_000.0


@dataclass
class Clock:
    """A clock that stands where the test puts it."""

    now: float = NOON

    def __call__(self) -> float:
        return self.now


@dataclass
class Timed:
    """A fleet and its clock."""

    lab: Lab
    clock: Clock

    async def line(self, name: str) -> str:
        """What an orchestrator reads about the agent that it names."""
        return status_lines(await self.lab.fleet.status(self.lab.call(orchestrator="w"), [name]), named=True).text


@pytest.fixture
async def timed(tmp_path: Path) -> AsyncGenerator[Timed]:
    clock = Clock()
    async with open_lab(tmp_path, clock=clock, FLEET_LOOP_CALLS=3, FLEET_STALL_SECONDS=90) as lab:
        yield Timed(lab, clock)


def bash(command: str, number: int = 0) -> ToolStarted:
    return ToolStarted(call_id=f"c{number}", tool="Bash", summary=command, input={"command": command})


async def told(lab: Lab, name: str) -> None:
    """Return once all that the agent was to do is done and written."""
    view = await lab.view(name)

    async def idle() -> bool:
        waits = any(one.listens and one.spec.agent_id == view.id for one in lab.provider.sessions)
        return waits and lab.provider.script(name).empty()

    await eventually(idle)
    live = lab.slot(view.id).live
    assert live is not None
    await live.recorder.flush()


async def kinds(lab: Lab, name: str) -> list[str]:
    return [event.kind for event in await lab.events(name)]


@pytest.mark.requirement("status:evidence:nothing-killed-on-suspicion", "status:progress:tokens-files-loops")
async def test_the_same_call_over_and_over_is_told_once_and_stops_nothing(timed: Timed) -> None:
    lab = timed.lab
    await lab.create("a")
    for number in range(5):
        lab.play(
            "a", bash("ls", number), ToolEnded(call_id=f"c{number}", tool="Bash", ok=True), Spent(tokens=10, cost_usd=0)
        )
    await told(lab, "a")
    view = await lab.view("a")
    assert view.reason == 'looping: "Bash ls"'
    assert view.evidence is not None
    assert view.evidence.same_calls == 5
    assert (await kinds(lab, "a")).count("agent.looping") == 1
    assert "same call 5 x" in await timed.line("a")
    digest = await lab.fleet.wait(lab.call(), agents=["a"], timeout_seconds=0)
    assert digest.timed_out
    assert 'a works (looping: "Bash ls", 0s): no progress line yet' in digest.text

    lab.play("a", Said(text="hm"), bash("pwd", 9))
    await told(lab, "a")
    assert (await lab.view("a")).reason == ""
    lab.finish("a")
    await lab.becomes("a", "complete")


async def test_other_inputs_of_the_same_tool_are_no_loop(timed: Timed) -> None:
    lab = timed.lab
    await lab.create("a")
    lab.play("a", *[bash(f"cat {number}", number) for number in range(6)])
    lab.finish("a")
    await lab.becomes("a", "complete")
    assert "agent.looping" not in await kinds(lab, "a")


@pytest.mark.requirement("status:evidence:nothing-killed-on-suspicion", "status:progress:tokens-files-loops")
async def test_tokens_and_files_count_from_the_last_line_of_progress(timed: Timed) -> None:
    lab, clock = timed.lab, timed.clock
    await lab.create("a")
    wrote = ToolEnded(call_id="c1", tool="Write", ok=True, produced=(str(lab.project / "one.py"),))
    lab.play("a", bash("x", 1), wrote, Spent(tokens=500, cost_usd=0))
    await told(lab, "a")
    clock.now += 10
    lab.play("a", Report("half way"))
    await told(lab, "a")
    clock.now += 250
    for path in ("two.py", "two.py", "one.py"):
        lab.play("a", ToolEnded(call_id="c2", tool="Write", ok=True, produced=(str(lab.project / path),)))
    lab.play("a", Spent(tokens=1700, cost_usd=0))
    await told(lab, "a")
    clock.now += 2
    found = (await lab.view("a")).evidence
    assert found is not None
    assert (found.progress_age_seconds, found.tool_age_seconds) == (252, 2)
    assert (found.tokens_since_progress, found.files_since_progress, found.in_tool) == (1200, 2, False)
    assert "working for 4m" in (line := await timed.line("a"))
    assert "last progress line 4m12s ago, 1.2k tokens and 2 files since, last tool 2s" in line


@pytest.mark.requirement("status:retrying:shown")
async def test_retries_and_stalls_show_with_their_age_and_go_when_something_comes(timed: Timed) -> None:
    lab, clock = timed.lab, timed.clock
    await lab.create("a")
    lab.play("a", Retrying(attempt=3, max_attempts=10, status=529, error="overloaded"))
    await lab.becomes("a", "working", "retrying 3/10")
    clock.now += 7
    assert "working (retrying 3/10, 7s)" in await timed.line("a")
    lab.play("a", Said(text="back"))
    await told(lab, "a")
    assert (await lab.view("a")).reason == ""
    lab.play("a", Stalled(seconds=95.0))
    view = await lab.becomes("a", "working", "stalled 1m35s")
    assert view.evidence is not None
    digest = await lab.fleet.wait(lab.call(), agents=["a"], timeout_seconds=0)
    assert "a works (stalled 1m35s): no progress line yet, 0 tokens and 0 files since" in digest.text


@pytest.mark.requirement("guarantee:status:never-older-than-stated")
async def test_work_that_nobody_has_heard_of_for_too_long_is_unknown_and_says_why(timed: Timed) -> None:
    lab, clock = timed.lab, timed.clock
    await lab.create("a")
    lab.play("a", Said(text="I begin"))
    await told(lab, "a")
    clock.now += 200
    assert (await lab.view("a")).reason == ""
    clock.now += 11
    view = await lab.view("a")
    assert (view.status, view.reason) == ("working", "unknown: nothing heard for 3m31s")
    assert "working (unknown: nothing heard for 3m31s)" in await timed.line("a")
    lab.play("a", bash("make all"))
    await told(lab, "a")
    clock.now += 3000
    assert (await lab.view("a")).reason == "", "a tool may take its time"
    clock.now += 700
    assert "unknown: nothing heard for 1h01m" in (await lab.view("a")).reason


@pytest.mark.requirement("guarantee:status:never-older-than-stated")
async def test_a_stall_a_pause_and_a_check_are_believed_as_long_as_they_may_take_and_no_longer(timed: Timed) -> None:
    lab, clock = timed.lab, timed.clock

    async def reason(after_seconds: float) -> str:
        clock.now += after_seconds
        return (await lab.view("a")).reason

    checks = ({"run": "sleep 60", "timeout_seconds": 700},)
    await lab.fleet.create(lab.call(), NewAgent(name="a", task="look", persona="scout", checks=checks))
    lab.play("a", Stalled(seconds=95.0))
    await lab.becomes("a", "working", "stalled 1m35s")
    assert await reason(115) == "stalled 3m30s"
    assert await reason(1) == "unknown: nothing heard for 3m31s"
    lab.play("a", Retrying(attempt=3, max_attempts=10, status=529, error="overloaded", delay_seconds=60))
    await lab.becomes("a", "working", "retrying 3/10 in 1m00s")
    assert await reason(50) == "retrying 3/10 in 10s"
    assert await reason(220) == "retrying 3/10"
    assert await reason(1) == "unknown: nothing heard for 4m31s"
    lab.finish("a")

    async def is_checking() -> bool:
        return await reason(0) == 'checking: "sleep 60"'

    await eventually(is_checking)
    assert await reason(730) == 'checking: "sleep 60"'
    assert await reason(1) == "unknown: nothing heard for 12m11s"


def ages(value: object, path: str = "") -> dict[str, float]:
    """Every age and duration in a view, by its place."""
    if isinstance(value, list | tuple):
        value = dict(enumerate(cast("Sequence[object]", value)))
    if isinstance(value, dict):
        inside = cast("dict[object, object]", value)
        return {place: age for name, inner in inside.items() for place, age in ages(inner, f"{path}.{name}").items()}
    return {path: float(value)} if path.endswith("_seconds") and isinstance(value, int | float) else {}


@pytest.mark.requirement("fault:clock:survived")
async def test_a_clock_that_goes_back_makes_no_age_negative_and_loses_nothing(timed: Timed) -> None:
    lab, clock = timed.lab, timed.clock
    await lab.create("worker")
    lab.play("worker", bash("x"), Report("here"))
    await told(lab, "worker")
    await lab.create("asker")
    await lab.asks("asker")
    await lab.create("done")
    lab.finish("done")
    await lab.becomes("done", "complete")
    clock.now -= 86_400
    fleet = await lab.fleet.status(lab.call(orchestrator="w"))
    detail = await lab.fleet.detail(lab.call(orchestrator="w"), "worker")
    digest = await lab.fleet.wait(lab.call(), timeout_seconds=0)
    found = ages([one.model_dump() for one in (fleet, detail, digest)])
    assert len(found) > 10
    assert {name: age for name, age in found.items() if age < 0} == {}
    await lab.fleet.answer(lab.call(), "asker", "red")
    lab.finish("asker")
    lab.finish("worker")
    for name in ("asker", "worker"):
        await lab.becomes(name, "complete")
    assert [event.seq for event in await lab.events("worker")] == list(range(1, len(await lab.events("worker")) + 1))


@pytest.mark.requirement("fault:clock:survived")
async def test_a_clock_that_jumps_ahead_brings_each_deadline_once(tmp_path: Path) -> None:
    clock = Clock()
    async with open_lab(tmp_path, clock=clock, FLEET_ANSWER_SECONDS=60) as lab:
        await lab.create("asker")
        view = await lab.asks("asker")
        assert view.question is not None
        assert view.question.deadline_seconds == 60
        clock.now -= 3600
        lab.context.work.notifier.publish()
        assert (await lab.view("asker")).status == "waiting"
        clock.now += 86_400
        lab.context.work.notifier.publish()
        await lab.becomes("asker", "working")
        clock.now += 86_400
        lab.context.work.notifier.publish()
        lab.finish("asker")
        await lab.becomes("asker", "complete")
        assert (await kinds(lab, "asker")).count("turn.answered") == 1
        assert (await kinds(lab, "asker")).count("turn.complete") == 1
