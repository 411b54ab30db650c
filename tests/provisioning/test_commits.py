"""Which commits are a turn's, and what is in them, however git was used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.domain.checkout import CheckoutDiff
from orchestrator.provisioning.changes import difference, location
from orchestrator.provisioning.snapshots import snapshot
from tests.fixtures.repositories import git, repository

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("checkout:changes:own-commits")]
LOCAL = ("-c", "protocol.file.allow=always")


async def turn(checkout: Path, work: Callable[[], object]) -> CheckoutDiff:
    """What Fleet says that this work changed."""
    state = checkout.parent / "state"
    before = await snapshot(checkout, state)
    work()
    return await difference(checkout, state, before, await snapshot(checkout, state))


def commit(checkout: Path, name: str, text: str) -> str:
    """Commit one file; returns the commit."""
    (checkout / name).write_text(text)
    git(checkout, "add", name)
    git(checkout, "commit", "--quiet", "-m", f"{name} is {text}")
    return git(checkout, "rev-parse", "HEAD")


@pytest.mark.parametrize("how", ["all", "old", "gone"])
async def test_commits_count_when_git_drops_old_entries_of_its_log_meanwhile(checkout: Path, how: str) -> None:
    for number in range(5):
        commit(checkout, "a.py", f"{number}\n")
    log = checkout / ".git" / "logs" / "HEAD"

    def work() -> None:
        for number in range(3):
            commit(checkout, f"new{number}.py", "x\n")
        if how == "all":
            git(checkout, "reflog", "expire", "--expire=now", "--all")
        elif how == "old":  # as `git gc` does with entries of 90 days ago
            log.write_text("".join(log.read_text().splitlines(keepends=True)[2:]))
        else:
            log.unlink()

    found = await turn(checkout, work)
    assert (found.commits, found.files) == (3, ("new0.py", "new1.py", "new2.py"))
    assert found.moved == ""


async def test_a_branch_with_older_commits_is_not_the_turns_where_the_log_was_emptied(checkout: Path) -> None:
    git(checkout, "switch", "--quiet", "-c", "feature")
    (checkout / "f.py").write_text("f\n")
    git(checkout, "add", ".")
    old = ("GIT_COMMITTER_DATE=2020-01-01T00:00:00", "GIT_AUTHOR_NAME=u", "GIT_AUTHOR_EMAIL=u@x")
    committer = ("GIT_COMMITTER_NAME=u", "GIT_COMMITTER_EMAIL=u@x")
    git(checkout, "-c", f"alias.then=!env {' '.join((*old, *committer))} git commit --quiet -m f", "then")
    git(checkout, "switch", "--quiet", "main")

    def work() -> None:
        git(checkout, "switch", "--quiet", "feature")
        git(checkout, "reflog", "expire", "--expire=now", "--all")

    found = await turn(checkout, work)
    assert (found.commits, found.files, found.files_moved) == (0, (), 1)


async def test_a_commit_in_a_shallow_clone_is_told(checkout: Path, tmp_path: Path) -> None:
    commit(checkout, "a.py", "two\n")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{checkout}", "shallow")
    found = await turn(tmp_path / "shallow", lambda: commit(tmp_path / "shallow", "b.py", "b\n"))
    assert (found.commits, found.files) == (1, ("b.py",))
    found = await turn(tmp_path / "shallow", lambda: git(tmp_path / "shallow", "commit", "--amend", "-q", "-m", "x"))
    assert (found.commits, found.committed and found.committed.files) == (1, ("b.py",))


async def test_what_was_resolved_by_hand_in_a_merge_is_the_turns_and_what_came_with_it_is_not(checkout: Path) -> None:
    git(checkout, "switch", "--quiet", "-c", "side")
    commit(checkout, "a.py", "side\n")
    commit(checkout, "came.py", "c\n")
    git(checkout, "switch", "--quiet", "main")
    commit(checkout, "a.py", "main\n")

    def work() -> None:
        git(checkout, "-c", "alias.try=!git merge --quiet side || true", "try")
        (checkout / "a.py").write_text("both\n")
        git(checkout, "commit", "--quiet", "-am", "merged")

    found = await turn(checkout, work)
    assert (found.files, found.insertions, found.deletions) == (("a.py",), 1, 1)
    assert (found.commits, found.files_moved) == (1, 1)
    assert found.committed is not None
    assert found.committed.files == ("a.py",)


async def test_a_file_that_git_merged_by_itself_is_not_the_turns_although_it_is_as_in_no_parent(checkout: Path) -> None:
    lines = [f"{number}\n" for number in range(60)]
    commit(checkout, "f", "".join(lines))
    git(checkout, "switch", "--quiet", "-c", "side")
    commit(checkout, "f", "".join([*lines[:50], "side\n", *lines[51:]]))
    git(checkout, "switch", "--quiet", "main")
    commit(checkout, "f", "".join([*lines[:5], "main\n", *lines[6:]]))
    found = await turn(checkout, lambda: git(checkout, "merge", "--quiet", "--no-edit", "side"))
    assert (found.files, found.commits, found.files_moved) == ((), 1, 1)


async def test_a_picked_commit_counts_whatever_its_subject_begins_with(checkout: Path) -> None:
    git(checkout, "switch", "--quiet", "-c", "side")
    (checkout / "lane").write_text("x\n")
    git(checkout, "add", "lane")
    git(checkout, "commit", "--quiet", "-m", "fast-forward the lane")
    git(checkout, "switch", "--quiet", "main")
    commit(checkout, "b.py", "b\n")
    found = await turn(checkout, lambda: git(checkout, "cherry-pick", "side"))
    assert (found.commits, found.files) == (1, ("lane",))


async def test_an_edit_that_was_committed_and_reverted_is_no_file_of_the_turn(checkout: Path) -> None:
    def work() -> None:
        commit(checkout, "a.py", "two\n")
        git(checkout, "revert", "--no-edit", "HEAD")

    found = await turn(checkout, work)
    assert (found.commits, found.files, found.insertions, found.deletions) == (2, (), 0, 0)
    assert found.committed is not None
    assert (found.committed.files, found.committed.insertions, found.committed.deletions) == ((), 0, 0)


async def test_an_edit_that_was_committed_and_taken_back_in_the_folder_is_uncommitted(checkout: Path) -> None:
    def work() -> None:
        commit(checkout, "a.py", "two\n")
        (checkout / "a.py").write_text("one\n")

    found = await turn(checkout, work)
    assert (found.commits, found.files) == (1, ("a.py",))
    assert await location(checkout, checkout.parent / "state", found.files) == "this checkout, uncommitted"


async def test_several_commits_count_each_line_once(checkout: Path) -> None:
    (checkout / "a.py").write_text("one\ntwo\n")

    def work() -> None:
        git(checkout, "commit", "--quiet", "-am", "user's edit")
        commit(checkout, "b.py", "b\n")
        commit(checkout, "b.py", "c\n")

    found = await turn(checkout, work)
    assert found.committed is not None
    assert (found.committed.files, found.committed.insertions, found.committed.deletions) == (("a.py", "b.py"), 2, 0)


async def test_an_edit_in_a_submodule_and_its_new_commit_above_are_one_file(checkout: Path, tmp_path: Path) -> None:
    origin = repository(tmp_path / "origin", name="inner.py")
    git(checkout, *LOCAL, "submodule", "add", "--quiet", str(origin), "libs/inner")
    git(checkout, "commit", "--quiet", "-m", "inner")
    inner = checkout / "libs" / "inner"

    def work() -> None:
        commit(inner, "inner.py", "two\n")
        commit(checkout, "libs/inner/../../a.py", "two\n")
        git(checkout, "commit", "--quiet", "-am", "bump")

    found = await turn(checkout, work)
    assert (found.commits, found.files) == (3, ("a.py", "libs/inner/inner.py"))
    assert found.committed is not None
    assert found.committed.commit == git(checkout, "rev-parse", "HEAD")
    assert (found.committed.files, found.committed.files_changed) == (("a.py", "libs/inner/inner.py"), 2)
    assert (found.committed.insertions, found.committed.deletions) == (2, 2)
    found = await turn(checkout, lambda: git(inner, "checkout", "--quiet", "HEAD~1"))
    assert (found.files, found.commits) == ((), 0)
    found = await turn(checkout, lambda: git(checkout, "commit", "--quiet", "-am", "back"))
    assert found.committed is not None
    assert (found.committed.files, found.committed.insertions) == (("libs/inner",), 0)


@pytest.mark.parametrize("words", [("cherry-pick", "--ff", "side"), ("merge", "--quiet", "side"), ("rebase", "side")])
async def test_a_foreign_commit_to_which_head_is_forwarded_is_not_the_turns(
    checkout: Path, words: tuple[str, ...]
) -> None:
    git(checkout, "switch", "--quiet", "-c", "side")
    commit(checkout, "s.py", "s\n")
    git(checkout, "switch", "--quiet", "main")
    found = await turn(checkout, lambda: git(checkout, *words))
    assert (found.commits, found.files, found.files_moved) == (0, (), 1)


async def test_a_commit_that_was_thrown_away_again_is_none(checkout: Path) -> None:
    def work() -> None:
        commit(checkout, "a.py", "two\n")
        git(checkout, "reset", "--quiet", "--hard", "HEAD~1")

    found = await turn(checkout, work)
    assert (found.commits, found.committed, found.files, found.moved) == (0, None, (), "")
