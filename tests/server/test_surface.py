"""What an orchestrator is shown: small, and pinned, because models were tested with exactly this."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.server.mcp.tools import INSTRUCTIONS
from tests.fixtures.daemon import Daemon
from tests.fixtures.door import through_door
from tests.hosts import crew

SNAPSHOT = Path(__file__).with_name("tools.snapshot.json")
MAX_TOKENS = 1300
BYTES_PER_TOKEN = 4
TEXT = {"type": "string"}
PLAIN = {"type", "description", "enum", "items", "minItems", "maxItems", "minLength", "maxLength", "minimum", "maximum"}
ROOT = SNAPSHOT.parents[2]
MAX_INSTRUCTIONS_BYTES = 1000


async def surface(daemon: Daemon, project: Path, mode: str) -> list[dict[str, object]]:
    async with through_door(daemon, project, mode) as client:
        assert client.instructions == INSTRUCTIONS
        listed = (await client.list_tools()).tools
    return [{"name": tool.name, "description": tool.description, "inputSchema": tool.input_schema} for tool in listed]


@pytest.mark.anyio
@pytest.mark.requirement(
    "mcp:protocol:both-eras",
    "mcp:tools:snapshot",
    "mcp:schema:token-limit",
    "mcp:surface:tenth-of-peers",
    "mcp:schema:enforced-parameters-only",
)
async def test_the_tools_are_those_of_the_snapshot_in_both_eras_and_fit_their_budget(
    daemon: Daemon, project: Path
) -> None:
    modern, legacy = await surface(daemon, project, "auto"), await surface(daemon, project, "legacy")
    assert modern == legacy
    assert modern == json.loads(SNAPSHOT.read_text()), f"the tools changed; if that was tried, rewrite {SNAPSHOT.name}"
    sent = json.dumps(modern, ensure_ascii=False, separators=(",", ":")).encode()
    assert len(sent) / BYTES_PER_TOKEN <= MAX_TOKENS


@pytest.mark.requirement("mcp:schema:every-host")
def test_every_schema_says_one_type_for_each_property_and_nothing_that_another_vendor_refuses() -> None:
    listed = [tool["inputSchema"] for tool in json.loads(SNAPSHOT.read_text())]
    for schema in (*listed, *(tool.schema for tool in crew.TOOLS)):
        assert schema.keys() <= {"type", "properties", "required"}
        for described in schema["properties"].values():
            assert described.keys() <= PLAIN, described
            assert isinstance(described["type"], str)
            assert described["type"] == "string" or "enum" not in described
            assert described.get("items", TEXT) == TEXT


@pytest.mark.requirement("mcp:schema:every-host")
def test_ci_converts_them_with_the_libraries_of_other_hosts() -> None:
    assert "make hosts" in (ROOT / ".ci" / "run").read_text()
    assert "tests/hosts/libraries.py" in (ROOT / "Makefile").read_text()


@pytest.mark.requirement("mcp:schema:token-limit")
def test_the_instructions_are_short_and_teach_the_sleep() -> None:
    assert len(INSTRUCTIONS.encode()) < MAX_INSTRUCTIONS_BYTES
    assert "wait_for_agents" in INSTRUCTIONS
    assert "Never poll" in INSTRUCTIONS
