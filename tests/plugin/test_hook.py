"""The plugin in the real Claude Code: which tools run without anybody being asked, and which do not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, cast

import pytest

from orchestrator import rehearsal
from tests.fixtures.daemon import ROOT
from tests.plugin.test_manifest import CLAUDE, COMMANDS, PERSONAS, SERVER

OWN = f"{SERVER}__fleet_not_installed"
FOREIGN = f"mcp__other__{SERVER}__fleet_not_installed"

SCRIPT = f"""
name: what-is-allowed
parts:
  - part: main
    match: {{task: 'Try all three'}}
    replies:
      - calls:
          - {{tool: {OWN}, as: own}}
          - {{tool: {FOREIGN}, as: foreign}}
          - {{tool: Bash, as: shell, input: {{command: "touch made", description: make a file}}}}
      - say: done
"""


@dataclass(frozen=True)
class Run:
    """What `claude -p` printed: its first message and the results of the tools by the names of the script."""

    init: dict[str, Any]
    results: dict[str, dict[str, Any]]
    denied: list[str]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One session in an empty project, with the plugin but no permission flag, and a second server beside it."""
    place = tmp_path_factory.mktemp("hook")
    plugin = place / "plugin"
    for name in ("bin", "orchestrator", ".claude-plugin", "agents", "prompts"):
        shutil.copytree(ROOT / name, plugin / name)
    shutil.copy(ROOT / "mcp.config.json", plugin)
    (place / "project").mkdir()
    (place / "script.yaml").write_text(SCRIPT)
    refusal = [
        str(plugin / "orchestrator" / "fallback_server.py"),
        f"{SERVER}__fleet_not_installed",
        "from another server",
    ]
    other = {"command": sys.executable, "args": ["-I", *refusal], "alwaysLoad": True}
    with rehearsal.start(place / "script.yaml") as model:
        ran = subprocess.run(
            [
                *(CLAUDE, "-p", "Try all three", "--plugin-dir", plugin),
                *("--mcp-config", json.dumps({"mcpServers": {"other": other}})),
                *("--output-format", "stream-json", "--verbose"),
            ],
            env={
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "HOME": str(place),
                "LANG": "C.UTF-8",
                "ANTHROPIC_BASE_URL": model.url,
                "ANTHROPIC_API_KEY": "none",
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
                "MCP_CONNECT_TIMEOUT_MS": "60000",
            },
            cwd=place / "project",
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    return _read([cast("dict[str, Any]", json.loads(line)) for line in ran.stdout.splitlines()])


def _read(messages: list[dict[str, Any]]) -> Run:
    blocks = [block for message in messages if message["type"] == "user" for block in message["message"]["content"]]
    results = {name: block for block in blocks for name in ("own", "foreign", "shell") if name in block["tool_use_id"]}
    denied = [denial["tool_name"] for denial in messages[-1]["permission_denials"]]
    return Run(
        init=next(message for message in messages if message["type"] == "system"), results=results, denied=denied
    )


@pytest.mark.requirement("plugin:hook:own-tools-only")
def test_the_hook_approves_the_fleets_own_tools_and_nothing_else(run: Run) -> None:
    assert "Python package is not installed" in str(run.results["own"]["content"])
    assert "from another server" not in str(run.results["foreign"]["content"])
    assert run.denied == [FOREIGN, "Bash"]


@pytest.mark.requirement("plugin:commands:eight", "plugin:personas:five-roles")
def test_claude_offers_the_commands_and_the_sub_agents_of_the_plugin(run: Run) -> None:
    assert {f"fleet:{name}" for name in COMMANDS} <= set(run.init["slash_commands"])
    assert {f"fleet:{name}" for name in {*PERSONAS, "orchestrator"}} <= set(run.init["agents"])
    assert {"name": "plugin:fleet:fleet", "status": "connected", "source": "plugin"} in run.init["mcp_servers"]
    assert OWN in run.init["tools"]
