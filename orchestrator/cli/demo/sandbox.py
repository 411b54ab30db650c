"""A sandbox for a rehearsal or a demo: directories, a clean environment, and a git repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator import paths
from orchestrator.domain.duration import format_duration
from orchestrator.errors import FleetError, InvalidError, NotFoundError

TEST_SECONDS = 300.0
"""time limit of the repository's own tests"""
REHEARSAL_KEY = "rehearsal-no-real-key"
"""placeholder for an API key in a rehearsal; not valid anywhere"""

_FROM_USER = frozenset({"LANG", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER", "CLAUDE_CODE_PATH"})
_MCP_START_MILLISECONDS = "120000"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The sandbox's paths; `environment` is the complete environment of every program started in it."""

    root: Path
    repository: Path
    state: Path
    environment: Mapping[str, str] = field(repr=False)


def new_root(wanted: Path | None) -> Path:
    """Return an empty private directory (0700): `wanted`, or a new one in the temporary directory.

    Raises:
        InvalidError: `wanted` is a file or is not empty.
    """
    if wanted is None:
        return Path(tempfile.mkdtemp(prefix="fleet-"))
    root = wanted.expanduser().absolute()
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InvalidError(f"{root} is not an empty directory", hint="name a new or empty one, or omit --dir")
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    return root


def rehearsal_environment(user: Mapping[str, str], *, home: Path, state: Path, url: str, script: str) -> dict[str, str]:
    """Return the environment of a rehearsal: allow-listed variables, a separate home, and no account."""
    kept = {name: value for name, value in user.items() if name in _FROM_USER or name.startswith(("LC_", "AGENT_"))}
    return _with_fleet(kept, state) | {
        "HOME": str(home),
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": REHEARSAL_KEY,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "FLEET_REHEARSAL": script,
        "NO_PROXY": "127.0.0.1,localhost",
    }


def real_environment(user: Mapping[str, str], *, state: Path) -> dict[str, str]:
    """Return the environment of a paid run: the user's home and account, by allow-list, and its own state directory."""
    names = paths.ACCOUNT | paths.ENVIRONMENT | _FROM_USER
    kept = {name: value for name, value in user.items() if name in names or name.startswith(("LC_", "AGENT_"))}
    return _with_fleet(kept, state)


def _with_fleet(kept: dict[str, str], state: Path) -> dict[str, str]:
    kept.pop("AGENT_STATE_ROOT", None)
    places = [str(Path(sys.executable).parent), sysconfig.get_path("scripts")]
    inherited = kept.get("PATH") or os.defpath
    return kept | {
        "PATH": os.pathsep.join(dict.fromkeys([*places, *inherited.split(os.pathsep)])),
        "LANG": kept.get("LANG") or "C.UTF-8",
        "FLEET_STATE": str(state),
        "MCP_TIMEOUT": _MCP_START_MILLISECONDS,
        "MCP_CONNECT_TIMEOUT_MS": _MCP_START_MILLISECONDS,
    }


def copy_repository(example: str, into: Path) -> None:
    """Copy a shipped example into a new git repository with one commit.

    Raises:
        NotFoundError: the example is not installed.
        FleetError: git is not installed or failed.
    """
    source = paths.asset("examples") / example
    if not source.is_dir():
        raise NotFoundError(f"the example {source} is missing", hint="reinstall agent-fleet")
    shutil.copytree(source, into, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".git"))
    git(into, "init", "--quiet", "--initial-branch=main")
    git(into, "config", "user.name", "Fleet demo")
    git(into, "config", "user.email", "demo@fleet.invalid")
    git(into, "add", "--all")
    git(into, "commit", "--quiet", "--no-verify", "--message", f"The example {example}, as shipped")


def git(repository: Path, *arguments: str) -> str:
    """Run git without the user's and the system's configuration and return its output.

    Raises:
        FleetError: git failed; the message has its stderr.
    """
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(repository),
        "LANG": "C.UTF-8",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
    }
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=repository,
            env=environment,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError as error:
        raise FleetError("git is not installed or not on PATH", hint="install git and try again") from error
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip()
        raise FleetError(f"git {' '.join(arguments)} failed: {words}", hint=f"inspect {repository}")
    return done.stdout.decode(errors="replace")


@dataclass(frozen=True, kw_only=True)
class TestRun:
    """The result of a repository's own tests; `summary` is the end of their output."""

    __test__ = False  # pytest would collect a class called Test…

    command: str
    passed: bool
    summary: str
    output: str


def run_tests(repository: Path, command: tuple[str, ...], path: str) -> TestRun:
    """Run the repository's tests in its directory, with a minimal environment."""
    environment = {"PATH": path, "HOME": str(repository), "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    shown = " ".join(command)
    try:
        done = subprocess.run(
            command,
            cwd=repository,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TEST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return TestRun(
            command=shown, passed=False, summary=f"not done after {format_duration(TEST_SECONDS)}", output=""
        )
    text = done.stdout.decode(errors="replace")
    said = [part.strip() for part in text.splitlines() if part.strip(" -=")]
    return TestRun(command=shown, passed=done.returncode == 0, summary=", ".join(said[-2:]), output=text)
