"""The real `claude` enters a worktree in mid-session: agents that it creates then work there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import rehearsal
from tests.fixtures.daemon import clean_env
from tests.fixtures.raw_door import end_daemon
from tests.plugin.test_manifest import CLAUDE

TOOLS = "mcp__fleet__"
SCRIPT = f"""
name: worktree
parts:
  - part: session
    match: {{task: "^Enter a worktree"}}
    replies:
      - calls: [{{tool: EnterWorktree, as: entered, input: {{name: side}}}}]
      - calls:
          - tool: {TOOLS}create_agent
            as: created
            input: {{name: maker, task: make the file, persona: builder}}
          - {{tool: {TOOLS}wait_for_agents, as: waited}}
      - say: done
  - part: agent
    match: {{task: "^make the file"}}
    replies:
      - calls: [{{tool: Write, input: {{file_path: made.txt, content: "made\\n"}}}}]
      - say: made it
"""


@pytest.mark.slow
@pytest.mark.requirement("agent:place:follows-the-session", "guarantee:place:named-and-followed")
def test_agents_work_in_the_worktree_that_claude_has_entered(tmp_path: Path, state: Path, project: Path) -> None:
    home = tmp_path / "host-home"
    home.mkdir()
    (tmp_path / "script.yaml").write_text(SCRIPT)
    for words in ("init -q", "config user.name t", "config user.email t@t.invalid", "commit -q --allow-empty -m first"):
        subprocess.run(["git", *words.split()], cwd=project, check=True)
    door = {"command": sys.executable, "args": ["-m", "orchestrator", "mcp"], "alwaysLoad": True}
    with rehearsal.start(tmp_path / "script.yaml") as model:
        keys = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "sk-test-not-a-key"}
        waiting = {
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "MCP_CONNECT_TIMEOUT_MS": "60000",
            "IS_SANDBOX": "1",
        }
        try:
            ran = subprocess.run(
                [
                    *(CLAUDE, "-p", "Enter a worktree", "--permission-mode", "bypassPermissions"),
                    *("--mcp-config", json.dumps({"mcpServers": {"fleet": door}}), "--strict-mcp-config"),
                    *("--output-format", "stream-json", "--verbose"),
                ],
                env=clean_env(home, state, **keys, **waiting),
                cwd=project,
                capture_output=True,
                text=True,
                timeout=150,
                check=False,
            )
        finally:
            end_daemon(state)
    worktree = project / ".claude" / "worktrees" / "side"
    assert "in .claude/worktrees/side on worktree-side, not where this session was started" in ran.stdout, ran.stdout
    assert "[maker complete" in ran.stdout, ran.stdout
    assert "in .claude/worktrees/side on worktree-side, not where this session was started · " in ran.stdout
    assert (worktree / "made.txt").read_text() == "made\n"
    assert not (project / "made.txt").exists()
