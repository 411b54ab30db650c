"""Chains: who waits for whose result, what is handed on, and what a failed input does."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from orchestrator.domain.agent import NewAgent
from orchestrator.errors import ConflictError, FleetError, InvalidError, NotFoundError
from orchestrator.fleet.briefing.handoff import SourceResult, write_inputs, write_result
from tests.fleet.scripted import Lab, eventually, open_lab

pytestmark = pytest.mark.anyio


@pytest.mark.requirement("inputs:start:when-completed", "inputs:handover:one-named-file")
async def test_an_agent_waits_for_its_inputs_and_then_starts_by_itself(lab: Lab) -> None:
    await lab.create("s1")
    await lab.create("s2")
    made = await lab.create("plan", persona="planner", inputs=["s1", "s2"])
    assert (made.agent.status, made.agent.reason) == ("queued", "inputs: s1, s2")
    assert made.agent.waits_for == ("s1", "s2")
    lab.finish("s1", "found A")
    await lab.becomes("plan", "queued", "inputs: s2")
    lab.finish("s2", "found B")
    await lab.becomes("plan", "working")
    desk = lab.project / ".fleet" / "desk" / made.agent.id
    assert (
        desk / "relevant-files.md"
    ).read_text() == "# s1 (scout)\n```\nfound A\n```\n\n\n# s2 (scout)\n```\nfound B\n```\n"
    assert (desk / ".gitignore").read_text() == "*\n"
    named = f".fleet/desk/{made.agent.id}/relevant-files.md"
    assert lab.provider.prompts["plan"] == [f"look\n\nHanded to you by other agents (read these first):\n- {named}"]


@pytest.mark.requirement("inputs:handover:one-named-file")
async def test_inputs_of_several_kinds_become_a_file_each(lab: Lab) -> None:
    await lab.create("scout")
    await lab.create("plan", persona="planner")
    lab.finish("scout", "places")
    lab.finish("plan", "steps")
    made = await lab.create("build", persona="builder", inputs=["scout", "plan"])
    await lab.becomes("build", "working")
    desk = lab.project / ".fleet" / "desk" / made.agent.id
    assert sorted(path.name for path in desk.glob("*.md")) == ["detailed-plan.md", "relevant-files.md"]
    assert "- .fleet" in lab.provider.prompts["build"][0]


@pytest.mark.requirement("inputs:handover:what-a-verdict-judges-by")
async def test_a_reviewer_gets_the_tasks_and_the_plan_that_it_judges_by_and_a_file_for_each_builder(lab: Lab) -> None:
    await lab.create("plan", persona="planner", task="plan it")
    lab.finish("plan", "the steps")
    await lab.becomes("plan", "complete")
    for name in ("one", "two"):
        await lab.create(name, persona="builder", task=f"build part {name}", inputs=["plan"])
        lab.finish(name, f"built {name}")
        await lab.becomes(name, "complete")
    made = await lab.create("judge", persona="reviewer", inputs=["one", "two"])
    await lab.becomes("judge", "working")
    desk = lab.project / ".fleet" / "desk" / made.agent.id
    texts = {path.name: path.read_text() for path in desk.glob("*.md")}
    assert sorted(texts) == ["build-report-one.md", "build-report-two.md", "detailed-plan.md"]
    unknown = '[Fleet\'s facts: changes unknown: "this directory is not a git checkout"]'
    report = f"# one (builder)\n{unknown}\nIts task was:\n```\nbuild part one\n```\nIts result:\n```\nbuilt one\n```\n"
    assert texts["build-report-one.md"] == report
    assert texts["detailed-plan.md"] == "# plan (planner)\n```\nthe steps\n```\n"
    again = await lab.create("mend", persona="builder", inputs=["one", "two"])
    await lab.becomes("mend", "working")
    desk = lab.project / ".fleet" / "desk" / again.agent.id
    assert "task was" not in (desk / "build-report-one.md").read_text()


@pytest.mark.requirement("inputs:handover:every-new-turn")
async def test_who_starts_after_several_turns_is_handed_all_of_them_and_later_only_new_ones(lab: Lab) -> None:
    await lab.create("build", persona="builder", task="build it")
    await lab.becomes("build", "working")
    await lab.fleet.command(lab.call(), "build", "and the docs")
    lab.finish("build", "built it")
    made = await lab.create("judge", persona="reviewer", inputs=["build"])
    lab.finish("build", "wrote the docs")
    await lab.becomes("judge", "working")
    report = lab.project / ".fleet" / "desk" / made.agent.id / "build-report.md"
    first, second = report.read_text().split("# build (builder), turn 2\n")
    assert first.startswith("# build (builder), turn 1\n")
    assert "build it" in first
    assert "built it" in first
    assert "and the docs" in second
    lab.finish("judge", "a finding\n\nVERDICT: changes")
    await lab.becomes("judge", "failed")
    await lab.fleet.command(lab.call(), "build", "mend it")
    await lab.fleet.command(lab.call(), "judge", "again", inputs=["build"])
    lab.finish("build", "mended")
    await lab.becomes("judge", "working")
    assert report.read_text().startswith("# build (builder)\n")
    assert "built it" not in report.read_text()


@pytest.mark.requirement("inputs:handover:every-new-turn")
async def test_turns_without_an_input_do_not_count_as_handed_over_and_what_is_left_out_is_said(lab: Lab) -> None:
    made = await lab.create("judge", persona="planner")
    lab.finish("judge", "unrelated")
    await lab.create("build", persona="builder", task="part 1")
    for number in range(1, 8):
        lab.finish("build", f"made {number}")
        await lab.becomes("build", "complete")
        if number < 7:
            await lab.fleet.command(lab.call(), "build", f"part {number + 1}")
    await lab.becomes("judge", "complete")
    await lab.fleet.command(lab.call(), "judge", "now", inputs=["build"])
    await lab.becomes("judge", "working")
    report = (lab.project / ".fleet" / "desk" / made.agent.id / "build-report.md").read_text()
    assert report.startswith("# build (builder), turn 3\n[Fleet's facts: 2 earlier turns left out; ")
    assert [f"made {number}" in report for number in range(1, 8)] == [False] * 2 + [True] * 5


@pytest.mark.requirement("inputs:handover:one-named-file")
async def test_a_desk_ignores_itself_before_its_agent_begins_also_if_nothing_is_handed_to_it(lab: Lab) -> None:
    made = await lab.create("alone", persona="builder")
    await lab.becomes("alone", "working")
    assert (lab.project / ".fleet" / "desk" / made.agent.id / ".gitignore").read_text() == "*\n"


@pytest.mark.requirement("inputs:handover:one-named-file")
async def test_a_review_with_findings_is_handed_on_as_one_and_not_as_a_failure(lab: Lab) -> None:
    await lab.create("review", persona="reviewer")
    made = await lab.create("mend", persona="builder", inputs=["review:ended"])
    lab.finish("review", "one finding\n\nVERDICT: changes")
    await lab.becomes("mend", "working")
    handed = (lab.project / ".fleet" / "desk" / made.agent.id / "review.md").read_text()
    assert handed.startswith("# review (reviewer) — it asks for changes\n")


@pytest.mark.requirement("persona:prompt:only-what-it-can")
async def test_only_who_can_write_is_told_of_a_folder_for_scratch_files(lab: Lab) -> None:
    for persona, told in (("scout", False), ("planner", False), ("builder", True), ("reviewer", True)):
        await lab.create(persona, persona=persona)
        await lab.becomes(persona, "working")
        [prompt] = [one.spec.system_prompt for one in lab.provider.sessions if one.spec.agent_name == persona]
        assert ("scratch" in prompt) is told
        assert "in Fleet, a program that runs agents" in prompt
        lab.finish(persona, "VERDICT: pass")
        await lab.becomes(persona, "complete")


async def test_an_agent_below_the_project_is_told_a_path_that_it_can_open(lab: Lab) -> None:
    (lab.project / "sub").mkdir()
    await lab.create("scout")
    lab.finish("scout", "places")
    await lab.becomes("scout", "complete")
    new = NewAgent(name="deep", task="t", persona="planner", cwd="sub", inputs=("scout",))
    await lab.fleet.create(lab.call(), new)
    await lab.becomes("deep", "working")
    named = lab.provider.prompts["deep"][0].rpartition("- ")[2]
    assert (lab.project / "sub" / named).read_text().endswith("places\n```\n")


@pytest.mark.requirement("inputs:handover:already-ended")
@pytest.mark.parametrize("how", ["failed", "interrupted", "deleted"])
async def test_an_input_that_ended_before_is_handed_over_as_it_is(lab: Lab, how: str) -> None:
    made = await lab.create("scout")
    await lab.becomes("scout", "working")
    if how == "failed":
        lab.fail("scout", detail="no luck")
    elif how == "interrupted":
        await lab.fleet.interrupt(lab.call(), "scout")
    else:
        lab.finish("scout", "places")
        await lab.becomes("scout", "complete")
        await lab.fleet.delete(lab.call(), ["scout"])
    await lab.becomes(made.agent.id, how)
    plan = await lab.create("plan", persona="planner", inputs=[made.agent.id])
    await lab.becomes("plan", "working")
    text = (lab.project / ".fleet" / "desk" / plan.agent.id / "relevant-files.md").read_text()
    assert text.startswith("# scout (scout)")
    assert {"failed": "no luck", "interrupted": "ended as interrupted", "deleted": "places"}[how] in text


@pytest.mark.requirement("inputs:failure:blocks-and-wakes")
async def test_an_input_that_fails_blocks_and_wakes_and_its_retry_frees(lab: Lab) -> None:
    await lab.create("scout")
    await lab.create("plan", persona="planner", inputs=["scout"])
    lab.fail("scout")
    await lab.becomes("plan", "queued", "its input scout failed")
    digest = await lab.wait("plan")
    assert digest.needs == ("plan",)
    assert "NEEDS YOU plan cannot start: its input scout failed" in digest.text
    await lab.fleet.command(lab.call(), "scout", "again")
    await lab.becomes("plan", "queued", "inputs: scout")
    lab.finish("scout", "places")
    await lab.becomes("plan", "working")


@pytest.mark.requirement("inputs:failure:blocks-and-wakes")
async def test_an_input_that_fails_while_its_receiver_works_blocks_the_next_turn(lab: Lab) -> None:
    await lab.create("scout")
    await lab.create("plan", persona="planner")
    await lab.becomes("plan", "working")
    await lab.fleet.command(lab.call(), "plan", "more", inputs=["scout"])
    lab.fail("scout")
    await lab.becomes("scout", "failed")
    lab.finish("plan")
    await lab.becomes("plan", "queued", "its input scout failed")
    assert (await lab.wait("plan")).needs == ("plan",)
    blocked = [event for event in await lab.events("plan") if event.kind == "agent.blocked"]
    assert [event.turn for event in blocked] == [2]


async def test_a_deleted_input_blocks_and_says_so(lab: Lab) -> None:
    await lab.create("scout")
    await lab.create("plan", persona="planner", inputs=["scout"])
    await lab.fleet.delete(lab.call(), ["scout"])
    await lab.becomes("plan", "queued", "its input scout was deleted")


async def test_replacing_the_failed_input_frees_the_agent_and_keeps_the_others(lab: Lab) -> None:
    for name in ("s1", "s2", "s3"):
        await lab.create(name)
    await lab.create("plan", persona="planner", inputs=["s1", "s2", "s3"])
    lab.finish("s1", "one")
    await lab.becomes("s1", "complete")
    lab.fail("s2")
    await lab.becomes("plan", "queued", "its input s2 failed")
    digest = await lab.wait("plan")
    assert 'inputs=["s1", "s3"]' in digest.text
    await lab.fleet.command(lab.call(), "plan", "go on without it", inputs=["s1", "s3"])
    await lab.becomes("plan", "queued", "inputs: s3")
    lab.finish("s3", "three")
    await lab.becomes("plan", "working")


@pytest.mark.requirement("wait:digest:next-call")
async def test_who_waits_for_a_gate_that_asks_for_changes_is_freed_by_the_calls_that_its_need_names(lab: Lab) -> None:
    await lab.create("review", persona="reviewer")
    lab.finish("review", "slow\n\nVERDICT: changes")
    await lab.create("build", persona="builder", inputs=["review:ended"])
    lab.finish("build", "built")
    await lab.create("gate", persona="reviewer", inputs=["build", "review:ended"])
    await lab.create("ship", persona="shipper", inputs=["gate"])
    lab.finish("gate", "## Summary\nno\n## Findings\n1. it lacks a test\n\nVERDICT: changes")
    await lab.becomes("ship", "queued", "its input gate failed (verdict)")
    needs = (await lab.wait()).text
    mend = 'command_agent(agent="build", task=…, inputs=["gate"])'
    check = 'command_agent(agent="gate", task="check again", inputs=["build"])'
    assert f"-> have it fixed: {mend}, then {check}\n" in needs
    assert needs.count("check again") == 1
    assert "| 1. it lacks a test" in needs
    await lab.fleet.command(lab.call(), "build", "add it", inputs=["gate"])
    await lab.fleet.command(lab.call(), "gate", "check again", inputs=["build"])
    assert (await lab.view("gate")).reason == "inputs: build"
    lab.finish("build", "added")
    lab.finish("gate", "fine\n\nVERDICT: pass")
    await lab.becomes("ship", "working")


@pytest.mark.requirement("wait:digest:next-call")
async def test_who_waits_for_a_gate_whose_changes_are_being_made_is_not_told_to_have_them_made_again(lab: Lab) -> None:
    await lab.create("gate", persona="reviewer")
    await lab.create("gone", persona="builder", inputs=["gate:ended"])
    await lab.fleet.delete(lab.call(), ["gone"])
    await lab.create("mend", persona="builder", inputs=["gate:ended"])
    await lab.create("ship", persona="shipper", inputs=["gate"])
    lab.finish("gate", "it lacks a test\n\nVERDICT: changes")
    await lab.becomes("mend", "working")
    needs = (await lab.wait("ship")).text
    assert needs.endswith('-> command_agent(agent="gate", task="check again", inputs=["mend"])')
    assert "have it fixed" not in needs


@pytest.mark.requirement("wait:digest:next-call")
async def test_what_to_do_first_after_a_failure_is_said_although_an_agent_waits_for_it(lab: Lab) -> None:
    await lab.create("scout")
    await lab.create("plan", persona="planner", inputs=["scout"])
    lab.fail("scout", "not_found")
    await lab.becomes("plan", "queued", "its input scout failed")
    told = (await lab.wait()).text
    assert 'choose a model that the account may use, or command_agent(agent="scout"' in told


async def test_going_on_without_any_input_is_possible(lab: Lab) -> None:
    await lab.create("scout")
    await lab.create("plan", persona="planner", inputs=["scout"])
    lab.fail("scout")
    await lab.becomes("plan", "queued", "its input scout failed")
    await lab.fleet.command(lab.call(), "plan", "go on without", inputs=[])
    await lab.becomes("plan", "working")


@pytest.mark.requirement("inputs:cycle:refused")
async def test_a_circle_is_an_error_that_names_it_and_changes_nothing(lab: Lab) -> None:
    await lab.create("a")
    await lab.create("b", inputs=["a"])
    await lab.create("c", inputs=["b"])
    with pytest.raises(ConflictError) as error:
        await lab.fleet.command(lab.call(), "a", "more", inputs=["c"])
    assert "a and c would wait for each other" in error.value.message
    assert len(await lab.turns("a")) == 1


async def test_what_a_cancelled_turn_waited_for_blocks_nobody_any_more(lab: Lab) -> None:
    await lab.create("c")
    await lab.create("b", inputs=["c"])
    lab.fail("c")
    await lab.becomes("b", "queued", "its input c failed")
    await lab.fleet.interrupt(lab.call(), "b")
    await lab.fleet.command(lab.call(), "b", "without it")
    view = await lab.becomes("b", "working")
    assert (view.waits_for, view.blocked_by) == ((), ())
    assert (await lab.fleet.status(lab.call())).bottlenecks == ()


@pytest.mark.requirement("inputs:cycle:refused")
async def test_an_agent_is_not_its_own_input(lab: Lab) -> None:
    with pytest.raises(NotFoundError):
        await lab.create("a", inputs=["a"])
    await lab.create("first")
    await lab.create("a", inputs=["first"])
    with pytest.raises(InvalidError) as error:
        await lab.fleet.command(lab.call(), "a", "more", inputs=["a"])
    assert "own input" in error.value.message


async def test_an_input_commanded_again_before_it_ended_hands_over_both_turns(lab: Lab) -> None:
    await lab.create("scout")
    await lab.becomes("scout", "working")
    plan = await lab.create("plan", persona="planner", inputs=["scout"])
    await lab.fleet.command(lab.call(), "scout", "and more")
    lab.finish("scout", "first")
    await lab.becomes("plan", "queued", "inputs: scout")
    lab.finish("scout", "second")
    await lab.becomes("plan", "working")
    text = (lab.project / ".fleet" / "desk" / plan.agent.id / "relevant-files.md").read_text()
    assert text.index("first") < text.index("second")


async def test_writers_of_one_checkout_take_turns_and_say_who_writes(lab: Lab) -> None:
    await lab.create("w1", persona="builder")
    await lab.create("w2", persona="builder")
    await lab.create("reader")
    await lab.becomes("w2", "queued", "w1 writes in this checkout")
    await lab.becomes("reader", "working")
    lab.finish("w1")
    await lab.becomes("w2", "working")


async def test_a_deleted_writer_frees_the_checkout_only_when_its_session_has_gone(lab: Lab) -> None:
    await lab.create("w1", persona="builder")
    await lab.becomes("w1", "working")
    lab.provider.may_close.clear()
    await lab.create("w2", persona="builder")
    deleting = asyncio.create_task(lab.fleet.delete(lab.call(), ["w1"]))
    await lab.becomes("w2", "queued", "w1 writes in this checkout")
    await eventually(lambda: asyncio.sleep(0, bool(lab.provider.closing)))
    await lab.create("poke")  # any change admits what may start
    assert (await lab.view("w2")).status == "queued"
    lab.provider.may_close.set()
    await deleting
    await lab.becomes("w2", "working")


@pytest.mark.requirement("limit:slots:others-queued", "limit:concurrency:environment-variable")
async def test_more_agents_than_slots_are_queued_for_a_slot(tmp_path: Path) -> None:
    async with open_lab(tmp_path, slots=2) as lab:
        for name in ("a", "b", "c", "d"):
            await lab.create(name)
        await lab.becomes("c", "queued", "slot")
        lab.finish("a")
        await lab.becomes("c", "working")
        await lab.becomes("d", "queued", "slot")
        assert (await lab.fleet.health()).working == 2


async def test_a_link_in_place_of_a_desk_is_refused_and_nothing_is_written_through_it(lab: Lab, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    await lab.create("scout")
    lab.finish("scout", "places")
    await lab.becomes("scout", "complete")
    desks = lab.project / ".fleet" / "desk"
    for entry in desks.iterdir():
        (entry / "relevant-files.md").unlink()
        (entry / ".gitignore").unlink()
        entry.rmdir()
    desks.rmdir()
    desks.symlink_to(outside)
    await lab.create("plan", persona="planner", inputs=["scout"])
    view = await lab.becomes("plan", "failed", "start")
    assert "is a link" in (await lab.turns("plan"))[0].detail
    assert list(outside.iterdir()) == []
    assert view.name == "plan"


async def test_an_agent_that_spoils_its_desk_still_ends_with_its_result(lab: Lab, tmp_path: Path) -> None:
    made = await lab.create("a")
    await lab.becomes("a", "working")
    desk = lab.project / ".fleet" / "desk" / made.agent.id
    shutil.rmtree(desk)
    desk.symlink_to(tmp_path)
    lab.finish("a", "the result")
    await lab.becomes("a", "complete")
    page = await lab.fleet.output(lab.call(), "a")
    assert page.text == "the result"
    assert page.path is None


def test_a_link_at_a_file_of_the_desk_is_replaced_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("mine")
    desk = tmp_path / ".fleet" / "desk" / "ag_1"
    desk.mkdir(parents=True)
    for name in ("result.md", ".result.md.draft", ".gitignore"):
        (desk / name).symlink_to(target if name != ".gitignore" else tmp_path / "created-elsewhere")
    assert write_result(desk, "result.md", "text").read_text() == "text"
    assert target.read_text() == "mine"
    assert not (tmp_path / "created-elsewhere").exists()


def test_a_desk_that_cannot_be_made_is_a_readable_error(tmp_path: Path) -> None:
    with pytest.raises(FleetError) as error:
        write_inputs(tmp_path / "gone" / ".fleet" / "desk" / "ag_1", [_result("a", "x")])
    assert "cannot be written" in error.value.message


def test_results_keep_the_order_in_which_they_were_named(tmp_path: Path) -> None:
    desk = tmp_path / ".fleet" / "desk" / "ag_1"
    files = write_inputs(desk, [_result("b", "x"), _result("a", "y", "plan.md"), _result("c", "")])
    assert [path.name for path in files] == ["result.md", "plan.md"]
    assert files[0].read_text() == "# b (scout)\n```\nx\n```\n\n\n# c (scout)\n(no text)\n"


def _result(agent: str, text: str, produces: str = "result.md") -> SourceResult:
    return SourceResult(agent=agent, persona="scout", status="complete", produces=produces, text=text)


async def test_whose_checkout_is_held_by_an_agent_with_a_question_is_a_need_in_another_session_too(lab: Lab) -> None:
    await lab.create("w1", persona="builder")
    await lab.asks("w1")
    other = lab.call(orchestrator="other")
    await lab.fleet.create(other, NewAgent(name="w2", task="work", persona="builder"))
    digest = await lab.fleet.wait(other)
    assert digest.needs == ("w2",)
    assert "NEEDS YOU w2 cannot start: w1 writes in this checkout and waits for an answer -> answer w1" in digest.text
    await lab.fleet.command(lab.call(), "w1", "red")
    assert (await lab.view("w2")).reason == "w1 writes in this checkout"
    assert (await lab.fleet.wait(other, timeout_seconds=0)).needs == ()


async def test_who_is_asked_by_the_holder_of_a_checkout_is_not_told_twice(lab: Lab) -> None:
    await lab.create("w1", persona="builder")
    await lab.create("w2", persona="builder")
    await lab.asks("w1")
    assert (await lab.view("w2")).reason == "w1 writes in this checkout and waits for an answer"
    assert (await lab.wait()).needs == ("w1",)
    assert (await lab.wait("w2")).needs == ("w2",)
