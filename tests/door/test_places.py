"""Directories in which Fleet cannot work are refused at once, in one sentence, and no daemon is started for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import paths
from tests.fixtures.daemon import clean_env
from tests.fixtures.raw_door import RawDoor, text_of


def refusal(env: dict[str, str], cwd: Path | bytes) -> str:
    """What a door that is started there answers to a call of its one tool."""
    command = [sys.executable, "-m", "orchestrator", "mcp"]
    with subprocess.Popen(command, env=env, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        door = RawDoor(process)
        assert door.tool_names() == ["fleet_not_running"]
        text = text_of(door.answer(door.post_tool("fleet_not_running")))
        door.leave()
    return text


@pytest.mark.requirement("handshake:settings:named")
@pytest.mark.parametrize("named", ["/nonexistent/project", "{file}", ".", "~", "relative/place"])
def test_a_project_directory_that_is_none_is_refused_with_its_variable(
    tmp_path: Path, state: Path, project: Path, named: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    place = named.format(file=file)
    text = refusal(clean_env(tmp_path, state, CLAUDE_PROJECT_DIR=place), project)
    assert text.startswith(f"Fleet cannot start here. CLAUDE_PROJECT_DIR is {place!r}, which is not the absolute path")
    assert not paths.lock_path(state).exists()


@pytest.mark.requirement("handshake:settings:named")
def test_a_path_that_is_not_utf8_is_refused_by_the_door_and_the_command_line(tmp_path: Path, state: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/pr\xffoject"
    os.mkdir(odd)  # noqa: PTH102 - the path is bytes
    env = clean_env(tmp_path, state)
    for text in (refusal(env, odd), refusal({**env, "CLAUDE_PROJECT_DIR": os.fsdecode(odd)}, tmp_path)):
        assert "project' is not UTF-8, and Fleet cannot work in such a directory. Rename it, or start" in text.replace(
            "pr\\udcffoject", "project"
        )
    ran = subprocess.run(
        [sys.executable, "-m", "orchestrator", "ps"], env=env, cwd=odd, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert "is not UTF-8, and Fleet cannot work in such a directory" in ran.stderr
    assert not paths.lock_path(state).exists()
