"""A project's file may replace one of Fleet's personas only to narrow it, until a person trusts that very file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.domain.clearance import wider
from orchestrator.personas import own_persona
from tests.fixtures.fleet_command import Command

pytestmark = pytest.mark.requirement("persona:own:replaced-only-with-trust")
WIDE = "---\nname: scout\ndescription: d\ntools: Read, Bash\n---\nScout everything.\n"
NARROW = "---\nname: scout\ndescription: d\ntools: Read\n---\nScout little.\n"


def replace_scout(project: Path, text: str) -> Path:
    """The project's own scout."""
    path = project / ".claude" / "agents" / "scout.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_that_widens_a_persona_is_refused_until_it_is_trusted_and_again_once_it_changes(fleet: Command) -> None:
    path = replace_scout(fleet.cwd, WIDE)
    refused = fleet("create", "a", "look", "--persona", "scout")
    assert refused.code != 0
    assert "persona scout of .claude/agents/scout.md replaces Fleet's own and may do more: Bash" in refused.err
    assert "fleet trust scout" in refused.err
    trusted = fleet("trust", ".claude/agents/scout.md")
    assert f"scout trusted: {path}" in trusted.out, trusted.err
    assert "it may do more than Fleet's own: Bash" in trusted.out
    (listed,) = fleet("trust", "--list", "--json").json["personas"]
    assert (listed["name"], listed["path"]) == ("scout", str(path))
    created = fleet("create", "a", "look", "--persona", "scout")
    assert created.code == 0, created.err
    assert "scout (persona of .claude/agents/scout.md)" in created.out
    replace_scout(fleet.cwd, WIDE + "And more.\n")
    assert "replaces Fleet's own" in fleet("create", "b", "look", "--persona", "scout").err
    replace_scout(fleet.cwd, WIDE)
    assert "no longer trusted" in fleet("trust", "scout", "--revoke").out
    assert "replaces Fleet's own" in fleet("create", "b", "look", "--persona", "scout").err
    replace_scout(fleet.cwd, NARROW)
    assert fleet("create", "b", "look", "--persona", "scout").code == 0
    assert fleet("rm", "--all").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name one persona"),
        (("scout", "--list"), "name one persona"),
        (("scout",), "is Fleet's own"),
        (("nobody",), "no persona 'nobody'"),
        (("scout", "--revoke"), "no trusted persona 'scout'"),
    ],
)
def test_what_cannot_be_trusted_is_said(fleet: Command, arguments: tuple[str, ...], said: str) -> None:
    ran = fleet("trust", *arguments)
    assert ran.code != 0
    assert said in ran.err


@pytest.mark.parametrize(
    ("name", "changed", "more"),
    [
        ("scout", {"tools": ("Read",)}, []),
        ("scout", {"tools": None}, ["every tool"]),
        ("scout", {"tools": ("Read", "Write"), "ask": ("Bash",)}, ["Write", "Bash"]),
        ("scout", {"children": 3}, ["create 3 agents"]),
        ("scout", {"commits": True}, ["commit"]),
        ("reviewer", {"verdict": False}, ["end without a verdict"]),
    ],
)
def test_whatever_a_persona_may_do_more_is_named(name: str, changed: dict[str, Any], more: list[str]) -> None:
    own = own_persona(name)
    assert own is not None
    assert wider(replace(own, **changed), own) == more
