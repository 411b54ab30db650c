"""Read-only git for agents: it tells what git tells, and runs, writes and reads nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from orchestrator.domain.git_call import checked_call
from orchestrator.errors import ConflictError, InvalidError
from orchestrator.provisioning.read_only_git import read_git

pytestmark = pytest.mark.anyio
WHO = {f"GIT_{role}_{what}": "ada@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def git(folder: Path, *words: str) -> str:
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "GIT_CONFIG_NOSYSTEM": "1", **WHO}
    command = ["git", "-c", "protocol.file.allow=always", *words]
    return subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with two commits and a change of each kind."""
    place = tmp_path / "repo"
    (place / "src").mkdir(parents=True)
    git(place, "init", "-q", "-b", "main")
    (place / "src" / "a.py").write_text("one\ntwo\n")
    git(place, "add", ".")
    git(place, "commit", "-qm", "first")
    git(place, "tag", "v1")
    (place / "src" / "a.py").write_text("one\nzwei\n")
    git(place, "commit", "-qam", "second")
    git(place, "pack-refs", "--all")
    (place / "src" / "a.py").write_text("one\ndrei\n")
    (place / "staged.py").write_text("new\n")
    git(place, "add", "staged.py")
    (place / "untracked.py").write_text("new\n")
    return place


async def said(cwd: Path, state: Path, command: str, *arguments: str) -> str:
    return (await read_git(cwd, state, checked_call(command, arguments))).text


@pytest.mark.requirement("agent:tools:read-only-git")
@pytest.mark.parametrize(
    "call",
    [
        ("log", "--oneline", "-n", "5"),
        ("log", "-S", "zwei", "--format=%s", "main"),
        ("log", "-p", "v1..HEAD", "--", "src"),
        ("log", "--all", "--stat", "--grep=first"),
        ("show", "--stat", "HEAD"),
        ("show", "HEAD~1:src/a.py"),
        ("diff",),
        ("diff", "--cached", "--name-status"),
        ("diff", "v1", "HEAD", "--", "src/a.py"),
        ("blame", "-s", "-L", "1,2", "HEAD", "src/a.py"),
        ("status", "--short", "--branch"),
    ],
)
async def test_it_says_what_git_says_here_and_in_a_linked_worktree(
    repo: Path, tmp_path: Path, call: tuple[str, ...]
) -> None:
    git(repo, "worktree", "add", "-q", "-b", "beside", str(tmp_path / "beside"))
    (tmp_path / "beside" / "src" / "a.py").write_text("changed\n")
    for place in (repo, tmp_path / "beside"):
        assert await said(place, tmp_path / "state", *call) == git(place, "--no-pager", *call)
    assert not list((tmp_path / "state" / "git").glob("view-*"))


@pytest.mark.requirement("agent:tools:read-only-git")
async def test_nothing_that_the_repository_configures_is_run(repo: Path, tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {proof}\ncat\n")
    program.chmod(0o755)
    for key in (
        *("diff.external", "diff.evil.textconv", "diff.evil.command", "core.pager", "core.fsmonitor", "gpg.program"),
        *("filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "core.sshCommand", "pager.log"),
    ):
        git(repo, "config", key, str(program))
    git(repo, "config", "log.showSignature", "true")
    git(repo, "config", "core.hooksPath", str(tmp_path))
    (tmp_path / "post-index-change").symlink_to(program)
    (repo / ".gitattributes").write_text("*.py diff=evil filter=evil\n")
    inner = repo / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    git(inner, "config", "core.fsmonitor", str(program))
    calls = (("log", "-p", "-2"), ("show",), ("diff",), ("diff", "HEAD"), ("blame", "src/a.py"), ("status",))
    proof.unlink(missing_ok=True)
    for call in calls:
        assert await said(repo, tmp_path / "state", *call)
    assert not proof.exists()
    git(repo, "diff", "--ext-diff")
    assert proof.exists()  # the user's own git would have run it


@pytest.mark.requirement("agent:tools:read-only-git")
@pytest.mark.parametrize(
    ("call", "why"),
    [
        (("push",), "not one of the commands"),
        (("log", "--output=x"), "may not have '--output=x'"),
        (("log", "--outp=x"), "may not have"),
        (("diff", "--no-index", "a", "b"), "may not have"),
        (("diff", "--ext-diff"), "may not have"),
        (("log", "--textconv"), "may not have"),
        (("log", "--format=%h %G?"), "may not have"),
        (("log", "--show-signature"), "may not have"),
        (("log", "--submodule=log"), "may not have"),
        (("blame", "--contents=/etc/passwd", "a"), "may not have"),
        (("diff", "/etc/passwd", "/etc/hosts"), "leads out of"),
        (("diff", "../x", "src/a.py"), "leads out of"),
        (("log", "--", "../x"), "leads out of"),
        (("log", "--", "--output=x"), "leads out of"),
        (("status", "-z\0"), "may not have"),
        (("log", *["-1"] * 51), "too many"),
    ],
)
def test_what_runs_writes_or_reads_elsewhere_is_refused(call: tuple[str, ...], why: str) -> None:
    with pytest.raises(InvalidError) as refused:
        checked_call(call[0], call[1:])
    assert why in refused.value.message
    assert refused.value.hint


@pytest.mark.requirement("agent:tools:read-only-git")
async def test_planted_files_tell_nothing_and_a_wrong_revision_is_said(repo: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the token\n")
    state = tmp_path / "state"
    with pytest.raises(InvalidError, match="ambiguous argument 'nonesuch'"):
        await said(repo, state, "log", "nonesuch")
    for name in ("packed-refs", "objects/info/alternates", "refs/heads/evil", "HEAD"):
        place = repo / ".git" / name
        kept = place.read_bytes() if place.exists() else None
        place.unlink(missing_ok=True)
        place.symlink_to(secret)
        try:
            told = await said(repo, state, "log", "--all")
        except (InvalidError, ConflictError) as error:
            told = str(error)
        assert "the token" not in told
        place.unlink()
        if kept is not None:
            place.write_bytes(kept)
    assert await said(repo, state, "log", "-1", "--format=%s") == "second\n"


@pytest.mark.requirement("agent:tools:read-only-git")
async def test_a_link_in_the_working_tree_leads_blame_nowhere(repo: Path, tmp_path: Path) -> None:
    (repo / "d").mkdir()
    (repo / "d" / "key").write_text("a placeholder\n")
    git(repo, "add", ".")
    git(repo, "commit", "-q", "-m", "with a folder")
    shutil.rmtree(repo / "d")
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "key").write_text("THE KEY\n")
    (repo / "d").symlink_to(tmp_path / "hidden")
    told = await said(repo, tmp_path / "state", "blame", "d/key")
    assert "a placeholder" in told
    assert "THE KEY" not in told


@pytest.mark.requirement("agent:tools:read-only-git")
async def test_it_reads_the_history_of_a_shallow_clone_to_its_end(repo: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{repo}", "shallow")
    for call in (("log", "--oneline"), ("show", "--stat"), ("blame", "HEAD", "src/a.py"), ("log", "--all", "-p")):
        expected = git(tmp_path / "shallow", "--no-pager", *call)
        assert await said(tmp_path / "shallow", tmp_path / "state", *call) == expected


@pytest.mark.requirement("agent:tools:read-only-git")
async def test_a_planted_list_of_shallow_commits_tells_nothing(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the token\n")
    (repo / ".git" / "shallow").symlink_to(tmp_path / "secret")
    assert await said(repo, tmp_path / "state", "log", "-1", "--format=%s") == "second\n"


@pytest.mark.requirement("agent:tools:read-only-git")
async def test_rules_of_the_user_and_of_the_repository_count(repo: Path, tmp_path: Path, home: Path) -> None:
    (home / "ignores").write_text("*.swp\n")
    (home / "attributes").write_text("*.txt -diff\n")
    git(repo, "config", "--global", "core.excludesFile", "~/ignores")
    git(repo, "config", "--global", "core.attributesFile", "~/attributes")
    (repo / ".git" / "info" / "attributes").write_text("*.py -diff\n")
    for name in ("x.txt", "x.swp"):
        (repo / name).write_text("x\n")
    git(repo, "add", "x.txt")
    for call in (("status", "--short"), ("diff",), ("diff", "--cached")):
        assert await said(repo, tmp_path / "state", *call) == git(repo, "--no-pager", *call)


@pytest.mark.requirement("agent:tools:read-only-git", "checkout:look:nothing-hides")
@pytest.mark.parametrize("mark", ["--assume-unchanged", "--skip-worktree"])
async def test_no_mark_in_the_index_hides_an_edit_from_a_reviewer(repo: Path, tmp_path: Path, mark: str) -> None:
    git(repo, "update-index", mark, "src/a.py")
    expected = " M src/a.py\nA  staged.py\n?? untracked.py\n"
    assert await said(repo, tmp_path / "state", "status", "--short") == expected
    assert "+drei" in await said(repo, tmp_path / "state", "diff")


@pytest.mark.requirement("agent:tools:read-only-git")
async def test_a_split_index_is_read_and_what_needs_no_index_is_told_whatever_is_there(
    repo: Path, tmp_path: Path
) -> None:
    git(repo, "update-index", "--split-index")
    state = tmp_path / "state"
    assert await said(repo, state, "log", "-1", "--format=%s") == "second\n"
    assert "fatal" not in await said(repo, state, "status", "--short")
    (repo / ".git" / "index").write_bytes(b"no index")
    assert await said(repo, state, "log", "-1", "--format=%s") == "second\n"
