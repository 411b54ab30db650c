"""Git is asked for the author of commits only where it opens regular files: nothing waits for a pipe."""

from __future__ import annotations

import os
import pwd
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.domain.text import named_path
from orchestrator.provisioning.author import author_problem
from tests.fixtures.repositories import git, repository

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("checkout:look:nothing-waits")]
WHO = ("user.name", "user.email")


@contextmanager
def unopened(path: Path) -> Generator[None]:
    """A pipe is in the place of this file, and nobody opens it in the block."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    was_opened = threading.Event()

    def offer() -> None:
        os.close(os.open(path, os.O_WRONLY))  # until somebody opens the other end
        was_opened.set()

    offering = threading.Thread(target=offer)
    offering.start()
    try:
        yield
        assert not was_opened.is_set()
    finally:
        end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        offering.join()
        os.close(end)


@pytest.fixture
def known(checkout: Path, home: Path) -> Mapping[str, str]:
    """The environment of an agent whose author the repository names."""
    for key in WHO:
        git(checkout, "config", key, "ada@example.org")
    return {"HOME": str(home)}


PLACES: Mapping[str, Mapping[str, str]] = {
    ".git/config": {},
    ".git/HEAD": {},
    ".git/config.worktree": {"config": "[extensions]\nworktreeConfig = true\n"},
    ".git/pipe": {"config": "[include]\npath = other\n", "other": "[include]\npath = pipe\n"},
    "pipe": {"config": '[includeIf "gitdir:/**"]\npath = ../pipe\n'},
    ".git/behind-a-mark": {"config": "[include]\npath = marked\n", "marked": "\ufeff[include]\npath = behind-a-mark\n"},
    ".git/behind-a-comment": {"config": "# no more \\\n[include]\npath = behind-\\\na-comment\n"},
    ".git/behind-a-section": {"config": "[a] [include] path = behind-a-section\n"},
    ".git/form\ffeed": {"config": '[include]\npath = "form\ffeed"\n'},
    ".git/refs/heads/main": {"config": '[includeIf "onbranch:main"]\npath = nothing\n'},
}
"""where a pipe is, and what is added to the files of the git directory that lead to it"""


@pytest.mark.parametrize("place", PLACES)
async def test_a_pipe_that_git_would_open_for_the_author_is_named_and_not_opened(
    checkout: Path, known: Mapping[str, str], place: str
) -> None:
    for name, text in PLACES[place].items():
        with (checkout / ".git" / name).open("a") as file:
            file.write(text)
    with unopened(checkout / place):
        problem = await author_problem(checkout, known)
    assert problem.endswith(f"{named_path(checkout / place)} is not a regular file")


async def test_a_pipe_that_git_would_open_in_a_home_or_in_place_of_the_users_file_is_not_opened(
    checkout: Path, known: Mapping[str, str]
) -> None:
    user, pipe = pwd.getpwuid(os.geteuid()), checkout / "pipe"
    with unopened(pipe):
        instead = {**known, "GIT_CONFIG_GLOBAL": str(pipe)}
        assert (await author_problem(checkout, instead)).endswith("pipe is not a regular file")
        git(checkout, "config", "include.path", f"~{user.pw_name}/{os.path.relpath(pipe, user.pw_dir)}")
        assert (await author_problem(checkout, known)).endswith("pipe is not a regular file")


async def test_a_file_whose_place_only_git_knows_is_told(checkout: Path, known: Mapping[str, str]) -> None:
    with (checkout / ".git" / "config").open("a") as file:
        file.write("[include]\npath = %(prefix)/pipe\n")
    assert "only git knows where" in await author_problem(checkout, known)


async def test_the_null_device_says_nothing_as_for_git(checkout: Path, known: Mapping[str, str]) -> None:
    Path(known["HOME"], ".gitconfig").symlink_to(os.devnull)
    with (checkout / ".git" / "config").open("a") as file:
        file.write(f"[include]\npath = {os.devnull}\n")
    for more in ({}, {"GIT_CONFIG_GLOBAL": os.devnull}, {"GIT_CONFIG_GLOBAL": ""}):
        assert await author_problem(checkout, {**known, **more}) == ""


async def test_a_pipe_in_a_folder_that_only_looks_like_a_repository_is_not_opened(
    checkout: Path, known: Mapping[str, str]
) -> None:
    (checkout / "sub").mkdir()
    with unopened(checkout / "sub" / "HEAD"):
        assert await author_problem(checkout / "sub", known) == ""


async def test_settings_that_include_each_other_without_end_are_not_followed(
    checkout: Path, known: Mapping[str, str]
) -> None:
    for number in range(60):
        (checkout / ".git" / f"c{number}").write_text(f"[include]\npath = c{number + 1}\n")
    git(checkout, "config", "include.path", "c0")
    assert "more than 50 files" in await author_problem(checkout, known)


async def test_the_author_is_known_in_worktrees_submodules_and_by_condition(
    checkout: Path, known: Mapping[str, str], tmp_path: Path
) -> None:
    git(checkout, "worktree", "add", "--quiet", str(tmp_path / "linked"))
    for place in (checkout, tmp_path / "linked"):
        assert await author_problem(place, known) == ""
    other, home = repository(tmp_path / "jobs" / "other"), Path(known["HOME"])
    git(other, "config", "user.useConfigOnly", "true")
    assert "no email was given" in await author_problem(other, known)
    (home / "at-jobs").write_text("[user]\nname = Ada\nemail = ada@example.org\n")
    (home / ".gitconfig").write_text(f'[includeIf "gitdir:{tmp_path}/jobs/"]\npath = at-jobs\n')
    assert await author_problem(other, known) == ""
    assert await author_problem(tmp_path, known) == ""
