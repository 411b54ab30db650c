"""A look never holds up the daemon or a turn: bounded reads off the event loop, and a reason where it cannot tell."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator import untrusted
from orchestrator.provisioning import own_git, snapshots
from orchestrator.provisioning.changes import difference, location
from orchestrator.provisioning.files import ChangesUnknownError
from orchestrator.provisioning.snapshots import snapshot, snapshot_before_turn
from tests.fixtures.repositories import git

pytestmark = pytest.mark.anyio


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """The files of repositories that Fleet read, and whether the event loop waited for it."""
    seen: list[tuple[str, bool]] = []
    loop = threading.get_ident()
    opened = untrusted.opened

    def noted(root: Path, place: str) -> object:
        seen.append((place.rpartition("/")[2], threading.get_ident() == loop))
        return opened(root, place)

    monkeypatch.setattr(untrusted, "opened", noted)
    return seen


@pytest.mark.parametrize("logs", ["true", "false"])
@pytest.mark.requirement("checkout:look:bounded")
async def test_branches_are_read_once_and_off_the_event_loop(
    checkout: Path, state: Path, reads: list[tuple[str, bool]], logs: str
) -> None:
    for number in range(20):
        git(checkout, "branch", f"b{number}")
    git(checkout, "pack-refs", "--all")
    for number in range(20):  # none has a file of its own, so that each leads to the packed ones
        git(checkout, "symbolic-ref", f"refs/heads/s{number}", f"refs/heads/b{number}")
    git(checkout, "config", "core.logAllRefUpdates", logs)
    if logs == "false":
        (checkout / ".git" / "logs" / "HEAD").unlink()
    before = await snapshot(checkout, state)
    git(checkout, "switch", "--quiet", "-c", "new")
    (checkout / "a.py").write_text("two\n")
    git(checkout, "commit", "--quiet", "-am", "more")
    git(checkout, "pack-refs", "--all")
    after = await snapshot(checkout, state)
    reads.clear()
    found = await difference(checkout, state, before, after)
    assert found.commits == 1
    assert [name for name, is_waited_for in reads if is_waited_for] == []
    assert [name for name, _ in reads].count("packed-refs") <= 3


@pytest.mark.requirement("checkout:look:filters-never-run")
async def test_a_filtered_file_that_is_too_large_to_read_is_said_to_be_unknown(
    checkout: Path, state: Path, home: Path
) -> None:
    size = 2**43
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize {size}\n"
    (checkout / ".gitattributes").write_text("*.bin filter=lfs\n")
    for name in ("model.bin", "small.bin"):
        (checkout / name).write_text(pointer)
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "-m", "a model")
    git(checkout, "config", "--global", "filter.lfs.clean", "false")
    os.truncate(checkout / "model.bin", size)  # nobody could read it
    (checkout / "small.bin").write_text("edited\n")
    assert await location(checkout, state, ("model.bin", "small.bin")) == (
        "this checkout, 1 of 2 files unknown: too large to read, and filter lfs is not run"
    )
    os.truncate(checkout / "model.bin", size - 1)
    assert await location(checkout, state, ("model.bin", "small.bin")) == "this checkout, uncommitted"


@asynccontextmanager
async def looked_at(checkout: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[None]:
    """Another look at the checkout is at work in the block."""
    began, let_go = asyncio.Event(), asyncio.Event()
    prepare = own_git.prepare

    async def slow(own: own_git.OwnGit) -> None:
        if not began.is_set():
            began.set()
            await let_go.wait()
        await prepare(own)

    monkeypatch.setattr(own_git, "prepare", slow)
    other = asyncio.create_task(snapshot(checkout, state, seconds=60))
    await began.wait()
    try:
        yield
    finally:
        let_go.set()
        await other


@pytest.mark.requirement("checkout:look:bounded")
async def test_the_wait_for_another_look_counts_and_is_not_remembered_as_slow(
    checkout: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "LOOK_SECONDS", 0.2)
    async with looked_at(checkout, state, monkeypatch):
        with pytest.raises(ChangesUnknownError, match="another look at it took longer than"):
            await asyncio.wait_for(snapshot_before_turn(checkout, state), 30)
    monkeypatch.setattr(snapshots, "LOOK_SECONDS", 60)
    assert (await snapshot_before_turn(checkout, state)).head == git(checkout, "rev-parse", "HEAD")


@pytest.mark.requirement("checkout:look:bounded")
async def test_a_turn_does_not_wait_for_the_search_for_what_held_up_its_look(
    checkout: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(snapshots, "SEARCH_SECONDS", 60)
    let_go = threading.Event()

    async def endless(_: own_git.OwnGit) -> None:
        await asyncio.Event().wait()

    def searched(_: Path, most: int) -> Iterator[Path]:
        assert most
        let_go.wait()
        return iter(())

    monkeypatch.setattr(own_git, "prepare", endless)
    monkeypatch.setattr(snapshots, "special_files", searched)
    try:
        with pytest.raises(ChangesUnknownError, match="looking took longer than"):
            await asyncio.wait_for(snapshot_before_turn(checkout, state), 30)
    finally:
        let_go.set()


def _obey_modes() -> None:
    """Let not even root read what the mode forbids, from the next exec on (drops CAP_DAC_OVERRIDE, _READ_SEARCH)."""
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)


@pytest.fixture
def obeying() -> Mapping[str, Any]:
    """How to start a process for which the modes of files count."""
    return {"preexec_fn": _obey_modes} if os.geteuid() == 0 else {}


LOOK = """
import asyncio, sys
from pathlib import Path
from orchestrator.provisioning.checkouts import checkout_of
from orchestrator.provisioning.files import ChangesUnknownError
from orchestrator.provisioning.snapshots import snapshot_before_turn
place, state = map(Path, sys.argv[1:])
try:
    asyncio.run(snapshot_before_turn(checkout_of(place), state))
except ChangesUnknownError as error:
    print(error)
"""


@pytest.mark.requirement("checkout:changes:unknown-with-reason")
@pytest.mark.parametrize("place", ["", ".git", "sub"])
def test_a_folder_that_may_not_be_read_makes_the_changes_unknown(
    checkout: Path, state: Path, obeying: Mapping[str, Any], place: str
) -> None:
    (checkout / "sub" / "deep").mkdir(parents=True)
    (checkout / "sub" / "deep" / "x.py").write_text("x\n")
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "-m", "more")
    (checkout / place).chmod(0)
    try:
        words = [sys.executable, "-c", LOOK, str(checkout), str(state)]
        said = subprocess.run(words, capture_output=True, text=True, check=False, **obeying)
    finally:
        (checkout / place).chmod(0o755)
    assert (said.stderr, "Permission denied" in said.stdout) == ("", True)
