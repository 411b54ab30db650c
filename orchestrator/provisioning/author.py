"""Asks git who the author of a commit would be; no program that the repository configures is run."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from pathlib import Path

from orchestrator.provisioning.checkouts import checkout_of
from orchestrator.provisioning.files import ChangesUnknownError
from orchestrator.provisioning.repository import checked_git_dir
from orchestrator.supervision import programs
from orchestrator.supervision.spawn import spawn

SECONDS = 5.0
_PASSED = ("HOME", "XDG_CONFIG_HOME", "USER", "LOGNAME", "EMAIL")


async def author_problem(cwd: Path, environment: Mapping[str, str]) -> str:
    """Return why an agent with this environment could not commit in this directory; '' if git knows the author.

    A file for which git would wait is such a reason, too, and git is then not run. The result is also '' outside of a
    checkout, and if git cannot be asked (it is missing, or takes too long): the agent then finds out by itself.
    """
    program, checkout = programs.find("git", os.environ.get("PATH")), checkout_of(cwd)
    if program is None or checkout is None:
        return ""
    kept = {name: value for name, value in environment.items() if name in _PASSED or name.startswith("GIT_")}
    try:
        async with asyncio.timeout(SECONDS):
            git_dir = await asyncio.to_thread(checked_git_dir, checkout, kept)
            place = {"GIT_DIR": str(git_dir)}  # so git does not search for one
            env = {**place, **kept, "PATH": os.defpath, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
            for role in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"):
                if problem := await _problem([program, "var", role], cwd, env):
                    return problem
    except ChangesUnknownError as error:
        return str(error)
    except (OSError, TimeoutError):
        return ""
    return ""


async def _problem(argv: list[str], cwd: Path, env: Mapping[str, str]) -> str:
    starting = asyncio.create_subprocess_exec(*argv, cwd=cwd, env=env, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE)
    process = await spawn(starting, discard=_kill)
    try:
        _, said = await process.communicate()
    except BaseException:
        await _kill(process)
        raise
    if process.returncode == 0:
        return ""
    lines = said.decode(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"]
    return lines[-1].removeprefix("fatal: ")[:200]


async def _kill(process: Process) -> None:
    process.kill()
    await process.wait()
