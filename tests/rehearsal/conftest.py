"""A running rehearsal, and the real Claude CLI to talk to it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from orchestrator.rehearsal import Rehearsal, start

SCRIPTS = Path(__file__).parent / "scripts"
CLI_SECONDS = 90
DEADLINE_SECONDS = 60.0


def wait_until(condition: Callable[[], bool]) -> None:
    """Return when `condition` holds."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    pause = 0.01
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(pause)


@pytest.fixture(scope="module")
def wire() -> Iterator[Rehearsal]:
    """The script for HTTP, played once for all who do not read its log."""
    with start(SCRIPTS / "wire.yaml") as rehearsal:
        yield rehearsal


@pytest.fixture
def logged(tmp_path: Path) -> Iterator[Rehearsal]:
    """The same with a log of one's own."""
    with start(SCRIPTS / "wire.yaml", log=tmp_path / "log.jsonl") as rehearsal:
        yield rehearsal


@dataclass(frozen=True)
class Claude:
    """The bundled Claude CLI in an empty home and a small project, with a rehearsal as its model."""

    rehearsal: Rehearsal
    home: Path
    project: Path

    def popen(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [_bundled(), "-p", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.project,
            env=self.environment() | environment,
        )

    def ask(self, *arguments: str, **environment: str) -> dict[str, object]:
        """The result of one prompt, as the CLI's JSON tells it."""
        with self.popen("--output-format", "json", *arguments, **environment) as process:
            try:
                out, err = process.communicate(timeout=CLI_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert out.startswith("{"), err
        return cast("dict[str, object]", json.loads(out))

    def environment(self) -> dict[str, str]:
        """All that the CLI may know of this machine."""
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "ANTHROPIC_BASE_URL": self.rehearsal.url,
            "ANTHROPIC_API_KEY": "sk-ant-rehearsed",
            "ANTHROPIC_CUSTOM_HEADERS": "x-fleet-agent: builder-1\nx-fleet-persona: builder",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_RETRIES": "3",
        }


def _bundled() -> str:
    spec = importlib.util.find_spec("claude_agent_sdk")
    assert spec is not None
    assert spec.origin is not None
    return os.fspath(Path(spec.origin).parent / "_bundled" / "claude")


@pytest.fixture
def claude(tmp_path: Path) -> Iterator[Claude]:
    """The CLI, playing `scripts/claude.yaml`."""
    home, project = tmp_path / "home", tmp_path / "project"
    home.mkdir()
    (project / ".claude" / "commands").mkdir(parents=True)
    (project / ".claude" / "commands" / "hello.md").write_text(
        "---\ndescription: greet\n---\nGreet this one: $ARGUMENTS\n"
    )
    (project / "a.py").write_text("foo = 1\nprint(foo)\n")
    (project / "b.py").write_text("from a import foo\n")
    with start(SCRIPTS / "claude.yaml", log=tmp_path / "log.jsonl") as rehearsal:
        yield Claude(rehearsal, home, project)
