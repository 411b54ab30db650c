"""The host table's row for a client that is not Claude Code: the MCP Inspector, on the real door."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import paths, rehearsal
from tests.conformance import run
from tests.fixtures.raw_door import end_daemon
from tests.fixtures.tasks_host import Host

SCRIPT = Path(__file__).parents[1] / "server" / "asking.yaml"
PROGRAMS = run.TOOLS / "node_modules" / ".bin"
LIMIT_SECONDS = 120.0


@pytest.fixture
def host(tmp_path: Path, state: Path, project: Path) -> Iterator[Host]:
    if run.suite() is None:
        pytest.skip("the Inspector is not installed: make conformance")
    home = tmp_path / "host-home"
    home.mkdir()
    with rehearsal.start(SCRIPT, log=None) as playing:
        yield Host(home, state, project, playing.url, "asking")
        end_daemon(state)


def inspect(host: Host, *arguments: str) -> dict[str, Any]:
    """What the Inspector prints; it must succeed."""
    environment = {**host.env, "FLEET_SESSION": "inspector"}  # each of its calls opens a door
    given = [word for name, value in environment.items() for word in ("-e", f"{name}={value}")]
    door = [sys.executable, "-m", "orchestrator", "mcp"]
    ran = subprocess.run(
        [str(PROGRAMS / "node"), str(PROGRAMS / "mcp-inspector"), "--cli", *given, *door, *arguments],
        cwd=host.project,
        env=host.env,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return json.loads(ran.stdout)


def call(host: Host, era: str, tool: str, **arguments: str) -> str:
    given = [word for name, value in arguments.items() for word in ("--tool-arg", f"{name}={value}")]
    found = inspect(host, "--method", "tools/call", "--tool-name", tool, *given, "--protocol-era", era)
    assert not found.get("isError"), found
    return str(found["content"][0]["text"])


@pytest.mark.requirement("mcp:conformance:both-wires")
def test_its_strict_check_finds_nothing_in_the_tools_schemas(host: Host) -> None:
    listed = inspect(host, "--method", "tools/list", "--strict")
    assert "wait_for_agents" in {tool["name"] for tool in listed["tools"]}


@pytest.mark.requirement("task:hosts:real-clients", "wait:call:every-host")
@pytest.mark.parametrize(("era", "sleeps"), [("modern", ["completed"]), ("legacy", [])])
def test_it_sleeps_on_a_task_where_the_protocol_has_them_and_blocks_where_not(
    host: Host, era: str, sleeps: list[str]
) -> None:
    call(host, era, "create_agent", name="quick", task="look", persona="scout")
    assert "| found it" in call(host, era, "wait_for_agents")
    with sqlite3.connect(f"file:{paths.database_path(host.daemon.state)}?mode=ro", uri=True) as store:
        found = [status for (status,) in store.execute("SELECT status FROM durable_wait")]
    store.close()
    assert found == sleeps
