"""A project full of hostile persona files or schemas delays no other project: the daemon goes on answering."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from tests.fixtures.daemon import Daemon, clean_env, running_daemon, wait_until
from tests.fixtures.door import asked, refused, through_door
from tests.test_bounded_yaml import ALIASES

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("persona:files:bounded-reading")]
FRONT = "name: odd\ndescription: odd\n"
HOSTILE = {
    "aliases": ["name: odd\n" + ALIASES + "description: *i\n"],
    "merges": [FRONT + "<<: {a: b}\n" * 3000] * 8,
    "repeated keys": [FRONT + "".join(f"k{number}: 1\n" * 2 for number in range(3000))] * 8,
    "brackets": [FRONT + "x: " + "[" * 190 + "\n" * 3] * 8,
    "many files": [FRONT] * 1200,
}


READING = """
import os, sys, time
from pathlib import Path
from orchestrator import __main__, bounded_yaml
read, place = bounded_yaml.read, Path(os.environ["READING"])
def held(text):
    try:
        return read(text)
    finally:
        while "name: odd" in text and (place / "held").exists():
            (place / "begun").touch()
            time.sleep(0.01)
bounded_yaml.read = held
sys.exit(__main__.main())
"""
"""A daemon that has not finished with a hostile file before the test lets it."""


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for several projects."""
    home, state, reading = (tmp_path_factory.mktemp(name) for name in ("home", "s", "reading"))
    state.chmod(0o700)
    environment = clean_env(home, state, READING=str(reading))
    with running_daemon(state, environment, program=("-c", READING)) as daemon:
        yield daemon


@contextmanager
def unfinished(reading: Path) -> Generator[Callable[[], bool]]:
    """No hostile file is read to its end within the block; what it gives says whether the reading has begun."""
    begun, held = reading / "begun", reading / "held"
    held.touch()
    try:
        yield begun.exists
    finally:
        held.unlink()
        begun.unlink(missing_ok=True)


def filled(root: Path, fronts: list[str]) -> Path:
    """A project with a persona file for each front matter."""
    folder = root / "hostile" / ".claude" / "agents"
    folder.mkdir(parents=True)
    for number, front in enumerate(fronts):
        (folder / f"odd-{number:04}.md").write_text(f"---\n{front}---\nYou are odd.\n")
    return root / "hostile"


@pytest.mark.parametrize("what", HOSTILE)
async def test_another_project_is_answered_while_hostile_persona_files_are_read(
    victim: Daemon, tmp_path: Path, what: str
) -> None:
    hostile, calm = filled(tmp_path, HOSTILE[what]), tmp_path / "calm"
    calm.mkdir()
    order: list[str] = []
    with anyio.fail_after(60):
        async with through_door(victim, hostile) as attacker, through_door(victim, calm) as other:

            async def attack() -> None:
                assert "persona scout" in await asked(attacker, "list_agents")
                order.append("hostile project")

            async with anyio.create_task_group() as group:
                with unfinished(Path(victim.env["READING"])) as has_begun:
                    group.start_soon(attack)
                    await anyio.to_thread.run_sync(wait_until, has_begun, "the reading of a hostile file")
                    assert "no living agents" in await asked(other, "get_agent_status")
                    assert "persona scout" in await asked(other, "list_agents")
                    order.append("other project")
            assert order == ["other project", "hostile project"]
            assert "no persona 'nobody'" in await refused(
                attacker, "create_agent", name="a", task="t", persona="nobody"
            )


async def test_a_hostile_schema_delays_no_other_project(victim: Daemon, tmp_path: Path) -> None:
    checks: list[dict[str, Any]] = [{"schema": {"anyOf": [{} for _ in range(6000)], "$ref": "http://elsewhere"}}]
    projects = [tmp_path / "one", tmp_path / "two"]
    for project in projects:
        project.mkdir()
    order: list[str] = []
    with anyio.fail_after(60):
        async with through_door(victim, projects[0]) as attacker, through_door(victim, projects[1]) as other:

            async def attack() -> None:
                told = await refused(attacker, "create_agent", name="a", task="t", checks=checks)
                assert "nothing is fetched" in told
                order.append("schema")

            async with anyio.create_task_group() as group:
                group.start_soon(attack)
                await anyio.sleep(0.3)  # the judging, which takes seconds, begins
                await asked(other, "get_agent_status")
                order.append("status")
    assert order == ["status", "schema"]
