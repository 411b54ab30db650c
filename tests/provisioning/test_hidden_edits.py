"""What git is told to overlook, Fleet sees: no setting and no mark in git's index hides an agent's edit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.domain.checkout import CheckoutDiff
from orchestrator.provisioning.changes import difference, location
from orchestrator.provisioning.snapshots import snapshot
from tests.fixtures.repositories import git, repository

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("checkout:look:nothing-hides")]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with two files in a folder and one beside it."""
    place = repository(tmp_path / "checkout")
    (place / "sub").mkdir()
    (place / "sub" / "b.py").write_text("b\n")
    git(place, "add", ".")
    git(place, "commit", "--quiet", "-m", "more")
    return place


async def changed(checkout: Path, work: Callable[[], object]) -> CheckoutDiff:
    """What Fleet says that this work changed."""
    state = checkout.parent / "state"
    before = await snapshot(checkout, state)
    work()
    return await difference(checkout, state, before, await snapshot(checkout, state))


def edit_unseen(file: Path, text: str) -> None:
    """Change the file and put its size and time back, in a later second: git compares none shorter."""
    found = file.stat()
    while time.time() < int(found.st_ctime) + 1.1:  # the clock of files is a little behind
        time.sleep(0.01)
    assert len(text) == found.st_size
    file.write_text(text)
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))


@pytest.mark.parametrize("when", ["before", "during"])
@pytest.mark.parametrize(
    "settings",
    [
        ("core.trustctime=false",),
        ("core.trustctime=false", "core.checkStat=minimal"),
        ("core.ignoreStat=true",),
        ("core.fsmonitor=true", "core.untrackedCache=true"),
    ],
)
async def test_no_setting_hides_an_edit_of_the_same_size_and_time(
    checkout: Path, settings: tuple[str, ...], when: str
) -> None:
    def configure() -> None:
        for setting in settings:
            git(checkout, "config", *setting.split("="))

    os.utime(checkout / "a.py", ns=(10**18, 10**18))  # else git reads it because it is as new as the index
    if when == "before":
        configure()
    git(checkout, "-c", "core.fsmonitor=false", "update-index", "--refresh")

    def work() -> None:
        if when == "during":
            configure()
        edit_unseen(checkout / "a.py", "two\n")
        (checkout / "new.py").write_text("x\n")

    found = await changed(checkout, work)
    assert found.files == ("a.py", "new.py")


@pytest.mark.parametrize("mark", ["--assume-unchanged", "--skip-worktree"])
async def test_no_mark_in_the_index_hides_an_edit(checkout: Path, mark: str) -> None:
    git(checkout, "update-index", mark, "a.py")
    found = await changed(checkout, lambda: (checkout / "a.py").write_text("longer\n"))
    assert found.files == ("a.py",)
    assert await location(checkout, checkout.parent / "state", ("a.py",)) == "this checkout, uncommitted"


async def test_a_deleted_file_is_seen_that_the_index_says_to_skip(checkout: Path) -> None:
    git(checkout, "update-index", "--skip-worktree", "a.py")
    assert (await changed(checkout, (checkout / "a.py").unlink)).files == ("a.py",)


async def test_a_file_that_is_written_outside_of_a_sparse_checkout_is_seen_and_what_is_left_out_is_not_gone(
    checkout: Path,
) -> None:
    git(checkout, "sparse-checkout", "set", "--no-cone", "/a.py")
    assert not (checkout / "sub").exists()
    assert (await changed(checkout, lambda: None)).files == ()

    def work() -> None:
        (checkout / "sub").mkdir()
        (checkout / "sub" / "b.py").write_text("other\n")

    assert (await changed(checkout, work)).files == ("sub/b.py",)


async def test_a_mode_that_changed_is_seen_where_the_user_does_not_compare_modes(checkout: Path) -> None:
    git(checkout, "config", "core.fileMode", "false")
    state = checkout.parent / "state"
    found = await changed(checkout, lambda: (checkout / "a.py").chmod(0o755))
    assert found.files == ("a.py",)
    assert (await location(checkout, state, ("a.py",))).startswith("this checkout, committed")
    git(checkout, "config", "core.fileMode", "true")
    assert await location(checkout, state, ("a.py",)) == "this checkout, uncommitted"


async def test_a_new_file_whose_name_differs_in_case_only_is_seen(checkout: Path) -> None:
    git(checkout, "config", "core.ignoreCase", "true")
    assert (await changed(checkout, lambda: (checkout / "A.py").write_text("other\n"))).files == ("A.py",)


async def test_an_edit_of_a_filtered_file_is_not_hidden_by_a_mark(checkout: Path, home: Path) -> None:
    git(checkout, "config", "--global", "filter.big.clean", "tr a-z A-Z")
    (checkout / ".gitattributes").write_text("*.bin filter=big\n")
    (checkout / "text.bin").write_text("weights\n")
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "-m", "filtered")
    state = checkout.parent / "state"
    assert (await location(checkout, state, ("text.bin",))).startswith("this checkout, committed")
    git(checkout, "update-index", "--assume-unchanged", "text.bin")
    (checkout / "text.bin").write_text("something else\n")
    assert await location(checkout, state, ("text.bin",)) == (
        "this checkout, 1 of 1 files unknown: filter big is not run"
    )
