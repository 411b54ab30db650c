"""The plugin's files, checked by Claude Code's own validator and Fleet's own reader of personas."""

from __future__ import annotations

import json
import re
import struct
import subprocess
from pathlib import Path
from typing import Any, cast

import claude_agent_sdk
import pytest
from ruamel.yaml import YAML

from orchestrator import personas
from tests.fixtures.daemon import ROOT
from tests.fixtures.raw_door import RawDoors

CLAUDE = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"
SERVER = "mcp__plugin_fleet_fleet"
COMMANDS = {
    "build",
    "create-agent",
    "delete-all-agents",
    "plan-with-docs",
    "scout",
    "scout-build",
    "scout-plan-build",
    "status",
}
PERSONAS = {"builder", "planner", "reviewer", "scout", "shipper"}
READ_ONLY = {"Read", "Grep", "Glob"}


def manifest() -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads((ROOT / ".claude-plugin" / "plugin.json").read_text()))


def front_matter(path: Path) -> dict[str, Any]:
    loaded = YAML(typ="safe").load(path.read_text().split("---")[1])  # pyright: ignore[reportUnknownMemberType] - ruamel is untyped
    return cast("dict[str, Any]", loaded)


@pytest.mark.requirement("plugin:validation:strict")
@pytest.mark.parametrize("place", [".", ".claude-plugin/plugin.json"])
def test_claude_finds_nothing_wrong_with_the_plugin(place: str, home: Path) -> None:
    env = {"PATH": "/usr/bin:/bin", "HOME": str(home), "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
    command = [CLAUDE, "plugin", "validate", place, "--strict"]
    ran = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Validation passed" in ran.stdout
    assert "ICON_MISSING" not in ran.stdout


@pytest.mark.parametrize(("key", "folder"), [("agents", "agents"), ("commands", "prompts")])
def test_every_file_is_named_and_every_named_file_exists(key: str, folder: str) -> None:
    there = sorted(f"./{path.relative_to(ROOT)}" for path in (ROOT / folder).rglob("*.md"))
    assert sorted(manifest()[key]) == there


@pytest.mark.requirement("plugin:commands:eight", "plugin:commands:chains")
def test_the_slash_commands_take_their_text_and_may_use_the_fleet() -> None:
    files = [ROOT / name for name in manifest()["commands"]]
    assert {path.stem for path in files} == COMMANDS
    for path in files:
        front = front_matter(path)
        assert front["allowed-tools"] == SERVER, path
        assert front["description"], path
        assert isinstance(front["argument-hint"], str), path
        assert "$ARGUMENTS" in path.read_text(), path


@pytest.mark.parametrize("name", ["build", "plan-with-docs", "scout", "scout-build", "scout-plan-build"])
def test_a_command_that_starts_a_chain_teaches_to_create_and_wait_in_one_message(name: str) -> None:
    steps = re.split(r"^\d\. ", (ROOT / "prompts" / f"{name}.md").read_text(), flags=re.MULTILINE)
    first = next(step for step in steps if "in one message" in step.lower())
    assert 0 <= first.find("create_agent") < first.find("wait_for_agents")


@pytest.mark.requirement("plugin:tools:full-names", "plugin:orchestrator:tools-and-sleep")
def test_the_orchestrator_has_exactly_the_tools_that_the_fleet_offers_by_their_full_names(
    open_door: RawDoors,
) -> None:
    orchestrator = personas.find_persona("orchestrator", ROOT, None)
    assert sorted(orchestrator.tools or ()) == sorted(f"{SERVER}__{name}" for name in open_door().tool_names())


@pytest.mark.requirement("plugin:personas:five-roles")
def test_the_personas_are_sub_agents_and_ours_and_only_a_builder_can_write(tmp_path: Path) -> None:
    found = {persona.name: persona for persona in personas.list_personas(tmp_path, None).found}
    assert set(found) == PERSONAS
    assert {Path(name).stem for name in manifest()["agents"]} == PERSONAS | {"orchestrator"}
    for name, persona in found.items():
        assert persona.tools is not None
        assert persona.writes is (name == "builder")
        assert persona.description
        assert "mcp__crew__ask_orchestrator" in persona.prompt
    assert found["scout"].tools == ("Read", "Grep", "Glob")
    assert set(found["planner"].tools or ()) == READ_ONLY
    assert found["scout"].produces == "relevant-files.md"
    assert found["planner"].produces == "detailed-plan.md"
    assert found["builder"].produces == "build-report.md"


def test_the_icon_is_a_square_png_of_the_size_that_the_plugin_directory_takes() -> None:
    icon = (ROOT / ".claude-plugin" / "icon.png").read_bytes()
    assert icon.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", icon[16:24]) == (512, 512)
