"""Fan-out by a plan: a turn that ends with one waits for its children, whatever dies, and is told how they ended."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import select

from orchestrator.domain.agent import AgentSpec, NewAgent
from orchestrator.domain.budget import Unit
from orchestrator.domain.event import TERMINAL
from orchestrator.domain.transcript_state import TranscriptState, TranscriptStatus
from orchestrator.errors import StoreError
from orchestrator.fleet.briefing.plan import ParsedPlan, read
from orchestrator.fleet.execution import worker
from orchestrator.providers.base import Prompt, SessionSpec
from orchestrator.store.agents import lifecycle
from orchestrator.store.schema.tables import QUESTION
from orchestrator.store.turns import cancellation
from orchestrator.store.turns.turns import Claim
from tests.fleet.scripted import Lab, ScriptedProvider, ScriptedSession, eventually, open_lab

pytestmark = pytest.mark.anyio
PLANNER = "---\nname: chief\ntools: Read, Grep, Glob\nchildren: {children}\nfans_out: plan\n---\nSplit the task.\n"


def plan(*names: str, **more: object) -> str:
    """What an agent ends its turn with to have these children."""
    return json.dumps({"plan": [{"name": name, "task": f"do {name}", "persona": "scout", **more} for name in names]})


def write_chief(place: Path, children: int = 5) -> None:
    folder = place / "project" / ".fleet" / "agents"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "chief.md").write_text(PLANNER.format(children=children))


@dataclass
class Remembering(ScriptedProvider):
    """A vendor whose transcript holds every prompt that a session was given, the last one answered with `said`."""

    said: str = ""
    given: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def begin(self, session: ScriptedSession, prompt: Prompt | None) -> None:
        """Note the prompt."""
        super().begin(session, prompt)
        if prompt is not None:
            self.given[session.spec.agent_name].append(prompt.id)

    async def recall(self, spec: SessionSpec, prompts: Sequence[str]) -> TranscriptState:
        """Answered, if one of the prompts is known."""
        known = set(prompts) & set(self.given[spec.agent_name])
        return (
            TranscriptState(status=TranscriptStatus.ANSWERED, text=self.said)
            if known
            else TranscriptState(status=TranscriptStatus.ABSENT)
        )


@pytest.fixture
async def one(tmp_path: Path) -> AsyncGenerator[Lab]:
    """A fleet with a single slot."""
    write_chief(tmp_path)
    async with open_lab(tmp_path, slots=1) as lab:
        yield lab
        assert lab.provider.violations == []


async def ends(lab: Lab, name: str) -> list[str]:
    """The agent's terminal events."""
    return [event.kind for event in await lab.events(name) if event.kind in TERMINAL]


async def begins(lab: Lab, name: str) -> None:
    """Return once the agent, which may not exist yet, is at work."""

    async def exists() -> bool:
        return name in (await lab.names()).values()

    await eventually(exists)
    await lab.becomes(name, "working")


async def prompted(lab: Lab, name: str, times: int) -> str:
    """The last prompt, once there are so many."""

    async def there() -> bool:
        return len(lab.provider.prompts[name]) >= times

    await eventually(there)
    return lab.provider.prompts[name][times - 1]


@pytest.mark.requirement("family:plan:fans-out-from-schema", "family:fan-out:limit-of-one-never-deadlocks")
async def test_a_plan_puts_its_turn_aside_behind_its_children_and_the_same_turn_is_told_how_they_ended(
    one: Lab,
) -> None:
    boss = (await one.create("boss", persona="chief")).agent
    one.finish("boss", f"I split it:\n```json\n{plan('left', 'right')}\n```\n")
    view = await one.becomes("boss", "waiting", "children")
    assert await one.names() == {
        boss.id: "boss",
        f"{boss.id}_child_0": "left",
        f"{boss.id}_child_1": "right",
    }
    assert not view.question
    assert [session.closed for session in one.provider.sessions if session.spec.agent_name == "boss"] == [True]
    assert {tool.name for tool in one.provider.sessions[0].spec.crew} == {"report_progress", "ask_orchestrator"}
    assert "```json" in one.provider.sessions[0].spec.system_prompt
    assert "5 at most" in one.provider.sessions[0].spec.system_prompt
    waits = [event.body for event in await one.events("boss") if event.kind == "turn.waiting"]
    assert waits == [{"reason": "children", "kind": "children", "children": ["left", "right"]}]
    one.finish("left", "what left found")
    await one.becomes("right", "working")
    assert (await one.view("boss")).status == "waiting"
    one.fail("right", detail="right could not")
    told = await prompted(one, "boss", 2)
    assert "[left complete · $0.01]\n| what left found" in told
    assert "[right failed (api)" in told
    one.finish("boss", plan("third"))
    await one.becomes("boss", "waiting", "children")
    one.finish("third", "what third found")
    assert "| what third found" in await prompted(one, "boss", 3)
    one.finish("boss", "all of it")
    await one.becomes("boss", "complete")
    (turn,) = await one.turns("boss")
    assert (turn.result, turn.model_calls, turn.attempts) == ("all of it", 3, 1)
    assert await ends(one, "boss") == ["turn.complete"]
    rows = await one.rows(select(QUESTION.c.state).where(QUESTION.c.agent_id == boss.id))
    assert [row.state for row in rows] == ["settled", "settled"]


@pytest.mark.requirement("family:plan:fans-out-from-schema")
async def test_checks_run_at_the_end_of_the_turn_and_not_at_a_plan_and_a_failed_one_may_be_mended_by_a_plan(
    one: Lab,
) -> None:
    new = NewAgent(name="boss", task="look", persona="chief", checks=("test -e proof",))
    await one.fleet.create(one.call(), new)
    one.finish("boss", plan("a"))
    one.finish("a")
    assert "All agents of your plan have ended" in await prompted(one, "boss", 2)
    (turn,) = await one.turns("boss")
    assert turn.checked is None
    one.finish("boss", "no proof yet")
    assert "Fleet checked it, and this failed" in await prompted(one, "boss", 3)
    one.finish("boss", plan("b"))
    await begins(one, "b")
    (one.project / "proof").touch()
    one.finish("b", "there is a proof")
    assert "| there is a proof" in await prompted(one, "boss", 4)
    one.finish("boss", "proven")
    await one.becomes("boss", "complete")
    (turn,) = await one.turns("boss")
    assert [made["passed"] for made in turn.checked or []] == [False, True]


BAD: Mapping[str, tuple[str, str]] = {
    "no json": ('{"plan": [{"name": "a",', "it is not JSON"),
    "no task": ('{"plan": [{"name": "a"}]}', "'task' is a required property"),
    "nobody": ('{"plan": []}', "plan"),
    "unknown key": ('{"plan": [{"name": "a", "task": "t", "tools": "Bash"}]}', "'tools' was unexpected"),
    "too many": (plan("a", "b", "c", "d", "e", "f"), "it has 6 agents, and you may create 5 in all"),
    "unknown persona": (plan("good", "bad", persona="skout"), "- bad: no persona 'skout' -> did you mean scout?"),
    "more tools than its own": (plan("a", persona="builder"), "- a: persona builder has tools that you do not have"),
    "no name": (plan("good", "two words"), "- \"two words\": 'two words' is not a valid agent name"),
    "one name twice": (plan("a", "a"), "- a: the plan uses this name twice"),
    "a name that is taken": (plan("good", "boss"), "the name 'boss' is taken"),
    "two plans": (f"```json\n{plan('a')}\n```\nor\n```json\n{plan('b')}\n```", "2 ```json blocks"),
}


@pytest.mark.requirement("family:plan:fans-out-from-schema", "family:clearance:within-parents")
@pytest.mark.parametrize("case", BAD)
async def test_a_plan_that_cannot_be_carried_out_goes_back_with_what_is_wrong_and_creates_nobody(
    one: Lab, case: str
) -> None:
    text, said = BAD[case]
    await one.create("boss", persona="chief")
    one.finish("boss", text)
    told = await prompted(one, "boss", 2)
    assert "no agent was created" in told
    assert said in told
    assert list((await one.names()).values()) == ["boss"]
    one.finish("boss", plan("right"))
    one.finish("right")
    assert "[right complete" in await prompted(one, "boss", 3)
    one.finish("boss")
    await one.becomes("boss", "complete")
    refused = [event.body["reason"] for event in await one.events("boss") if event.kind == "turn.plan_refused"]
    assert len(refused) == 1


@pytest.mark.requirement("family:plan:fans-out-from-schema")
async def test_the_third_bad_plan_in_a_row_ends_the_turn_with_what_was_wrong(one: Lab) -> None:
    await one.create("boss", persona="chief")
    for text in (plan("a", "a"), '{"plan": 1}', plan("x", persona="nobody")):
        one.finish("boss", text)
    view = await one.becomes("boss", "failed")
    assert view.reason == "plan"
    (turn,) = await one.turns("boss")
    assert "- x: no persona 'nobody'" in turn.detail
    assert (turn.result, turn.model_calls) == (plan("x", persona="nobody"), 3)
    assert await ends(one, "boss") == ["turn.failed"]
    assert list((await one.names()).values()) == ["boss"]
    digest = await one.wait("boss")
    assert "failed (plan: \"- x: no persona 'nobody'" in digest.text


@pytest.mark.requirement("family:plan:fans-out-from-schema", "limit:admission:sessions-depth-children-retries")
async def test_the_limits_of_children_hold_over_all_plans_of_an_agent(tmp_path: Path) -> None:
    write_chief(tmp_path, children=2)
    async with open_lab(tmp_path, slots=1) as lab:
        await lab.create("boss", persona="chief")
        lab.finish("boss", plan("a"))
        lab.finish("a")
        await prompted(lab, "boss", 2)
        lab.finish("boss", plan("b", "c"))
        assert "you have created 2 agents and may create 2" in await prompted(lab, "boss", 3)
        assert sorted((await lab.names()).values()) == ["a", "boss"]
        lab.finish("boss", plan("b"))
        lab.finish("b")
        await prompted(lab, "boss", 4)
        lab.finish("boss")
        await lab.becomes("boss", "complete")


@pytest.mark.requirement("family:plan:fans-out-from-schema", "budget:cap:suspends-until-top-up")
async def test_the_budgets_of_planned_children_are_reserved_and_a_cap_holds_its_aggregate_back(tmp_path: Path) -> None:
    write_chief(tmp_path)
    async with open_lab(tmp_path, slots=1) as lab:
        await lab.fleet.create(lab.call(), NewAgent(name="boss", task="t", persona="chief", max_tokens=40))
        lab.finish("boss", plan("a", "b", max_tokens=20))
        told = await prompted(lab, "boss", 2)
        assert "a child cannot have 20 tokens" in told
        assert list((await lab.names()).values()) == ["boss"]
        lab.finish("boss", plan("a", max_tokens=10))
        lab.finish("a")
        await lab.becomes("boss", "waiting", "budget")
        assert len(lab.provider.prompts["boss"]) == 2
        await lab.fleet.set_budget(lab.call(), {Unit.TOKENS: 500}, agent="boss")
        assert "[a complete" in await prompted(lab, "boss", 3)
        lab.finish("boss")
        await lab.becomes("boss", "complete")


@pytest.mark.requirement("family:plan:fans-out-from-schema")
async def test_an_aggregate_whose_quota_is_used_up_is_told_of_its_children_when_it_is_back(tmp_path: Path) -> None:
    write_chief(tmp_path)
    now = [1_800_000_000.0]
    async with open_lab(tmp_path, slots=1, clock=lambda: now[0]) as lab:
        await lab.create("boss", persona="chief")
        lab.finish("boss", plan("a"))
        lab.finish("a", "what a found")
        lab.fail("boss", reason="quota", detail="HTTP 429")
        await lab.becomes("boss", "waiting", "quota until ")
        now[0] += 7200.0
        lab.context.work.notifier.publish()
        assert "| what a found" in await prompted(lab, "boss", 3)
        lab.finish("boss", "joined")
        await lab.becomes("boss", "complete")
        assert sorted((await lab.names()).values()) == ["a", "boss"]


@pytest.mark.requirement("family:plan:fans-out-from-schema")
async def test_a_task_for_an_agent_that_sleeps_on_its_plan_is_its_next_turn(one: Lab) -> None:
    await one.create("boss", persona="chief")
    one.finish("boss", plan("a"))
    await one.becomes("boss", "waiting", "children")
    receipt = await one.fleet.command(one.call(), "boss", "and then that")
    assert "queued behind its open turn (children)" in receipt.happened
    one.finish("a")
    one.finish("boss", "joined")
    one.finish("boss", plan("b"))
    one.finish("b")
    assert await prompted(one, "boss", 3) == "and then that"
    assert "[b complete" in await prompted(one, "boss", 4)
    one.finish("boss", "joined again")
    await one.becomes("boss", "complete")
    assert [turn.result for turn in await one.turns("boss")] == ["joined", "joined again"]


@pytest.mark.requirement("family:plan:fans-out-from-schema", "family:abort:whole-subtree")
async def test_a_stop_of_an_agent_that_sleeps_on_its_plan_reaches_everybody_below(tmp_path: Path) -> None:
    write_chief(tmp_path)
    async with open_lab(tmp_path, slots=2) as lab:
        await lab.create("boss", persona="chief")
        lab.finish("boss", plan("mid", persona="chief"))
        lab.finish("mid", plan("leaf", "other"))
        for name, status in (("boss", "waiting"), ("mid", "waiting"), ("leaf", "working")):
            await lab.becomes(name, status)
        await lab.fleet.interrupt(lab.call(), "boss")
        for name in ("boss", "mid", "leaf", "other"):
            await lab.becomes(name, "interrupted")
            assert await ends(lab, name) == ["turn.interrupted"]
        gone = await lab.fleet.delete(lab.call(), ["boss"])
        assert sorted(one.name for one in gone) == ["boss", "leaf", "mid", "other"]


@pytest.mark.requirement("family:plan:fans-out-from-schema", "family:abort:whole-subtree")
@pytest.mark.parametrize("text", [plan("a"), plan("a", "a")])
async def test_a_turn_that_was_told_to_end_as_it_ended_with_a_plan_creates_nobody(one: Lab, text: str) -> None:
    boss = (await one.create("boss", persona="chief")).agent
    await one.becomes("boss", "working")
    await one.context.work.store.write(
        cancellation.ask, boss.id
    )  # as a daemon does that dies before it tells the session
    one.finish("boss", text)
    await one.becomes("boss", "interrupted")
    assert await ends(one, "boss") == ["turn.interrupted"]
    assert list((await one.names()).values()) == ["boss"]


@pytest.mark.requirement("family:plan:fans-out-from-schema", "family:abort:whole-subtree")
async def test_a_plan_that_comes_after_the_interrupt_is_not_carried_out(one: Lab) -> None:
    one.provider.deaf.add("boss")
    await one.create("boss", persona="chief")
    await one.becomes("boss", "working")
    await one.fleet.interrupt(one.call(), "boss")
    one.finish("boss", plan("a"))
    await one.becomes("boss", "interrupted")
    await one.fleet.command(one.call(), "boss", "go on")
    one.finish("boss", plan("b"))
    one.finish("b")
    assert "[b complete" in await prompted(one, "boss", 3)
    assert sorted((await one.names()).values()) == ["b", "boss"]
    one.finish("boss", "joined")
    await one.becomes("boss", "complete")
    assert await ends(one, "boss") == ["turn.interrupted", "turn.complete"]


def bury(provider: ScriptedProvider) -> None:
    """Let the programs end with the daemon that was killed."""
    for session in provider.sessions:
        session.closed = True


@pytest.mark.requirement("family:plan:fans-out-from-schema", "recovery:restart:nothing-respawned")
async def test_a_plan_that_only_the_transcript_tells_of_is_carried_out_once(tmp_path: Path) -> None:
    write_chief(tmp_path)
    provider = Remembering()
    async with open_lab(tmp_path, slots=1, provider=provider) as lab:
        boss = (await lab.create("boss", persona="chief")).agent
        await lab.becomes("boss", "working")
        await lab.die()
    bury(provider)
    provider.said, found = plan("a", "b"), dict[str, str]()
    for _ in range(2):
        async with open_lab(tmp_path, slots=1, provider=provider) as lab:
            await lab.becomes("boss", "waiting", "children")
            found = await lab.names()
            await lab.die()
        bury(provider)
    assert found == {boss.id: "boss", f"{boss.id}_child_0": "a", f"{boss.id}_child_1": "b"}
    assert provider.prompts["boss"] == ["look"]
    assert provider.violations == []


@pytest.mark.requirement("family:plan:fans-out-from-schema", "recovery:restart:nothing-respawned")
async def test_a_daemon_that_dies_while_it_creates_leaves_no_child_and_the_next_one_creates_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_chief(tmp_path)
    provider = Remembering()
    create = lifecycle.create
    monkeypatch.setattr(worker, "STORE_AGAIN_SECONDS", 3600.0)

    def disk_full(connection: Any, spec: AgentSpec, *more: Any) -> tuple[str, bool]:
        if spec.name == "b":
            raise StoreError("the disk is full")
        return create(connection, spec, *more)

    async with open_lab(tmp_path, slots=1, provider=provider) as lab:
        boss = (await lab.create("boss", persona="chief")).agent
        await lab.becomes("boss", "working")
        monkeypatch.setattr(lifecycle, "create", disk_full)
        with structlog.testing.capture_logs() as logged:
            lab.finish("boss", plan("a", "b"))

            async def is_struck() -> bool:
                return "end_not_written" in [entry["event"] for entry in logged]

            await eventually(is_struck)
        assert list((await lab.names()).values()) == ["boss"]
        await lab.die()
    bury(provider)
    monkeypatch.setattr(lifecycle, "create", create)
    provider.said = plan("a", "b")
    async with open_lab(tmp_path, slots=1, provider=provider) as lab:
        await lab.becomes("boss", "waiting", "children")
        assert await lab.names() == {boss.id: "boss", f"{boss.id}_child_0": "a", f"{boss.id}_child_1": "b"}


@pytest.mark.requirement("family:plan:fans-out-from-schema", "recovery:restart:nothing-respawned")
@pytest.mark.parametrize("opens", [False, True], ids=["claimed", "opening"])
async def test_children_whose_ends_a_dead_daemon_did_not_tell_are_told_of_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, opens: bool
) -> None:
    write_chief(tmp_path)
    provider = Remembering(said=plan("a"))
    async with open_lab(tmp_path, slots=1, provider=provider) as lab:
        await lab.create("boss", persona="chief")
        lab.finish("boss", plan("a"))
        await begins(lab, "a")
        provider.may_open.clear()
        if not opens:
            # what is claimed from now on this daemon does not come to
            monkeypatch.setattr(lab.context.slots, "dispatch", list[Claim].clear)
        lab.finish("a", "what a found")

        async def goes_on() -> bool:
            return provider.opening.count("boss") == 2 if opens else (await lab.view("boss")).status == "working"

        await eventually(goes_on)
        await lab.die()
    bury(provider)
    provider.may_open.set()
    async with open_lab(tmp_path, slots=1, provider=provider) as lab:
        assert "| what a found" in await prompted(lab, "boss", 2)
        await lab.becomes("boss", "working")
        await lab.die()
    bury(provider)
    provider.said = "joined"  # the transcript holds the prompt of the fan-in now, and its answer
    async with open_lab(tmp_path, slots=1, provider=provider) as lab:
        await lab.becomes("boss", "complete")
        (turn,) = await lab.turns("boss")
        assert turn.result == "joined"
        assert sorted((await lab.names()).values()) == ["a", "boss"]
        assert len(provider.prompts["boss"]) == 2
        assert await ends(lab, "boss") == ["turn.complete"]
    assert provider.violations == []


async def test_a_command_after_a_failed_plan_begins_anew(one: Lab) -> None:
    await one.create("boss", persona="chief")
    for _ in range(3):
        one.finish("boss", '{"plan": 1}')
    await one.becomes("boss", "failed")
    await one.fleet.command(one.call(), "boss", "again")
    one.finish("boss", '{"plan": 2}')
    assert "no agent was created" in await prompted(one, "boss", 5)
    one.finish("boss", "then not")
    await one.becomes("boss", "complete")


async def test_who_fans_out_by_tools_may_end_with_what_looks_like_a_plan(one: Lab) -> None:
    await one.create("plain")
    one.finish("plain", plan("a"))
    await one.becomes("plain", "complete")
    assert list((await one.names()).values()) == ["plain"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "done",
        "the plan: two scouts",
        "{}",
        '["plan"]',
        '```json\n{"result": 1}\n```',
        '```yaml\n{"plan": []}\n```',
        '```\nplan\n```\n```json\n{"result": 1}\n```',
        "[" * 100_000,
        "x```\n" * 50_000,
    ],
)
def test_a_text_without_a_plan_is_a_result(text: str) -> None:
    assert read(text, 5) is None


@pytest.mark.parametrize(
    "text",
    [
        "\n" + plan("a"),
        f"so:\n```json\n{plan('a')}\n```\nthat is all",
        f"```\n{plan('a')}\n```",
        f"```python\nprint()\n```\n``` json\n{plan('a')}\n```",
        f"```json\n{json.dumps(json.loads(plan('a')), indent=2)}",
    ],
)
def test_a_plan_stands_alone_or_in_the_only_block_of_json(text: str) -> None:
    assert read(text, 1) == ParsedPlan(entries=[{"name": "a", "task": "do a", "persona": "scout"}])


@pytest.mark.parametrize(
    "text", ['{"plan": ' + "[" * 100_000, plan("a") + " and more", '{"plan": [], "why": 1}', '{"why": 1, "plan": []}']
)
def test_what_is_meant_as_a_plan_and_is_none_is_a_problem(text: str) -> None:
    found = read(text, 5)
    assert found is not None
    assert found.problem
