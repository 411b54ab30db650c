"""Fleet's git sees the repository that the user's git sees, and runs nothing to do so."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.domain.checkout import CheckoutDiff
from orchestrator.provisioning import snapshots
from orchestrator.provisioning.changes import difference, location
from orchestrator.provisioning.files import ChangesUnknownError
from orchestrator.provisioning.snapshots import snapshot
from tests.fixtures.repositories import git, repository

pytestmark = pytest.mark.anyio
PULLING = ("-c", "protocol.file.allow=always")


async def turn(checkout: Path, state: Path, work: Callable[[], object]) -> CheckoutDiff:
    """What Fleet says that this work changed."""
    before = await snapshot(checkout, state)
    work()
    return await difference(checkout, state, before, await snapshot(checkout, state))


def commit(checkout: Path, name: str, text: str, *, message: str = "more") -> str:
    """Commit one file; the commit, as Fleet shows it."""
    (checkout / name).write_text(text)
    git(checkout, "add", name)
    git(checkout, "commit", "--quiet", "-m", message)
    return git(checkout, "rev-parse", "HEAD")


# repositories of every kind


@pytest.mark.requirement("checkout:look:as-the-users-git")
async def test_a_sha256_repository_is_read_like_any_other(tmp_path: Path, state: Path) -> None:
    checkout = repository(tmp_path / "checkout", "--object-format=sha256")
    made = ""

    def work() -> None:
        nonlocal made
        (checkout / "a.py").write_text("two\n")
        made = commit(checkout, "b.py", "b\n")

    found = await turn(checkout, state, work)
    assert (found.files, found.insertions, found.deletions) == (("a.py", "b.py"), 2, 1)
    assert found.committed is not None
    assert found.committed.commit == made
    assert await location(checkout, state, ("a.py", "b.py")) == "this checkout, 1 of 2 files uncommitted"


@pytest.mark.parametrize("autocrlf", ["true", "input"])
@pytest.mark.parametrize("scope", ["--local", "--global"])
@pytest.mark.requirement("checkout:look:as-the-users-git")
async def test_line_ends_are_converted_as_the_users_git_does(
    home: Path, checkout: Path, state: Path, autocrlf: str, scope: str
) -> None:
    git(checkout, "config", scope, "core.autocrlf", autocrlf)
    commit(checkout, "a.py", "one\r\ntwo\r\n")
    assert git(checkout, "status", "--short") == ""
    assert await location(checkout, state, ("a.py",)) == f"this checkout, committed ({head(checkout)})"
    found = await turn(checkout, state, lambda: (checkout / "a.py").write_text("one\r\n2\r\n"))
    assert (found.files, found.insertions, found.deletions) == (("a.py",), 1, 1)


@pytest.mark.parametrize("how", ["default", "named", "included"])
@pytest.mark.requirement("checkout:look:as-the-users-git")
async def test_the_users_own_ignore_file_counts(home: Path, checkout: Path, state: Path, how: str) -> None:
    rules = home / (".config/git/ignore" if how == "default" else "my-ignores")
    rules.parent.mkdir(parents=True, exist_ok=True)
    rules.write_text("*.swp\n.idea/\n")
    if how != "default":
        file = home / (".gitconfig" if how == "named" else "more.config")
        file.write_text("[core]\n\texcludesFile = ~/my-ignores\n")
    if how == "included":
        (home / ".gitconfig").write_text('[include]\n\tpath = "more.config"\n')

    def work() -> None:
        (checkout / ".idea").mkdir()
        for name in ("a.swp", ".idea/x.xml", "real.py"):
            (checkout / name).write_text("x\n")

    assert (await turn(checkout, state, work)).files == ("real.py",)
    rules.write_text("real.py\n")
    assert (await turn(checkout, state, lambda: (checkout / "real.py").write_text("y\n"))).files == ()


async def test_a_rule_that_comes_later_takes_its_files_out(checkout: Path, state: Path) -> None:
    (checkout / "build.log").write_text("x\n")
    await snapshot(checkout, state)
    (checkout / ".gitignore").write_text("*.log\n")
    found = await turn(checkout, state, lambda: (checkout / "build.log").write_text("y\n"))
    assert found.files == ()


def lfs(text: str) -> str:
    """The pointer of Git LFS to this content."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(text)}\n"


@pytest.fixture
def filters(checkout: Path, home: Path, tmp_path: Path) -> Path:
    """A clean filter like that of LFS, which leaves a trace where it runs; the canary."""
    canary, clean = tmp_path / "canary", tmp_path / "clean"
    clean.write_text(
        f"#!/bin/sh\ntouch {canary}\ncat > {tmp_path}/content\nd=$(sha256sum < {tmp_path}/content | cut -c1-64)\n"
        f"printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:%s\\nsize %s\\n'"
        f" $d $(stat -c %s {tmp_path}/content)\n"
    )
    clean.chmod(0o755)
    git(checkout, "config", "--global", "filter.big.clean", str(clean))
    commit(checkout, ".gitattributes", "*.bin filter=big\n")
    return canary


@pytest.mark.requirement("checkout:look:filters-never-run")
async def test_a_filtered_file_that_is_committed_is_not_called_uncommitted(
    checkout: Path, state: Path, filters: Path
) -> None:
    made = commit(checkout, "model.bin", "weights\n")
    assert git(checkout, "show", "HEAD:model.bin") == lfs("weights\n").strip()
    filters.unlink()

    def work() -> None:
        nonlocal made
        made = commit(checkout, "model.bin", "better\n")
        filters.unlink()

    found = await turn(checkout, state, work)
    assert (found.files, found.files_changed, found.insertions, found.deletions) == (("model.bin",), 1, 0, 0)
    assert await location(checkout, state, ("model.bin",)) == f"this checkout, committed ({made[:8]})"
    os.utime(checkout / "model.bin")  # git's index knows nothing any more, the pointer does
    assert await location(checkout, state, ("model.bin",)) == f"this checkout, committed ({made[:8]})"
    (checkout / "model.bin").write_text("other\n")
    assert await location(checkout, state, ("model.bin",)) == "this checkout, uncommitted"
    assert not filters.exists(), "Fleet ran the filter"


@pytest.mark.requirement("checkout:look:filters-never-run")
async def test_what_only_a_filter_knows_is_said_to_be_unknown(checkout: Path, state: Path, filters: Path) -> None:
    git(checkout, "config", "--global", "filter.big.clean", f"touch {filters}; tr a-z A-Z")
    made = commit(checkout, "text.bin", "weights\n")
    filters.unlink()
    assert await location(checkout, state, ("text.bin",)) == f"this checkout, committed ({made[:8]})"
    os.utime(checkout / "text.bin", ns=(1, 1))
    assert await location(checkout, state, ("text.bin", "a.py")) == (
        "this checkout, 1 of 2 files unknown: filter big is not run"
    )
    assert not filters.exists(), "Fleet ran the filter"


async def test_a_first_look_reads_no_file_that_the_users_index_knows(checkout: Path, state: Path) -> None:
    for number in range(20):
        commit(checkout, f"{number}.txt", f"{number}\n" * 1000)
    git(checkout, "update-index", "--refresh")
    await snapshot(checkout, state)
    objects = [path for path in state.glob("git/*/objects/??/*") if path.is_file()]
    assert objects == []


@pytest.mark.parametrize("index", ["pipe", "nonsense", "split", "sparse", "old"])
async def test_whatever_the_users_index_is_the_changes_are_found(checkout: Path, state: Path, index: str) -> None:
    commit(checkout, "b.py", "b\n")
    file = checkout / ".git" / "index"
    if index == "pipe":
        file.unlink()
        os.mkfifo(file)
    elif index == "nonsense":
        file.write_bytes(b"DIRC" + b"\xff" * 100)
    elif index == "split":
        git(checkout, "update-index", "--split-index")
    elif index == "sparse":
        git(checkout, "sparse-checkout", "set", "--cone", "--sparse-index", "nowhere")
    else:
        git(checkout, "update-index", "--index-version", "4")
    if index == "pipe":
        with pytest.raises(ChangesUnknownError, match=r"index.*not a regular file"):
            await snapshot(checkout, state)
        return
    assert (await turn(checkout, state, lambda: (checkout / "a.py").write_text("x\n"))).files == ("a.py",)


# commits


@pytest.mark.requirement("checkout:changes:own-commits")
async def test_a_commit_on_a_new_branch_is_told_with_what_is_in_it(checkout: Path, state: Path) -> None:
    (checkout / "a.py").write_text("two\n")  # the builder's
    (checkout / "b.py").write_text("b\n")
    made = ""

    def ship() -> None:
        nonlocal made
        git(checkout, "switch", "--quiet", "-c", "feature/x")
        git(checkout, "add", ".")
        git(checkout, "commit", "--quiet", "-m", "ship")
        made = git(checkout, "rev-parse", "HEAD")

    found = await turn(checkout, state, ship)
    assert (found.files, found.commits, found.moved) == ((), 1, "")
    assert found.committed is not None
    assert (found.committed.commit, found.committed.branch) == (made, "feature/x")
    assert (found.committed.files, found.committed.insertions, found.committed.deletions) == (("a.py", "b.py"), 2, 1)


async def test_a_commit_on_a_branch_that_was_left_again_counts(checkout: Path, state: Path) -> None:
    def work() -> None:
        git(checkout, "switch", "--quiet", "-c", "side")
        commit(checkout, "s.py", "s\n")
        git(checkout, "switch", "--quiet", "main")

    found = await turn(checkout, state, work)
    assert (found.files, found.commits) == ((), 1)
    assert found.committed is not None
    assert (found.committed.branch, found.committed.files) == ("side", ("s.py",))


@pytest.mark.parametrize("how", ["amend", "rebase", "cherry-pick", "revert", "am", "initial", "merge"])
async def test_every_way_to_make_a_commit_counts(checkout: Path, state: Path, how: str) -> None:
    git(checkout, "switch", "--quiet", "-c", "side")
    commit(checkout, "s.py", "s\n")
    patch = git(checkout, "format-patch", "--stdout", "-1")
    git(checkout, "switch", "--quiet", "main")
    commit(checkout, "m.py", "m\n")
    (checkout / "patch").write_text(patch + "\n")
    words = {
        "amend": ("commit", "--quiet", "--amend", "-m", "better"),
        "rebase": ("rebase", "--quiet", "main", "side"),
        "cherry-pick": ("cherry-pick", "side"),
        "revert": ("revert", "--no-edit", "HEAD"),
        "am": ("am", "--quiet", "patch"),
        "initial": ("switch", "--quiet", "--orphan", "fresh"),
        "merge": ("merge", "--quiet", "--no-edit", "side"),
    }

    def work() -> None:
        git(checkout, *words[how])
        if how == "initial":
            commit(checkout, "first.py", "1\n")

    found = await turn(checkout, state, work)
    assert found.commits == 1
    assert found.committed is not None
    assert found.committed.commit == git(checkout, "rev-parse", "HEAD")


@pytest.fixture
def clone(checkout: Path, tmp_path: Path) -> Path:
    """A clone of the checkout, which has two new commits and the branch `other`."""
    place = tmp_path / "clone"
    git(tmp_path, *PULLING, "clone", "--quiet", str(checkout), "clone")
    git(checkout, "switch", "--quiet", "-c", "other")
    commit(checkout, "other.py", "o\n")
    git(checkout, "switch", "--quiet", "main")
    for number in range(2):
        commit(checkout, f"{number}.py", "x\n")
    return place


@pytest.mark.parametrize("logs", ["true", "false"])
@pytest.mark.parametrize("how", ["pull", "by url", "merge", "checkout", "branch", "reset"])
@pytest.mark.requirement("checkout:changes:own-commits")
async def test_commits_that_were_fetched_or_checked_out_are_not_the_agents(
    clone: Path, checkout: Path, state: Path, how: str, logs: str
) -> None:
    git(clone, "config", "core.logAllRefUpdates", logs)
    if logs == "false":
        shutil.rmtree(clone / ".git" / "logs")
    fetch = (*PULLING, "fetch", "--quiet")
    if how in {"checkout", "branch", "reset"}:
        git(clone, *fetch)

    def work() -> None:
        if how == "pull":
            git(clone, *PULLING, "pull", "--quiet", "--ff-only")
        elif how == "by url":
            git(clone, *PULLING, "pull", "--quiet", "--ff-only", str(checkout), "main")
        elif how == "merge":
            git(clone, *fetch)
            git(clone, "merge", "--quiet", "origin/main")
        elif how == "checkout":
            git(clone, "checkout", "--quiet", "origin/other")
        elif how == "branch":
            git(clone, "switch", "--quiet", "other")
        else:
            git(clone, "reset", "--quiet", "--hard", "origin/main")

    found = await turn(clone, state, work)
    assert (found.files, found.files_changed, found.commits, found.committed) == ((), 0, 0, None)
    assert found.files_moved == (1 if how in {"checkout", "branch"} else 2)
    assert found.moved.startswith("main ")
    assert found.moved.endswith(git(clone, "rev-parse", "HEAD")[:8])


async def test_own_edits_beside_a_pull_count_and_the_pulled_files_do_not(
    clone: Path, checkout: Path, state: Path
) -> None:
    def work() -> None:
        commit(clone, "mine.py", "m\n")
        git(clone, *PULLING, "pull", "--quiet", "--rebase")
        (clone / "open.py").write_text("o\n")

    found = await turn(clone, state, work)
    assert found.files == ("mine.py", "open.py")
    assert (found.commits, found.files_moved) == (1, 2)


async def test_a_commit_that_was_pushed_is_still_the_agents(clone: Path, checkout: Path, state: Path) -> None:
    def work() -> None:
        git(clone, "switch", "--quiet", "-c", "mine")
        commit(clone, "mine.py", "m\n")
        git(clone, *PULLING, "push", "--quiet", "origin", "mine")

    found = await turn(clone, state, work)
    assert (found.commits, found.files) == (1, ("mine.py",))


def head(checkout: Path) -> str:
    """The commit at HEAD, as Fleet shows it."""
    return git(checkout, "rev-parse", "HEAD")[:8]


# repositories inside


@pytest.mark.parametrize("kind", ["submodule", "clone"])
@pytest.mark.requirement("checkout:changes:inner-repositories")
async def test_edits_and_commits_in_repositories_inside_are_named_below_their_path(
    checkout: Path, state: Path, tmp_path: Path, kind: str
) -> None:
    origin = repository(tmp_path / "origin", name="inner.py")
    words = ["submodule", "add", "--quiet"] if kind == "submodule" else ["clone", "--quiet"]
    git(checkout, *PULLING, *words, str(origin), "libs/inner")
    if kind == "submodule":
        git(checkout, "commit", "--quiet", "-m", "inner")
    inner = checkout / "libs" / "inner"
    assert (await turn(checkout, state, lambda: None)).files == ()

    def work() -> None:
        (inner / "inner.py").write_text("two\n")
        (checkout / "a.py").write_text("two\n")

    found = await turn(checkout, state, work)
    assert (found.files, found.insertions, found.deletions) == (("a.py", "libs/inner/inner.py"), 2, 2)
    assert await location(checkout, state, found.files) == "this checkout, uncommitted"
    found = await turn(checkout, state, lambda: commit(inner, "inner.py", "two\n"))
    assert found.files == ()
    assert found.committed is not None
    assert (found.committed.inside, found.committed.files) == ("libs/inner", ("libs/inner/inner.py",))
    assert await location(checkout, state, ("libs/inner/inner.py",)) == f"this checkout, committed ({head(checkout)})"


async def test_a_repository_that_appears_or_goes_is_one_change(checkout: Path, state: Path, tmp_path: Path) -> None:
    inner = checkout / "inner"
    assert (await turn(checkout, state, lambda: repository(inner))).files == ("inner/",)
    assert (await turn(checkout, state, lambda: shutil.rmtree(inner))).files == ("inner/",)


# places that trap git


PIPES = (
    ".git/HEAD", ".git/config", ".git/refs/heads/main", ".git/info/exclude",
    ".git/info/attributes", ".git/objects/info/alternates", ".git/objects/info/commit-graph",
    ".git/objects/pack/pack-1.idx", ".gitignore", ".gitattributes", "sub/.gitignore", "sub/deep/.gitattributes",
    "nested/.git/HEAD", "nested/.git",
)  # fmt: skip


@pytest.mark.parametrize("place", PIPES)
@pytest.mark.requirement("checkout:look:nothing-waits")
async def test_a_pipe_in_the_place_of_a_file_is_found_before_git_waits_for_it(
    checkout: Path, state: Path, place: str
) -> None:
    path = checkout / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(ChangesUnknownError) as error:
        await snapshot(checkout, state, seconds=60)
    assert path.name in str(error.value)
    assert "took longer" not in str(error.value)


@pytest.mark.requirement("checkout:look:nothing-waits")
async def test_a_pipe_that_an_included_configuration_or_another_store_names_is_not_opened(
    checkout: Path, state: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    made, other = git(checkout, "rev-parse", "HEAD"), repository(tmp_path / "other")
    git(checkout, "config", "include.path", str(tmp_path / "pipe"))
    assert (await snapshot(checkout, state, seconds=60)).head == made
    assert (await turn(checkout, state, lambda: (checkout / "a.py").write_text("x\n"))).files == ("a.py",)
    (other / ".git" / "objects" / "info" / "alternates").write_text(f"{tmp_path}/third\n")
    (tmp_path / "third" / "info").mkdir(parents=True)
    os.mkfifo(tmp_path / "third" / "info" / "alternates")
    (checkout / ".git" / "objects" / "info" / "alternates").write_text(f"{other}/.git/objects\n")
    with pytest.raises(ChangesUnknownError, match="third/info/alternates is not a regular file"):
        await snapshot(checkout, state, seconds=60)


@pytest.mark.requirement("checkout:look:nothing-waits")
async def test_a_pipe_that_was_found_too_late_is_named_and_not_waited_for_again(
    checkout: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.provisioning.own_git.MAX_WALKED", 0)
    monkeypatch.setattr(snapshots, "LOOK_SECONDS", 0.5)
    deep = checkout / "sub" / "deep"
    deep.mkdir(parents=True)
    os.mkfifo(deep / ".gitignore")
    for _ in range(2):
        with pytest.raises(ChangesUnknownError, match=r"deep/\.gitignore is not a regular file.*again after 10m"):
            await snapshots.snapshot_before_turn(checkout, state)
        monkeypatch.setattr(snapshots, "snapshot", None)  # the second time it is not even tried
