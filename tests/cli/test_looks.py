"""A look at the checkout never holds up a turn, with the real claude, git and daemon."""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import rehearsal
from tests.fixtures.daemon import clean_env
from tests.fixtures.fleet_command import Command
from tests.fixtures.repositories import git, repository

SCRIPT = """
name: looks
parts:
  - part: shipper
    match: {agent: "ship*"}
    replies:
      - calls: [{tool: Bash, input: {command: "git switch -q -c release && git commit -qam ship"}}]
      - say: shipped
  - part: writer
    match: {}
    replies:
      - calls: [{tool: Bash, input: {command: "echo new > new.txt"}}]
      - say: wrote
"""


@pytest.fixture
def looking(tmp_path: Path) -> Iterator[Command]:
    """`fleet` in a checkout."""
    project, home = repository(tmp_path / "project"), tmp_path / "home"
    home.mkdir()
    for key, value in (("user.name", "t"), ("user.email", "t@example.org")):
        git(project, "config", key, value)
    script = tmp_path / "looks.yaml"
    script.write_text(SCRIPT)
    with (
        tempfile.TemporaryDirectory(prefix="fleet-", ignore_cleanup_errors=True) as state,
        rehearsal.start(script) as model,
    ):
        account = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "nobody", "FLEET_REHEARSAL": "looks"}
        quiet = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
        fleet = Command(project, clean_env(home, Path(state), **account, **quiet))
        yield fleet
        assert fleet("down", "--interrupt").code == 0


def made_by(fleet: Command, name: str) -> str:
    """Create the agent, wait for its end, and return the facts about its turn."""
    done = fleet("create", name, "work", "--persona", "builder", "--wait")
    assert done.code == 0, done.out + done.err
    return next(line for line in done.out.splitlines() if line.startswith("["))


@pytest.mark.requirement("checkout:look:large-files-unread", "checkout:look:bounded")
def test_many_large_untracked_files_are_neither_read_nor_copied(looking: Command) -> None:
    for number, size in enumerate([*[64 * 2**20] * 24, 2**43]):  # nobody could read the last one
        large = looking.cwd / f"{number}.bin"
        large.write_bytes(random.Random(number).randbytes(2**18))  # each its own, and nothing that git could compress
        os.truncate(large, size)
    for name in ("first", "second"):
        assert "uncommitted: 1 file +1 -0 (new.txt)" in made_by(looking, name)
        (looking.cwd / "new.txt").unlink()
    kept = [path.stat().st_size for path in Path(looking.env["FLEET_STATE"], "git").rglob("*") if path.is_file()]
    assert sum(kept) < 2**20, "all the large files have 6 MiB that cannot be compressed"


@pytest.mark.requirement("checkout:changes:own-commits")
def test_a_commit_on_a_new_branch_is_told(looking: Command) -> None:
    (looking.cwd / "a.py").write_text("two\n")
    facts = made_by(looking, "ship")
    made = git(looking.cwd, "rev-parse", "HEAD")[:8]
    assert f"commit {made} on branch release: 1 file +1 -1 (a.py)" in facts
    shown = json.loads(looking("show", "ship", "--json").out)["turns"][0]["changes"]
    assert (shown["commits"], shown["committed"]["branch"], shown["files"]) == (1, "release", [])
