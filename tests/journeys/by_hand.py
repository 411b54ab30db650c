"""Runs each role of scout-plan-build in a real `claude` without Fleet, to test the script alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import claude_agent_sdk

from orchestrator.fleet.briefing.handoff import SourceResult, write_inputs
from orchestrator.fleet.briefing.system_prompt import with_files

CLAUDE = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"
SECONDS = 120.0
FORMAT = ("--output-format", "stream-json", "--verbose")
TOOLS = {"scout": "Read,Grep,Glob", "planner": "Read", "builder": "Read,Grep,Edit,Bash"}
PRODUCES = {"scout": "relevant-files.md", "planner": "detailed-plan.md", "builder": "report.md"}


@dataclass(frozen=True, kw_only=True)
class Crew:
    """Where the roles work, who answers them (`url`: the model; `answer`: the orchestrator), where their traces lie."""

    url: str
    repository: Path
    home: Path
    answer: str

    @property
    def asked(self) -> list[dict[str, object]]:
        """The questions that were asked."""
        file = self.home / "asked.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return [cast("dict[str, object]", json.loads(line)) for line in lines]


@dataclass(frozen=True, kw_only=True)
class Member:
    """An agent as the orchestrator would create it, taken from what the script made it say."""

    name: str
    persona: str
    task: str
    inputs: tuple[str, ...]


def run_chain(crew: Crew, members: list[Member]) -> Mapping[str, SourceResult]:
    """Run the agents in order, each with the results of its inputs in files, and give every result by name."""
    results: dict[str, SourceResult] = {}
    for member in members:
        desk = crew.repository / ".fleet" / "desk" / member.name
        files = write_inputs(_made(desk), [results[name] for name in member.inputs])
        text = _run(crew, member, with_files(member.task, files))
        results[member.name] = SourceResult(
            agent=member.name, persona=member.persona, status="complete", produces=PRODUCES[member.persona], text=text
        )
    return results


def _made(desk: Path) -> Path:
    desk.parent.parent.mkdir(exist_ok=True)
    return desk


def _run(crew: Crew, member: Member, task: str) -> str:
    tools = TOOLS[member.persona]
    server = [str(Path(__file__).with_name("crew_server.py")), crew.answer, str(crew.home / "asked.jsonl")]
    crew_server = {"mcpServers": {"crew": {"command": sys.executable, "args": server}}}
    servers = ["--strict-mcp-config", "--mcp-config", json.dumps(crew_server)]
    done = subprocess.run(
        [CLAUDE, "-p", task, *FORMAT, "--tools", tools, "--allowedTools", f"{tools},mcp__crew", *servers],
        cwd=crew.repository,
        env={
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(crew.home),
            "LANG": "C.UTF-8",
            "ANTHROPIC_BASE_URL": crew.url,
            "ANTHROPIC_API_KEY": "no-real-key",
            "ANTHROPIC_CUSTOM_HEADERS": f"x-fleet-agent: {member.name}\nx-fleet-persona: {member.persona}",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    last = [line for line in done.stdout.splitlines() if line.startswith("{")][-1:]
    said = cast("dict[str, object]", json.loads(last[0])) if last else {}
    assert (said.get("type"), said.get("is_error")) == ("result", False), (member.name, said, done.stderr)
    return str(said["result"])
