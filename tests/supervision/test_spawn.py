"""A cancelled start leaves no process and does not hang, at whatever moment the cancellation comes."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
from asyncio.subprocess import PIPE, Process
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.supervision.command import LaunchConfig, shell, start
from orchestrator.supervision.spawn import spawn
from tests.fixtures.daemon import wait_until
from tests.providers.test_claude import processes

pytestmark = pytest.mark.anyio
RETURN_SECONDS = 10.0


async def cancel_while_starting(starting: Coroutine[Any, Any, object], monkeypatch: pytest.MonkeyPatch) -> int:
    """Cancel the task when its process has a child but asyncio has none of its pipes; return the process id."""
    started: list[int] = []
    plain: Any = subprocess.Popen
    task = asyncio.create_task(starting)

    def cancelling(*arguments: Any, **options: Any) -> Any:
        process = plain(*arguments, **options)
        started.append(process.pid)
        wait_until(lambda: any(one.name() == "sleep" for one in descendants(process.pid)), "its child")
        task.cancel()
        return process

    monkeypatch.setattr(subprocess, "Popen", cancelling)
    done, _ = await asyncio.wait({task}, timeout=RETURN_SECONDS)
    monkeypatch.undo()
    assert task in done, "the cancelled start hangs"
    assert task.cancelled()
    return started[0]


def descendants(pid: int) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return psutil.Process(pid).children(recursive=True)
    return []


@pytest.mark.requirement("process:spawn:given-up")
async def test_a_command_whose_start_is_cancelled_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, folder = tmp_path / "work", tmp_path / "agent"
    work.mkdir()
    folder.mkdir()
    command = shell("sleep 300 & sleep 300", cwd=work, folder=folder, environment={"PATH": "/usr/bin:/bin"})
    await cancel_while_starting(
        start(LaunchConfig(folder=tmp_path / "launchers"), command, secrets.token_hex(8)), monkeypatch
    )
    assert not processes(work)


async def test_a_process_whose_start_is_cancelled_is_discarded(monkeypatch: pytest.MonkeyPatch) -> None:
    discarded: list[Process] = []

    async def discard(process: Process) -> None:
        os.killpg(process.pid, signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
        discarded.append(process)

    starting = asyncio.create_subprocess_exec(
        "/bin/sh", "-c", "sleep 300 & wait", stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True
    )
    pid = await cancel_while_starting(spawn(starting, discard=discard), monkeypatch)
    assert [process.pid for process in discarded] == [pid]


async def test_a_program_that_does_not_start_says_so_as_ever() -> None:
    with pytest.raises(FileNotFoundError):
        await spawn(asyncio.create_subprocess_exec("/nowhere/program"), discard=Process.wait)
