"""What a turn changed, in the words of digest, output and detail: nothing silent, nothing credited wrongly."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from orchestrator.domain.activity import ActivityKind
from orchestrator.domain.text import MAX_LIST_BYTES, raw
from orchestrator.fleet.execution import looks
from orchestrator.provisioning import snapshots
from tests.fixtures.repositories import git, repository
from tests.fleet.scripted import Lab, at_work, eventually, open_lab

pytestmark = pytest.mark.anyio


@pytest.fixture
async def repo(tmp_path: Path) -> AsyncGenerator[Lab]:
    """A fleet whose project is a git checkout with one file."""
    repository(tmp_path / "project")
    async with open_lab(tmp_path) as lab:
        yield lab


@pytest.mark.requirement("checkout:changes:own-commits")
async def test_an_agent_that_only_commits_is_told_with_commit_branch_and_files(repo: Lab) -> None:
    (repo.project / "a.py").write_text("two\n")
    await repo.create("ship", persona="builder")
    await at_work(repo, "ship")
    git(repo.project, "switch", "--quiet", "-c", "release")
    git(repo.project, "commit", "--quiet", "-am", "ship it")
    made = git(repo.project, "rev-parse", "HEAD")[:8]
    repo.finish("ship", "shipped")
    told = f"commit {made} on branch release: 1 file +1 -1 (a.py)"
    assert f"· {told}]" in (await repo.wait("ship")).text
    assert (await repo.fleet.output(repo.call(), "ship")).changes == told


async def test_a_pull_is_told_as_a_move_of_head(repo: Lab) -> None:
    git(repo.project, "branch", "old")
    (repo.project / "b.py").write_text("b\n")
    git(repo.project, "add", ".")
    git(repo.project, "commit", "--quiet", "-m", "more")
    await repo.create("build", persona="builder")
    await at_work(repo, "build")
    git(repo.project, "switch", "--quiet", "old")
    repo.finish("build")
    assert 'no files changed; HEAD moved: "main ' in (await repo.wait("build")).text


@pytest.mark.requirement("checkout:changes:unknown-with-reason")
@pytest.mark.parametrize("place", [".git/HEAD", ".git/index", ".gitattributes"])
async def test_what_makes_the_changes_unknown_is_told_with_its_reason(repo: Lab, place: str) -> None:
    path = repo.project / place
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    await repo.create("build", persona="builder")
    await at_work(repo, "build")
    repo.finish("build")
    text = (await repo.wait("build")).text
    assert "[build complete · $0.01 · changes unknown: " in text
    (turn,) = (await repo.fleet.detail(repo.call(), "build")).turns
    reason = f"changes unknown: {turn.changes_unknown}"
    assert f"{reason}]" in text
    assert raw(turn.changes_unknown).endswith("is not a regular file") or "would wait" in raw(turn.changes_unknown)
    page = await repo.fleet.output(repo.call(), "build")
    assert page.changes == reason
    (deleted,) = await repo.fleet.delete(repo.call(), ["build"])
    assert f"what turn 1 changed is unknown: {turn.changes_unknown}" in str(deleted.work)


@pytest.mark.requirement("wait:digest:changed-files-are-facts")
@pytest.mark.parametrize(
    "folder",
    [
        "packages/a-rather-long-name/source",
        f"packages/{'deeper/' * 30}source",
        f"пакеты/{'довольно длинное имя/' * 3}исходники",
        f"软件包/{'很长的目录名称/' * 5}来源",
    ],
    ids=["long", "longer than a line", "two bytes a letter", "three bytes a letter"],
)
async def test_twelve_changed_files_are_named_however_long_their_paths_are_and_the_others_counted(
    repo: Lab, folder: str
) -> None:
    await repo.create("build", persona="builder")
    await at_work(repo, "build")
    for number in range(14):
        path = repo.project / folder / f"component-{number:02}" / "view.tsx"
        path.parent.mkdir(parents=True)
        path.write_text("x\n")
    (repo.project / "b b.py").write_text("b\n")
    repo.finish("build")
    text = (await repo.wait("build")).text
    (names,) = re.findall(r"uncommitted: 15 files \+15 -0 \((.*)\)", text)
    shown = names.removesuffix(" and 3 more").split(", ")
    assert shown[0] == '"b b.py"'
    assert [one.strip('"')[-len("00/view.tsx") :] for one in shown[1:]] == [f"{at:02}/view.tsx" for at in range(11)]
    assert all(one.strip('"').startswith(folder[0]) and "…" in one for one in shown[1:])
    assert MAX_LIST_BYTES - 50 < len(names.encode()) <= MAX_LIST_BYTES


@pytest.mark.requirement("wait:digest:changed-files-are-facts")
async def test_a_path_is_named_whole_where_there_is_room_and_else_with_both_its_ends(repo: Lab) -> None:
    await repo.create("build", persona="builder")
    await at_work(repo, "build")
    for at, depth in enumerate((24, 80)):
        path = repo.project / str(at) / ("deeper/" * depth) / "view.tsx"
        path.parent.mkdir(parents=True)
        path.write_text("x\n")
    repo.finish("build")
    text = (await repo.wait("build")).text
    (names,) = re.findall(r"uncommitted: 2 files \+2 -0 \((.*)\)", text)
    whole, cut = names.split(", ")
    assert whole == f"0/{'deeper/' * 24}view.tsx"
    assert re.fullmatch(r"1/deeper/.*….*deeper/view\.tsx", cut)


async def test_outside_of_a_checkout_the_digest_says_why_changes_are_unknown(lab: Lab) -> None:
    await lab.create("build", persona="builder")
    lab.finish("build")
    assert 'changes unknown: "this directory is not a git checkout"]' in (await lab.wait("build")).text


@pytest.mark.requirement("checkout:look:bounded")
async def test_a_look_that_takes_time_is_told_as_what_the_agent_does_and_is_given_up(
    repo: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "TOLD_AFTER_SECONDS", 0.01)
    let_go, looked = asyncio.Event(), 0

    async def slow(*_: object) -> snapshots.CheckoutState:
        nonlocal looked
        looked += 1
        await let_go.wait()
        raise snapshots.TookTooLongError("looking took longer than 2s; tried again after 10m")

    monkeypatch.setattr(looks, "snapshot_before_turn", slow)
    await repo.create("build", persona="builder")

    async def says_so() -> bool:
        view = await repo.view("build")
        return view.activity is not None and view.activity.kind == ActivityKind.LOOKING

    try:
        await eventually(says_so)
        assert (await repo.view("build")).reason == "looking at the checkout"
    finally:
        let_go.set()
    await at_work(repo, "build")
    (turn,) = (await repo.fleet.detail(repo.call(), "build")).turns
    assert raw(turn.changes_unknown) == "looking took longer than 2s; tried again after 10m"
    await repo.asks("build")
    await repo.fleet.answer(repo.call(), "build", "yes")
    repo.finish("build")
    assert 'changes unknown: "looking took longer than 2s' in (await repo.wait("build")).text
    assert looked == 1, "a turn that is resumed does not take its own work for what was there before"
