"""What a restart finds: cut-off turns, waiting questions, accounts whose secrets were only in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from orchestrator.domain.event import TERMINAL
from orchestrator.domain.tool import Caller
from tests.fleet.scripted import Lab, ScriptedProvider, open_lab

pytestmark = pytest.mark.anyio
SECRET = "sk-ant-very-secret-value"
KEY = {"ANTHROPIC_API_KEY": SECRET, "ANTHROPIC_BASE_URL": "https://user:" + SECRET + "@proxy.example"}


@asynccontextmanager
async def killed_after(place: Path, provider: ScriptedProvider | None = None, slots: int = 4) -> AsyncGenerator[Lab]:
    """A fleet that ends as a killed daemon does."""
    async with open_lab(place, account=KEY, provider=provider, slots=slots) as lab:
        yield lab
        await lab.die()


def database_bytes(lab: Lab) -> bytes:
    """Everything that the store has written, the log that is not merged yet included."""
    return b"".join(path.read_bytes() for path in lab.state.rglob("fleet.db*"))


@pytest.mark.requirement("recovery:start:rows-reconciled")
async def test_what_works_when_the_daemon_is_told_to_end_goes_on_with_the_next_and_nothing_counts_as_a_crash(
    tmp_path: Path,
) -> None:
    provider = ScriptedProvider()
    async with open_lab(tmp_path, provider=provider) as lab:
        await lab.create("a")
        await lab.becomes("a", "working")
    for ended in (1, 2, 3):
        assert [session.closed for session in provider.sessions] == [True] * ended
        async with open_lab(tmp_path, provider=provider, max_resumes=1) as lab:
            await lab.becomes("a", "working")
    async with open_lab(tmp_path, provider=provider, max_resumes=1) as lab:
        lab.finish("a", "found")
        await lab.becomes("a", "complete")
        turn = (await lab.turns("a"))[0]
        assert (turn.status, turn.result, turn.attempts, turn.losses) == ("complete", "found", 1, None)
        kinds = [event.kind for event in await lab.events("a")]
        assert [kind for kind in kinds if kind in TERMINAL] == ["turn.complete"]
        assert (kinds.count("turn.lost"), kinds.count("turn.resumed")) == (4, 4)
        assert len(provider.recalled["a"]) == 4, "its transcript was read each time"
    assert not provider.violations


async def test_what_ended_by_itself_or_was_to_be_interrupted_when_the_daemon_is_told_to_end_is_not_taken_up(
    tmp_path: Path,
) -> None:
    provider = ScriptedProvider(deaf={"stopped"})
    async with open_lab(tmp_path, provider=provider) as lab:
        for name in ("refused", "asking", "stopped"):
            await lab.create(name)
            await lab.becomes(name, "working")
        lab.fail("refused")
        await lab.becomes("refused", "failed")
        await lab.asks("asking")
        await lab.fleet.interrupt(lab.call(), "stopped")
    async with open_lab(tmp_path, provider=provider) as lab:
        found = {name: (await lab.view(name)).status for name in ("refused", "asking", "stopped")}
        assert found == {"refused": "failed", "asking": "waiting", "stopped": "interrupted"}
        assert (await lab.turns("stopped"))[0].detail == "interrupted on request"


async def test_a_cut_off_turn_that_may_not_be_taken_up_is_interrupted_with_the_reason(tmp_path: Path) -> None:
    async with killed_after(tmp_path) as lab:
        await lab.create("a")
        await lab.becomes("a", "working")
    async with open_lab(tmp_path, account=KEY, max_resumes=0) as lab:
        view = await lab.view("a")
        assert (view.status, view.reason) == ("interrupted", "the daemon ended")
        turn = (await lab.turns("a"))[0]
        assert (turn.status, turn.reason) == ("interrupted", "daemon")
        assert "command the agent to continue" in turn.detail
        assert [event.kind for event in await lab.events("a") if event.kind in TERMINAL] == ["turn.interrupted"]
        digest = await lab.wait("a")
        assert "daemon" in digest.text


async def test_what_a_cut_off_turn_cost_is_unknown(tmp_path: Path) -> None:
    async with killed_after(tmp_path) as lab:
        await lab.create("a")
        await lab.becomes("a", "working")
    async with open_lab(tmp_path, account=KEY, max_resumes=0) as lab:
        assert (await lab.view("a")).cost_usd is None
        assert (await lab.fleet.detail(lab.call(), "a")).turns[0].cost_usd is None
        lab.finish("a")
        await lab.fleet.command(lab.call(), "a", "go on")
        await lab.becomes("a", "complete")
        assert (await lab.view("a")).cost_usd is None


async def test_what_a_deleted_turn_cost_is_unknown(tmp_path: Path) -> None:
    async with open_lab(tmp_path) as lab:
        made = await lab.create("a")
        await lab.becomes("a", "working")
        await lab.fleet.delete(lab.call(), ["a"])
        assert (await lab.view(made.agent.id)).cost_usd is None


async def test_turns_queued_behind_a_cut_off_one_are_not_lost(tmp_path: Path) -> None:
    async with killed_after(tmp_path) as lab:
        await lab.create("a", task="one")
        await lab.becomes("a", "working")
        await lab.fleet.command(lab.call(), "a", "two")
    async with open_lab(tmp_path, account=KEY, max_resumes=0) as lab:
        await lab.fleet.greet(lab.caller)
        lab.finish("a")
        await lab.becomes("a", "complete")
        assert lab.provider.prompts["a"] == ["two"]
        assert [turn.status for turn in await lab.turns("a")] == ["interrupted", "complete"]


async def test_an_input_cut_off_by_the_daemons_end_blocks_those_behind_it(tmp_path: Path) -> None:
    async with killed_after(tmp_path) as lab:
        await lab.create("scout")
        await lab.create("plan", persona="planner", inputs=["scout"])
        await lab.becomes("scout", "working")
    async with open_lab(tmp_path, account=KEY, max_resumes=0) as lab:
        await lab.becomes("plan", "queued", "its input scout was interrupted")


async def test_the_checkout_of_a_cut_off_writer_is_free(tmp_path: Path) -> None:
    async with killed_after(tmp_path) as lab:
        await lab.create("w1", persona="builder")
        await lab.create("w2", persona="builder")
        await lab.becomes("w2", "queued", "w1 writes")
        await lab.becomes("w1", "working")
    async with open_lab(tmp_path, account=KEY, max_resumes=0) as lab:
        await lab.fleet.greet(lab.caller)
        await lab.becomes("w2", "working")


@pytest.mark.requirement("handshake:restart:waits-for-account")
async def test_queued_agents_of_an_unknown_account_wait_until_a_door_brings_it(tmp_path: Path) -> None:
    async with killed_after(tmp_path, slots=1) as lab:
        await lab.create("a")
        await lab.create("b")
        await lab.becomes("b", "queued", "slot")
        lab.finish("a")
        await lab.becomes("b", "working")
        await lab.create("c")
        await lab.becomes("c", "queued", "slot")
    async with open_lab(tmp_path, slots=1, max_resumes=0) as lab:
        await lab.becomes("c", "waiting", "account")
        stranger = Caller(
            project=str(lab.project), orchestrator="other", cwd="", account={"ANTHROPIC_API_KEY": "other"}
        )
        await lab.fleet.greet(stranger)
        assert (await lab.view("c")).status == "waiting"
        digest = await lab.wait("c")
        assert "NEEDS YOU c: waits for its account" in digest.text
        await lab.fleet.greet(Caller(project="elsewhere", orchestrator="x", cwd="", account=KEY))
        await lab.becomes("c", "working")
        assert lab.provider.sessions[0].spec.environment["ANTHROPIC_API_KEY"] == SECRET


async def test_a_command_with_another_account_pays_from_then_on(tmp_path: Path) -> None:
    async with killed_after(tmp_path) as lab:
        await lab.create("a")
        await lab.becomes("a", "working")
        await lab.fleet.command(lab.call(), "a", "two")
    async with open_lab(tmp_path, account={"ANTHROPIC_API_KEY": "another-key"}) as lab:
        await lab.becomes("a", "waiting", "account")
        await lab.fleet.command(lab.call(), "a", "three")
        for _ in range(3):
            lab.finish("a")
        await lab.becomes("a", "complete")
        assert lab.provider.prompts["a"] == ["look", "two", "three"]
        assert lab.provider.sessions[0].spec.environment["ANTHROPIC_API_KEY"] == "another-key"


@pytest.mark.requirement("wait:answer:no-process", "question:answer:survives-daemon")
async def test_a_question_survives_and_its_answer_reaches_the_same_call(tmp_path: Path) -> None:
    provider = ScriptedProvider()
    async with killed_after(tmp_path, provider) as lab:
        await lab.create("a")
        await lab.asks("a", "red or blue?")
    async with open_lab(tmp_path, account=KEY, provider=provider) as lab:
        view = await lab.view("a")
        assert view.question is not None
        assert view.question.text == "red or blue?"
        await lab.fleet.answer(lab.call(), "a", "red")
        lab.finish("a")
        await lab.becomes("a", "complete")
        assert provider.answers["a"] == ["red"]
        assert provider.sessions[-1].spec.resume


async def test_an_answered_question_that_waits_for_its_account_is_asked_no_more(tmp_path: Path) -> None:
    provider = ScriptedProvider()
    async with killed_after(tmp_path, provider) as lab:
        await lab.create("a")
        await lab.asks("a", "red or blue?")
    nobody = Caller(project=str(tmp_path / "project"), orchestrator="cli", cwd="")
    async with open_lab(tmp_path, provider=provider) as lab:
        from orchestrator.domain.tool import CallContext

        await lab.fleet.answer(CallContext(caller=nobody), "a", "red")
        view = await lab.becomes("a", "waiting", "account")
        assert view.question is None
        await lab.fleet.greet(Caller(project="", orchestrator="x", cwd="", account=KEY))
        lab.finish("a")
        await lab.becomes("a", "complete")
        assert provider.answers["a"] == ["red"]


async def test_outcomes_that_were_not_delivered_before_the_restart_are_delivered_after_it(tmp_path: Path) -> None:
    async with killed_after(tmp_path) as lab:
        await lab.create("a")
        lab.finish("a", "the result")
        await lab.wait("a", key="k1")
    async with open_lab(tmp_path, account=KEY) as lab:
        assert "| the result" in (await lab.wait("a", key="k1")).text


@pytest.mark.requirement("agent:create:idempotency-key")
async def test_a_create_that_is_sent_again_after_a_restart_makes_no_second_agent(tmp_path: Path) -> None:
    async with killed_after(tmp_path) as lab:
        first = await lab.create("a", key="k1")
    async with open_lab(tmp_path, account=KEY) as lab:
        again = await lab.create("a", key="k1")
        assert (again.agent.id, again.existed) == (first.agent.id, True)


@pytest.mark.requirement("handshake:secrets:never-stored")
async def test_no_secret_reaches_the_database_nor_what_is_shown(tmp_path: Path) -> None:
    async with open_lab(tmp_path, account=KEY) as lab:
        await lab.create("a")
        await lab.asks("a")
        await lab.fleet.command(lab.call(), "a", "answer")
        lab.finish("a")
        await lab.becomes("a", "complete")
        assert lab.provider.sessions[0].spec.environment["ANTHROPIC_API_KEY"] == SECRET
        assert SECRET.encode() not in database_bytes(lab)
        shown = (await lab.fleet.detail(lab.call(), "a")).model_dump_json()
        events = "".join(event.model_dump_json() for event in await lab.fleet.events(lab.call(), since="0"))
        assert SECRET not in shown + events + repr(lab.caller) + repr(lab.provider.sessions[0].spec)
    assert SECRET.encode() not in database_bytes(lab)


async def test_public_parts_of_an_account_outlive_a_restart(tmp_path: Path) -> None:
    account = {"ANTHROPIC_BASE_URL": "http://127.0.0.1:1"}
    async with open_lab(tmp_path, account=account) as lab:
        await lab.create("a")
        await lab.becomes("a", "working")
        await lab.die()
    async with open_lab(tmp_path) as lab:
        await lab.becomes("a", "working")
        lab.finish("a")
        await lab.becomes("a", "complete")
        assert lab.provider.sessions[0].spec.environment["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:1"


async def test_a_deleted_writers_checkout_is_free_after_a_kill_in_the_middle_of_the_delete(tmp_path: Path) -> None:
    import time

    from orchestrator.store.agents import lifecycle

    async with killed_after(tmp_path) as lab:
        made = await lab.create("w1", persona="builder")
        await lab.becomes("w1", "working")
        await lab.context.work.commit(lifecycle.delete, made.agent.id, time.time())
    async with open_lab(tmp_path, account=KEY) as lab:
        await lab.create("w2", persona="builder")
        await lab.becomes("w2", "working")


async def test_a_rehearsal_says_so_and_tells_the_model_who_asks(tmp_path: Path) -> None:
    async with open_lab(tmp_path, rehearsal="demo.yaml") as lab:
        made = await lab.create("a")
        await lab.becomes("a", "working")
        assert made.agent.rehearsal
        lab.finish("a")
        assert "rehearsal" in (await lab.wait("a")).text
        headers = lab.provider.sessions[0].spec.environment["ANTHROPIC_CUSTOM_HEADERS"].splitlines()
        assert headers == ["x-fleet-agent: a", "x-fleet-persona: scout"]


async def test_views_of_repositories_that_a_killed_daemon_left_are_removed(tmp_path: Path) -> None:
    left = tmp_path / "state" / "git" / "view-abc"
    (left / "objects").mkdir(parents=True)
    (tmp_path / "kept").mkdir()
    (left / "refs").symlink_to(tmp_path / "kept")
    async with open_lab(tmp_path):
        assert not left.exists()
    assert (tmp_path / "kept").exists()
