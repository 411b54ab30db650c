"""Facts from git about a checkout, without running anything that the checkout configures."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.domain.checkout import CheckoutDiff, CheckoutState
from orchestrator.provisioning import own_git, snapshots
from orchestrator.provisioning.changes import difference, location
from orchestrator.provisioning.checkouts import checkout_of
from orchestrator.provisioning.files import ChangesUnknownError
from orchestrator.provisioning.snapshots import prune, snapshot

pytestmark = pytest.mark.anyio
IDENTITY = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_CONFIG_NOSYSTEM": "1",
}


def git(folder: Path, *words: str) -> str:
    """Git as a person uses it."""
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **IDENTITY}
    done = subprocess.run(["git", *words], cwd=folder, env=env, check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit of two files."""
    place = tmp_path / "checkout"
    place.mkdir()
    git(place, "init", "--quiet", "--initial-branch=main")
    (place / "a.txt").write_text("one\ntwo\nthree\n")
    (place / "b.txt").write_text("b\n")
    (place / ".gitignore").write_text("build/\n*.log\n")
    git(place, "add", ".")
    git(place, "commit", "--quiet", "-m", "first")
    return place


async def turn(checkout: Path, state: Path, work: Callable[[], object]) -> CheckoutDiff:
    """What Fleet says that this work changed."""
    before = await snapshot(checkout, state)
    work()
    return await difference(checkout, state, before, await snapshot(checkout, state))


async def test_edits_new_and_deleted_files_are_counted(checkout: Path, state: Path) -> None:
    def work() -> None:
        (checkout / "a.txt").write_text("one\n2\nthree\nfour\n")
        (checkout / "b.txt").unlink()
        (checkout / "sub").mkdir()
        (checkout / "sub" / "new ü\n.txt").write_text("x\n")

    found = await turn(checkout, state, work)
    assert found == CheckoutDiff(
        files=("a.txt", "b.txt", "sub/new ü\n.txt"), files_changed=3, insertions=3, deletions=2, commits=0
    )


async def test_nothing_changed_is_nothing(checkout: Path, state: Path) -> None:
    (checkout / "dirty.txt").write_text("from before\n")
    found = await turn(checkout, state, lambda: None)
    assert found == CheckoutDiff(files=(), files_changed=0, insertions=0, deletions=0, commits=0)


async def test_what_lay_there_before_is_not_the_turns(checkout: Path, state: Path) -> None:
    (checkout / "a.txt").write_text("somebody's edit\n")
    found = await turn(checkout, state, lambda: (checkout / "b.txt").write_text("mine\n"))
    assert found.files == ("b.txt",)


async def test_ignored_files_and_fleets_own_folder_do_not_count(checkout: Path, state: Path) -> None:
    (checkout / ".git" / "info" / "exclude").write_text("private\n")

    def work() -> None:
        for name in ("build/x", "noise.log", "private", ".fleet/desk/ag_1/result.md"):
            path = checkout / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x\n")

    assert (await turn(checkout, state, work)).files_changed == 0


async def test_a_tracked_file_counts_even_where_a_rule_ignores_it(checkout: Path, state: Path) -> None:
    (checkout / "kept.log").write_text("one\n")
    git(checkout, "add", "--force", "kept.log")
    git(checkout, "commit", "--quiet", "-m", "keep")
    found = await turn(checkout, state, lambda: (checkout / "kept.log").write_text("two\n"))
    assert found.files == ("kept.log",)


async def test_binary_files_count_as_files(checkout: Path, state: Path) -> None:
    found = await turn(checkout, state, lambda: (checkout / "x.bin").write_bytes(b"\0\1" * 100))
    assert (found.files, found.insertions, found.deletions) == (("x.bin",), 0, 0)


async def test_commits_of_the_turn_are_counted_and_their_files_too(checkout: Path, state: Path) -> None:
    def work() -> None:
        for number in range(2):
            (checkout / "a.txt").write_text(f"{number}\n")
            git(checkout, "commit", "--quiet", "-am", "more")

    found = await turn(checkout, state, work)
    assert (found.files, found.commits) == (("a.txt",), 2)


async def test_the_place_follows_what_others_do_with_the_changes(checkout: Path, state: Path) -> None:
    (checkout / "a.txt").write_text("x\n")
    (checkout / "b.txt").write_text("y\n")
    files = ("a.txt", "b.txt")
    assert await location(checkout, state, files) == "this checkout, uncommitted"
    git(checkout, "commit", "--quiet", "-m", "one", "a.txt")
    assert await location(checkout, state, files) == "this checkout, 1 of 2 files uncommitted"
    git(checkout, "commit", "--quiet", "-am", "two")
    head = git(checkout, "rev-parse", "HEAD")[:8]
    assert await location(checkout, state, files) == f"this checkout, committed ({head})"


async def test_a_file_called_like_a_pattern_is_that_file(checkout: Path, state: Path) -> None:
    (checkout / "*.txt").write_text("x\n")
    (checkout / ":(top)x").write_text("x\n")
    assert await location(checkout, state, ("*.txt", ":(top)x")) == "this checkout, uncommitted"


async def test_a_repository_without_a_commit_is_looked_at_too(tmp_path: Path, state: Path) -> None:
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    git(fresh, "init", "--quiet")
    found = await turn(fresh, state, lambda: (fresh / "a").write_text("x\n"))
    assert found.files == ("a",)
    assert await location(fresh, state, ("a",)) == "this checkout, uncommitted (no commit yet)"


async def test_a_first_commit_during_the_turn_is_counted(tmp_path: Path, state: Path) -> None:
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    git(fresh, "init", "--quiet")

    def work() -> None:
        (fresh / "a").write_text("x\n")
        git(fresh, "add", "a")
        git(fresh, "commit", "--quiet", "-m", "first")

    assert (await turn(fresh, state, work)).commits == 1


async def test_a_linked_worktree_is_a_checkout_of_its_own(checkout: Path, tmp_path: Path, state: Path) -> None:
    linked = tmp_path / "linked"
    git(checkout, "worktree", "add", "--quiet", str(linked))
    assert (linked / ".git").is_file()
    assert checkout_of(linked / "sub") == linked
    found = await turn(linked, state, lambda: (linked / "a.txt").write_text("x\n"))
    assert found.files == ("a.txt",)
    git(linked, "commit", "--quiet", "-am", "there")
    assert (await location(linked, state, ("a.txt",))).startswith("this checkout, committed")
    assert (await location(checkout, state, ("a.txt",))).startswith("this checkout, committed")


async def test_the_users_repository_is_not_touched(checkout: Path, state: Path) -> None:
    def listing() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in (checkout / ".git").rglob("*") if path.is_file()}

    before = listing()
    await turn(checkout, state, lambda: (checkout / "new.txt").write_text("x\n"))
    await location(checkout, state, ("new.txt",))
    assert listing() == before


async def test_nothing_that_a_repository_configures_is_run(checkout: Path, state: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    evil = tmp_path / "evil"
    evil.write_text(f'#!/bin/sh\necho "$0 $@" >> {canary}\ncat\n')
    evil.chmod(evil.stat().st_mode | stat.S_IXUSR)
    nested = checkout / "nested"
    nested.mkdir()
    git(nested, "init", "--quiet")
    (nested / "n.txt").write_text("n\n")
    git(nested, "add", ".")
    git(nested, "commit", "--quiet", "-m", "n")
    for repository in (checkout, nested):
        for key in (
            "core.fsmonitor", "core.sshCommand", "core.pager", "core.editor", "filter.evil.clean", "filter.evil.smudge",
            "filter.evil.process", "diff.evil.textconv", "diff.evil.command", "diff.external", "merge.evil.driver",
            "credential.helper", "remote.origin.uploadpack", "core.alternateRefsCommand", "gpg.program",
            "alias.write-tree", "alias.add",
        ):  # fmt: skip
            git(repository, "config", key, f"!{evil}" if key.startswith("alias") else str(evil))
        git(repository, "config", "remote.origin.url", str(tmp_path / "gone"))
        git(repository, "config", "remote.origin.promisor", "true")
        git(repository, "config", "submodule.recurse", "true")
        git(repository, "config", "include.path", str(tmp_path / "included"))
        (repository / ".gitattributes").write_text("* filter=evil diff=evil merge=evil\n")
        for hook in ("pre-commit", "post-index-change", "reference-transaction", "post-checkout", "fsmonitor-watchman"):
            path = repository / ".git" / "hooks" / hook
            path.parent.mkdir(exist_ok=True)
            path.symlink_to(evil)
    (tmp_path / "included").write_text(f"[core]\n\tfsmonitor = {evil}\n\thooksPath = {tmp_path}\n")
    git(checkout, "-c", "filter.evil.clean=cat", "-c", "core.fsmonitor=false", "add", "nested")  # a tracked one, too
    git(checkout, "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "commit", "--quiet", "-m", "nested")
    canary.unlink(missing_ok=True)

    def work() -> None:
        (checkout / "a.txt").write_text("ONE\ntwo\nthree\n")
        (nested / "n.txt").write_text("N\n")  # of the same size: only its content can tell

    for _ in range(2):
        assert "a.txt" in (await turn(checkout, state, work)).files
        (checkout / "a.txt").write_text("one\ntwo\nthree\n")
        (nested / "n.txt").write_text("M\n")
        await location(checkout, state, ("a.txt",))
    assert not canary.exists(), canary.read_text()
    git(checkout, "status")
    assert canary.exists(), "the trap does not even catch plain git"


async def test_a_head_that_is_not_there_fetches_nothing(checkout: Path, state: Path, tmp_path: Path) -> None:
    canary, evil = tmp_path / "canary", tmp_path / "evil"
    evil.write_text(f"#!/bin/sh\ntouch {canary}\n")
    evil.chmod(0o755)
    for key, value in (
        ("core.repositoryformatversion", "1"),
        ("extensions.partialclone", "origin"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.url", str(checkout)),
        ("remote.origin.uploadpack", str(evil)),
    ):
        git(checkout, "config", key, value)
    (checkout / ".git" / "refs" / "heads" / "main").write_text("1234567890" * 4 + "\n")
    try:
        await turn(checkout, state, lambda: (checkout / "a.txt").write_text("x\n"))
        await location(checkout, state, ("a.txt",))
    except ChangesUnknownError as error:
        assert str(error)  # noqa: PT017 - both outcomes are honest; that nothing was run is what counts
    assert not canary.exists()


async def test_a_nested_repository_without_a_commit_does_not_hide_other_changes(checkout: Path, state: Path) -> None:
    nested = checkout / "nested"
    nested.mkdir()
    git(nested, "init", "--quiet")
    (nested / "x").write_text("x\n")
    found = await turn(checkout, state, lambda: (checkout / "a.txt").write_text("x\n"))
    assert "a.txt" in found.files


async def test_a_lock_that_a_killed_daemon_left_does_not_freeze_the_facts(checkout: Path, state: Path) -> None:
    await snapshot(checkout, state)
    (own,) = (state / "git").iterdir()
    (own / "index.lock").touch()
    found = await turn(checkout, state, lambda: (checkout / "a.txt").write_text("x\n"))
    assert found.files == ("a.txt",)


async def test_a_half_made_directory_of_ours_is_made_whole(checkout: Path, state: Path) -> None:
    await snapshot(checkout, state)
    (own,) = (state / "git").iterdir()
    (own / "config").unlink()
    (own / "index").write_bytes(b"")
    (own / "HEAD").unlink()
    found = await turn(checkout, state, lambda: (checkout / "a.txt").write_text("x\n"))
    assert found.files == ("a.txt",)


async def test_many_looks_at_once_tell_the_same(checkout: Path, state: Path) -> None:
    import asyncio

    before = await snapshot(checkout, state)
    (checkout / "a.txt").write_text("x\n")
    found = await asyncio.gather(*[snapshot(checkout, state) for _ in range(6)])
    assert all(one == found[0] for one in found)
    assert (await difference(checkout, state, before, found[0])).files == ("a.txt",)


@pytest.mark.parametrize("link", [None, "", "gitdir: /nowhere/at/all\n", "gitdir: .\0x\n"])
async def test_what_is_no_checkout_is_said_to_be_unknown(tmp_path: Path, state: Path, link: str | None) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    if link is not None:
        (folder / ".git").write_text(link)
    with pytest.raises(ChangesUnknownError) as error:
        await turn(folder, state, lambda: None)
    assert str(error.value)


async def test_without_git_the_changes_are_unknown_with_the_reason(
    checkout: Path, state: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ChangesUnknownError) as error:
        await snapshot(checkout, state)
    assert "git cannot run" in str(error.value)


@pytest.mark.requirement("agent:self:never-own-orchestrator")
@pytest.mark.parametrize("place", [".git/info/exclude", ".git/commondir", ".git"])
@pytest.mark.parametrize("kind", ["endless", "pipe"])
async def test_a_file_of_the_repository_that_is_endless_makes_the_changes_unknown_at_once(
    checkout: Path, state: Path, place: str, kind: str
) -> None:
    path = checkout / place
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.touch()
        os.truncate(path, 2**40)  # more than any memory
    with pytest.raises(ChangesUnknownError) as error:
        await snapshot(checkout, state)
    assert str(checkout) in str(error.value)


@pytest.mark.requirement("agent:self:never-own-orchestrator")
@pytest.mark.parametrize("where", [".venv/bin", "tools", "", ".", "venv without git"])
async def test_a_git_that_lies_in_a_project_is_never_run(
    checkout: Path, state: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    canary = tmp_path / "canary"
    venv = tmp_path / "venv" / "bin"
    folder = venv if where == "venv without git" else checkout / where
    folder.mkdir(parents=True, exist_ok=True)
    if folder == venv:
        (venv.parent / "pyvenv.cfg").touch()
    (folder / "git").write_text(f"#!/bin/sh\ntouch {canary}\n")
    (folder / "git").chmod(0o755)
    own = where if where in {"", "."} else str(folder)
    monkeypatch.setenv("PATH", f"{own}:{os.environ['PATH']}")
    monkeypatch.chdir(checkout)
    assert "a.txt" in (await turn(checkout, state, lambda: (checkout / "a.txt").write_text("x\n"))).files
    assert not canary.exists()


@pytest.mark.requirement("agent:self:never-own-orchestrator")
async def test_a_link_to_a_git_in_a_project_is_not_run_and_a_later_one_does_not_take_its_place(
    checkout: Path, state: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    canary, early = tmp_path / "canary", tmp_path / "early"
    early.mkdir()
    evil = checkout / "evil"
    evil.write_text(f"#!/bin/sh\ntouch {canary}\n")
    evil.chmod(0o755)
    (early / "git").symlink_to(evil)
    monkeypatch.setenv("PATH", f"{early}:{os.environ['PATH']}")
    await snapshot(checkout, state)
    (early / "git").unlink()
    (early / "git").write_text(evil.read_text())
    (early / "git").chmod(0o755)
    await snapshot(checkout, state)
    assert not canary.exists()


async def test_a_git_that_hangs_is_given_up(
    checkout: Path, state: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slow = tmp_path / "git"
    slow.write_text("#!/bin/sh\nexec sleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(own_git, "GIT_SECONDS", 0.2)
    with pytest.raises(ChangesUnknownError) as error:
        await snapshot(checkout, state)
    assert "took longer" in str(error.value)


def head(checkout: Path) -> str:
    """The commit at HEAD, as Fleet shows it."""
    return git(checkout, "rev-parse", "HEAD")[:8]


def kept(state: Path) -> list[Path]:
    """The objects that Fleet keeps."""
    return [path for path in (state / "git").glob("*/objects/*/*") if path.parent.name not in {"info", "pack"}]


@pytest.mark.requirement("checkout:look:large-files-unread")
@pytest.mark.parametrize("tracked", [True, False])
async def test_a_large_file_is_compared_without_reading_it_and_nothing_of_it_is_kept(
    checkout: Path, state: Path, tracked: bool
) -> None:
    name = "a.txt" if tracked else "model.bin"
    before = await snapshot(checkout, state)
    (checkout / name).touch()
    os.truncate(checkout / name, 2**43)  # nobody could read it
    large = await snapshot(checkout, state)
    assert (await difference(checkout, state, before, large)).files == (name,)
    assert (await difference(checkout, state, large, await snapshot(checkout, state))).files == ()
    assert await location(checkout, state, (name,)) == "this checkout, uncommitted"
    os.truncate(checkout / name, 2**42)
    other = await snapshot(checkout, state)
    assert (await difference(checkout, state, large, other)).files == (name,)
    (checkout / name).write_text("small again\n")
    assert (await difference(checkout, state, other, await snapshot(checkout, state))).files == (name,)
    assert sum(path.stat().st_size for path in kept(state)) < 2**20


async def test_of_many_files_only_the_smaller_ones_are_read(
    checkout: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "MAX_READ_BYTES", 2**20)
    for number in range(5):
        (checkout / f"{number}.bin").write_bytes(b"x" * 2**19)
    before = await snapshot(checkout, state)
    assert sorted(before.large) == ["2.bin", "3.bin", "4.bin"]
    (checkout / "4.bin").write_bytes(b"y" * 2**19)
    (checkout / "0.bin").write_bytes(b"y" * 2**19)
    assert (await difference(checkout, state, before, await snapshot(checkout, state))).files == ("0.bin", "4.bin")
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "-m", "tracked")
    assert (await snapshot(checkout, state)).large == {}
    assert await location(checkout, state, ("0.bin", "4.bin")) == f"this checkout, committed ({head(checkout)})"


async def test_more_large_files_than_can_be_noted_make_the_changes_unknown(
    checkout: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "MAX_LARGE_FILES", 2)
    for number in range(3):
        (checkout / f"{number}.bin").touch()
        os.truncate(checkout / f"{number}.bin", 2**33)
    with pytest.raises(ChangesUnknownError, match=r"above 2: have git ignore 0\.bin and its like"):
        await snapshot(checkout, state)


async def test_a_git_that_was_killed_leaves_no_piece_of_a_file_and_is_not_started_again(
    checkout: Path, state: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = shutil.which("git")
    slow, said = tmp_path / "git", tmp_path / "said"
    slow.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *" --add "*) ;; *) exec {real} "$@" ;; esac\n'
        f"echo add >> {said}; cd {state}/git/*/objects; mkdir -p ab; touch ab/tmp_obj_x; exec sleep 600\n"
    )
    slow.chmod(0o755)
    (checkout / "new.txt").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ChangesUnknownError, match="looking took longer than 2s"):
        await snapshot(checkout, state, seconds=2)
    assert said.read_text() == "add\n"
    assert not list(state.glob("git/*/objects/*/tmp_*"))


async def test_what_no_open_turn_needs_is_dropped_once_it_takes_too_much_room(
    checkout: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[CheckoutState] = []
    for number in range(4):
        (checkout / "a.txt").write_text(f"{number}\n")
        looks.append(await snapshot(checkout, state))
    held = len(kept(state))

    async def needed() -> list[str]:
        return [looks[1].tree, "1234567890" * 4]

    await prune(checkout, state, needed)
    assert len(kept(state)) == held, "it is small"
    monkeypatch.setattr(snapshots, "MAX_KEPT_BYTES", 0)
    await prune(checkout, state, needed)
    assert len(kept(state)) == held, "it is of this hour"
    monkeypatch.setattr(snapshots, "EXPIRY", "now")
    await prune(checkout, state, needed)
    assert len(kept(state)) < held
    assert (await difference(checkout, state, looks[1], looks[3])).files == ("a.txt",)
    with pytest.raises(ChangesUnknownError):
        await difference(checkout, state, looks[0], looks[3])
    (checkout / "a.txt").write_text("0\n")
    assert await snapshot(checkout, state) == looks[0]


def test_the_checkout_is_the_nearest_one_above(checkout: Path, tmp_path: Path) -> None:
    deep = checkout / "x" / "y"
    deep.mkdir(parents=True)
    assert checkout_of(deep) == checkout
    assert checkout_of(tmp_path) is None
