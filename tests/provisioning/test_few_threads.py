"""Where no thread can be started any more, a process that Fleet starts is one that does not start, wherever it is."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import threading
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import daemon
from orchestrator.errors import ConflictError
from orchestrator.provisioning.author import author_problem
from orchestrator.provisioning.files import ChangesUnknownError
from orchestrator.provisioning.read_only_git import read_git
from orchestrator.provisioning.snapshots import snapshot_before_turn
from orchestrator.supervision.command import LaunchConfig, shell, start
from orchestrator.supervision.spawn import spawn

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.requirement("fault:store:survived"),
    pytest.mark.skipif(sys.version_info >= (3, 12), reason="asyncio starts no thread for a process"),
]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the threads that asyncio wanted for processes, and did not get."""
    names: list[str] = []
    plain = threading.Thread.start

    def refusing(thread: threading.Thread) -> None:
        if thread.name.startswith("asyncio-waitpid"):
            names.append(thread.name)
            raise RuntimeError("can't start new thread")  # what `threading` says
        plain(thread)

    monkeypatch.setattr(threading.Thread, "start", refusing)
    yield names
    assert names


async def test_git_that_gets_no_thread_leaves_changes_and_history_unknown(
    checkout: Path, state: Path, refused: list[str]
) -> None:
    with pytest.raises(ChangesUnknownError, match="can't start new thread"):
        await snapshot_before_turn(checkout, state)
    with pytest.raises(ConflictError, match="can't start new thread"):
        await read_git(checkout, state, ["log"])
    assert len(refused) > 1


@pytest.mark.usefixtures("refused")
async def test_an_author_that_git_cannot_be_asked_for_is_no_problem(checkout: Path, home: Path) -> None:
    assert await author_problem(checkout, {"HOME": str(home)}) == ""


@pytest.mark.usefixtures("refused")
async def test_a_command_that_gets_no_thread_does_not_start(tmp_path: Path) -> None:
    command = shell("sleep 300", cwd=tmp_path, folder=tmp_path, environment={"PATH": os.defpath})
    with pytest.raises(BlockingIOError, match="can't start new thread"):
        await start(LaunchConfig(folder=tmp_path / "launchers"), command, secrets.token_hex(8))


@pytest.mark.usefixtures("refused")
async def test_a_process_that_asyncio_cannot_wait_for_is_ended() -> None:
    ours, its = os.pipe()
    starting = asyncio.create_subprocess_exec("sleep", "300", stdin=PIPE, stdout=PIPE, pass_fds=[its])
    with pytest.raises(BlockingIOError):
        await spawn(starting, discard=Process.wait)
    os.close(its)
    with os.fdopen(ours, "rb") as pipe:
        assert await asyncio.to_thread(pipe.read) == b""  # once nothing holds the other end


@pytest.mark.parametrize("error", [RuntimeError("no running event loop"), RecursionError(), NotImplementedError()])
async def test_other_errors_of_a_start_stay_what_they_are(error: RuntimeError) -> None:
    async def starting() -> Process:
        raise error

    with pytest.raises(type(error)) as found:
        await spawn(starting(), discard=Process.wait)
    assert found.value is error


async def test_a_daemon_that_gets_no_thread_at_its_start_gets_them_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as machine:
        machine.setattr(threading.Thread, "start", refusing)
        threads = daemon._started_threads()
    with threads:
        assert threads.submit(lambda: "done").result(timeout=30) == "done"
