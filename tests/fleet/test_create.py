"""Creation of agents: what is refused, what is idempotent, and what a name refers to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orchestrator.domain.agent import NewAgent
from orchestrator.domain.text import raw
from orchestrator.errors import ConflictError, FleetError, InvalidError, NotFoundError, RefusedError
from tests.fleet.scripted import Lab

pytestmark = pytest.mark.anyio


@pytest.mark.requirement("error:create:sent-twice", "agent:create:idempotency-key")
async def test_two_creates_with_one_key_give_one_agent(lab: Lab) -> None:
    first = await lab.create("a", key="k1")
    again = await lab.create("a", key="k1")
    assert again.agent.id == first.agent.id
    assert (first.existed, again.existed) == (False, True)
    assert (await lab.fleet.status(lab.call())).totals.agents == 1


async def test_creates_sent_at_the_same_moment_with_one_key_give_one_agent(lab: Lab) -> None:
    made = await asyncio.gather(*[lab.create("a", key="k1") for _ in range(8)])
    assert len({one.agent.id for one in made}) == 1
    assert sum(not one.existed for one in made) == 1


async def test_a_key_of_another_project_means_nothing_here(lab: Lab, tmp_path: Path) -> None:
    from orchestrator.domain.tool import CallContext, Caller

    mine = await lab.create("a", key="k1")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    caller = Caller(project=str(elsewhere), orchestrator="boss", cwd=str(elsewhere))
    other = await lab.fleet.create(CallContext(caller=caller, key="k1"), NewAgent(name="b", task="t", persona="scout"))
    assert other.agent.id != mine.agent.id
    assert other.agent.project == str(elsewhere)


@pytest.mark.requirement("error:name:taken")
async def test_a_taken_name_shows_who_holds_it(lab: Lab) -> None:
    held = await lab.create("a", key="k1")
    with pytest.raises(ConflictError) as error:
        await lab.create("a", key="k2")
    assert held.agent.id in str(error.value)
    assert "scout" in error.value.message
    assert "command_agent" in error.value.hint


async def test_of_two_creates_of_one_name_at_the_same_moment_one_wins(lab: Lab) -> None:
    made = await asyncio.gather(*[lab.create("a") for _ in range(4)], return_exceptions=True)
    assert sum(isinstance(one, ConflictError) for one in made) == 3


async def test_a_name_is_free_again_once_its_agent_is_deleted(lab: Lab) -> None:
    first = await lab.create("a")
    await lab.fleet.delete(lab.call(), ["a"])
    second = await lab.create("a")
    assert second.agent.id != first.agent.id
    assert (await lab.view("a")).id == second.agent.id
    assert (await lab.view(first.agent.id)).status == "deleted"


@pytest.mark.requirement("error:task:empty", "error:task:too-long", "error:text:nul", "error:text:unicode")
@pytest.mark.parametrize("task", ["", "  \n\t", "a\0b", "\ud800", "x" * (1024 * 1024)], ids=repr)
async def test_a_task_that_cannot_be_sent_creates_nothing(lab: Lab, task: str) -> None:
    with pytest.raises(InvalidError):
        await lab.create("a", task=task)
    assert (await lab.fleet.status(lab.call())).agents == ()


@pytest.mark.requirement("error:text:unicode")
async def test_odd_unicode_arrives_as_it_was_sent(lab: Lab) -> None:
    task = "Grüße \U0001d518\U0001d52b \u202eدرع\u200d 👩‍👩‍👧 \r\n\t end \u0007"
    await lab.create("a", task=task)
    await lab.becomes("a", "working")
    lab.finish("a", text=task)
    await lab.becomes("a", "complete")
    assert lab.provider.prompts["a"] == [task]
    assert (await lab.fleet.output(lab.call(), "a")).text == task


@pytest.mark.parametrize(
    "name",
    ["", " a", "a b", "a/b", "../a", "-a", ".a", "a\n", "ag_1", "x" * 65, "ä", "\ud800", "\u017fcout", "\u212a", "a\0"],
    ids=ascii,
)
async def test_a_name_that_would_break_lines_or_paths_is_refused(lab: Lab, name: str) -> None:
    with pytest.raises(InvalidError) as error:
        await lab.create(name)
    assert "1-64" in error.value.hint


@pytest.mark.requirement("error:limit:out-of-range")
@pytest.mark.parametrize("max_turns", [0, -1, 10**9])
async def test_max_turns_outside_its_range_is_refused_with_the_range(lab: Lab, max_turns: int) -> None:
    with pytest.raises(InvalidError) as error:
        await lab.fleet.create(lab.call(), NewAgent(name="a", task="t", max_turns=max_turns))
    assert "1 to" in error.value.hint


@pytest.mark.requirement("error:cwd:missing", "error:cwd:file", "error:cwd:outside-project")
@pytest.mark.parametrize("cwd", ["missing", "file.txt", "..", "/", "a\0b", "\ud800", "x" * 5000, "out"], ids=ascii)
async def test_a_cwd_that_cannot_be_used_is_refused(lab: Lab, cwd: str, tmp_path: Path) -> None:
    (lab.project / "file.txt").write_text("")
    (lab.project / "out").symlink_to(tmp_path)
    with pytest.raises((InvalidError, RefusedError)) as error:
        await lab.fleet.create(lab.call(), NewAgent(name="a", task="t", cwd=cwd))
    assert error.value.hint
    assert len(str(error.value)) < 1000


@pytest.mark.requirement("error:persona:unknown", "error:model:unknown-alias")
@pytest.mark.parametrize(
    "new",
    [
        NewAgent(name="a", task="t", persona="nobody"),
        NewAgent(name="a", task="t", persona="p" * 1_000_000),
        NewAgent(name="a", task="t", provider="nobody"),
        NewAgent(name="a", task="t", provider="p" * 1_000_000),
        NewAgent(name="a", task="t", inputs=("nobody",)),
        NewAgent(name="a", task="t", inputs=("",)),
        NewAgent(name="a", task="t", inputs=("\ud800",)),
        NewAgent(name="a", task="t", inputs=("i" * 1_000_000,)),
        NewAgent(name="a", task="t", inputs=tuple(f"n{i}" for i in range(51))),
    ],
    ids=lambda new: f"{new.persona[:9]}-{new.provider and new.provider[:9]}-{len(new.inputs)}-{new.inputs[:1]!a:.12}",
)
async def test_what_is_not_there_is_named_with_what_is(lab: Lab, new: NewAgent) -> None:
    with pytest.raises((InvalidError, NotFoundError)) as error:
        await lab.fleet.create(lab.call(), new)
    assert error.value.hint
    assert len(str(error.value)) < 1000


@pytest.mark.requirement("error:agent:unknown")
@pytest.mark.parametrize(
    "reference", ["", " ", "nobody", "\ud800", "a\0b", "ag_", "%", "x" * 1_000_000], ids=lambda r: f"{r!a:.12}"
)
async def test_an_agent_that_is_not_there_is_a_readable_error(lab: Lab, reference: str) -> None:
    await lab.create("a")
    with pytest.raises(FleetError) as error:
        await lab.view(reference)
    assert isinstance(error.value, NotFoundError | InvalidError)
    assert len(str(error.value)) < 1000


async def test_an_agent_is_found_by_id_beginning_of_id_or_name(lab: Lab) -> None:
    made = await lab.create("a")
    for reference in ("a", made.agent.id, made.agent.id[:12]):
        assert (await lab.view(reference)).id == made.agent.id


async def test_an_unknown_name_suggests_the_nearest(lab: Lab) -> None:
    await lab.create("scout-1")
    with pytest.raises(NotFoundError) as error:
        await lab.view("scout_1")
    assert "did you mean scout-1" in error.value.hint


@pytest.mark.requirement("handshake:project:own-fleet-only")
async def test_agents_of_another_project_are_not_found(lab: Lab, tmp_path: Path) -> None:
    from orchestrator.domain.tool import CallContext, Caller

    made = await lab.create("a")
    other = CallContext(caller=Caller(project=str(tmp_path), orchestrator="boss", cwd=str(tmp_path)))
    with pytest.raises(NotFoundError):
        await lab.fleet.command(other, made.agent.id, "t")
    assert (await lab.fleet.status(other)).agents == ()
    assert len((await lab.fleet.status(other, everyone=True)).agents) == 1


@pytest.mark.requirement("error:limit:out-of-range")
@pytest.mark.parametrize("limit", [0, -1, 6001, 10**30])
async def test_a_limit_outside_its_range_is_refused_with_the_range(lab: Lab, limit: int) -> None:
    await lab.create("a")
    lab.finish("a")
    await lab.becomes("a", "complete")
    with pytest.raises(InvalidError) as error:
        await lab.fleet.output(lab.call(), "a", limit=limit)
    assert "1 to 6000" in error.value.hint
    with pytest.raises(InvalidError):
        await lab.fleet.events(lab.call(), since=None, limit=limit)


@pytest.mark.requirement("error:offset:beyond-end")
@pytest.mark.parametrize("offset", [-1, 5, 10**30])
async def test_an_offset_beyond_the_end_names_the_length(lab: Lab, offset: int) -> None:
    await lab.create("a")
    lab.finish("a", text="done")
    await lab.becomes("a", "complete")
    with pytest.raises(InvalidError) as error:
        await lab.fleet.output(lab.call(), "a", offset=offset)
    assert "4 characters" in error.value.message
    assert (await lab.fleet.output(lab.call(), "a", offset=4)).text == ""


@pytest.mark.requirement("agent:output:bounded-and-paged", "agent:output:result-and-files")
async def test_pages_of_a_result_join_to_the_whole(lab: Lab) -> None:
    text = "".join(f"line {i} ü\n" for i in range(2000))
    await lab.create("a")
    lab.finish("a", text=text)
    await lab.becomes("a", "complete")
    page = await lab.fleet.output(lab.call(), "a", limit=5999)
    parts = [raw(page.text)]
    while page.next_offset is not None:
        page = await lab.fleet.output(lab.call(), "a", offset=page.next_offset, limit=5999)
        parts.append(raw(page.text))
    assert "".join(parts) == text
    assert page.path is not None
    assert Path(raw(page.path)).read_text() == text


@pytest.mark.parametrize("since", ["-1", "x", "1.5", "\u0661", "9" * 5000, "9" * 30], ids=lambda s: f"{s!a:.12}")
async def test_a_cursor_that_is_none_is_refused(lab: Lab, since: str) -> None:
    await lab.create("a")
    with pytest.raises(InvalidError):
        await lab.fleet.events(lab.call(), since=since)
    with pytest.raises(InvalidError):
        await lab.wait("a", since=since)


async def test_the_file_of_an_earlier_result_is_not_given_for_a_turn_without_one(lab: Lab) -> None:
    await lab.create("a")
    lab.finish("a", text="done")
    await lab.becomes("a", "complete")
    assert (await lab.fleet.output(lab.call(), "a")).path is not None
    await lab.fleet.command(lab.call(), "a", "more")
    lab.fail("a")
    await lab.becomes("a", "failed")
    page = await lab.fleet.output(lab.call(), "a")
    assert (page.turn, page.text, page.path) == (2, "", None)


async def test_a_result_of_an_agent_that_has_none_says_what_it_does(lab: Lab) -> None:
    await lab.create("a")
    with pytest.raises(NotFoundError) as error:
        await lab.fleet.output(lab.call(), "a")
    assert "no result yet" in error.value.message
    with pytest.raises(NotFoundError) as error:
        await lab.fleet.output(lab.call(), "a", turn=9)
    assert "turns 1 to 1" in error.value.hint
