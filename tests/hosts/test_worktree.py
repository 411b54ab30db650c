"""Agents work where the real `claude` says that it works: in a worktree that it has entered, but not a sub-agent's."""

from __future__ import annotations

import json
import re
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
SUB_AGENT = f"""
name: sub-agent
parts:
  - part: session
    match: {{task: "^Delegate"}}
    replies:
      - calls:
          - tool: Agent
            input:
              description: isolated
              prompt: create agents from your worktree
              subagent_type: general-purpose
              isolation: worktree
              run_in_background: false
      - say: done
  - part: sub-agent
    match: {{task: "^create agents from your worktree"}}
    replies:
      - calls: [{{tool: Bash, as: here, input: {{command: pwd}}}}]
      - calls:
          - {{tool: {TOOLS}create_agent, as: one, input: {{name: without, task: make the file, persona: builder}}}}
          - tool: {TOOLS}create_agent
            as: two
            input: {{name: with, task: make the file, persona: builder, cwd: "{{{{ results.here }}}}"}}
          - {{tool: {TOOLS}wait_for_agents, as: waited, input: {{until: all}}}}
      - say: made both
  - part: agent
    match: {{task: "^make the file"}}
    replies:
      - calls: [{{tool: Write, input: {{file_path: made.txt, content: "made\\n"}}}}]
      - say: made it
"""


def played(script: str, task: str, place: Path, state: Path, project: Path) -> str:
    """What the real `claude` prints when it plays the script in a repository with Fleet as its server."""
    home = place / "host-home"
    home.mkdir()
    (place / "script.yaml").write_text(script)
    for words in ("init -q", "config user.name t", "config user.email t@t.invalid", "commit -q --allow-empty -m first"):
        subprocess.run(["git", *words.split()], cwd=project, check=True)
    door = {"command": sys.executable, "args": ["-m", "orchestrator", "mcp"], "alwaysLoad": True}
    with rehearsal.start(place / "script.yaml") as model:
        keys = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "sk-test-not-a-key"}
        waiting = {
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "MCP_CONNECT_TIMEOUT_MS": "60000",
            "IS_SANDBOX": "1",
        }
        try:
            ran = subprocess.run(
                [
                    *(CLAUDE, "-p", task, "--permission-mode", "bypassPermissions"),
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
    return ran.stdout


@pytest.mark.slow
@pytest.mark.requirement("agent:place:follows-the-session", "guarantee:place:named-and-followed")
def test_agents_work_in_the_worktree_that_claude_has_entered(tmp_path: Path, state: Path, project: Path) -> None:
    printed = played(SCRIPT, "Enter a worktree", tmp_path, state, project)
    worktree = project / ".claude" / "worktrees" / "side"
    assert "in .claude/worktrees/side on worktree-side, not the project's own checkout" in printed, printed
    assert "[maker complete" in printed, printed
    assert "in .claude/worktrees/side on worktree-side, not the project's own checkout · " in printed
    assert (worktree / "made.txt").read_text() == "made\n"
    assert not (project / "made.txt").exists()


@pytest.mark.slow
@pytest.mark.requirement("agent:place:follows-the-session")
def test_agents_of_a_sub_agent_with_its_own_worktree_work_there_only_if_it_gives_cwd(
    tmp_path: Path, state: Path, project: Path
) -> None:
    """Claude's answer to roots/list does not follow a sub-agent. If this fails, it does now: the docs must say so."""
    printed = played(SUB_AGENT, "Delegate", tmp_path, state, project)
    (worktree,) = (project / ".claude" / "worktrees").iterdir()
    place = f"in .claude/worktrees/{worktree.name} on worktree-{worktree.name}, not the project's own checkout"
    assert re.search(r" without \w+ · claude · on ", printed), printed
    assert re.search(rf" with \w+ · claude · {re.escape(place)}", printed)
    assert "2 complete" in printed
    assert f"[with complete · {place} · " in printed
    assert "[without complete · in " not in printed
    assert (project / "made.txt").read_text() == (worktree / "made.txt").read_text() == "made\n"
