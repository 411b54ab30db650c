"""The models and tools that Claude Code knows, by name."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import MappingProxyType

MODEL_ALIASES = MappingProxyType(
    {
        "default": "what the account's Claude Code uses by default",
        "haiku": "the newest small model: fast and cheap",
        "sonnet": "the newest middle model",
        "opus": "the newest large model",
    }
)
DEFAULT_TOOLS = (
    "Agent",
    "Bash",
    "Edit",
    "Glob",
    "Grep",
    "NotebookEdit",
    "Read",
    "TaskCreate",
    "TaskGet",
    "TaskList",
    "TaskUpdate",
    "WebFetch",
    "WebSearch",
    "Write",
)
"""The tools of an agent whose persona lists none: all that work unattended (Claude Code 2.1.329's init message).

Left out are tools that need a person (questions, plan mode), act after the session has ended (cron, wake-ups,
monitors), leave the directory (worktrees), or duplicate Fleet (SendMessage, Workflow).
"""
_OPTIONAL_TOOLS = ("Skill", "TaskStop", "ToolSearch")
RETIRED_TOOLS = frozenset(
    {"Artifact", "AskUserQuestion", "BashOutput", "CronCreate", "CronDelete", "CronList", "EnterPlanMode"}
    | {"EnterWorktree", "ExitPlanMode", "ExitWorktree", "LS", "LSP", "ListAgents", "ListMcpResourcesTool", "Monitor"}
    | {"MultiEdit", "NotebookRead", "PowerShell", "ReadMcpResourceDirTool", "ReadMcpResourceTool", "RemoteTrigger"}
    | {"ScheduleWakeup", "SendMessage", "SendUserMessage", "SetGoal", "SlashCommand", "TaskOutput", "TodoWrite"}
    | {"Workflow"}
)
"""Names that agent files may list although this CLI has no such tool in unattended sessions; they are ignored."""

_MODEL_ID = re.compile(
    r"""claude-[a-z0-9][a-z0-9.-]*(@[0-9]{8})?(\[1m\])?          # Anthropic and Vertex
      | ([a-z]+(-[a-z]+)?\.)?anthropic\.claude-[a-z0-9.:-]+(\[1m\])?   # Bedrock, with or without a region group
      | arn:aws[a-z-]*:bedrock:[a-z0-9-]*:[0-9]*:[a-z-]+/[A-Za-z0-9.:/-]+
      | (haiku|sonnet|opus)\[1m\]""",
    re.VERBOSE,
)


TOOL_NAMES = frozenset(DEFAULT_TOOLS) | frozenset(_OPTIONAL_TOOLS) | RETIRED_TOOLS
"""Every name that a persona's list of tools may contain."""
SOCKET_FOLDERS = ("cc-socks", "cc-socks-{uid}", "cc-daemon-{uid}", "claude-mcp-browser-bridge-{user}")
"""Where running `claude` programs of a user listen for each other, below a directory for temporary files (2.1.329).

A process that can connect to one could give orders to the program of another session, or read what it knows.
"""


def is_model(model: str) -> bool:
    """Whether this is an alias, or has the form of a Claude model's id (Anthropic, Bedrock or Vertex)."""
    return model in MODEL_ALIASES or _MODEL_ID.fullmatch(model) is not None


def bundled_program() -> Path | None:
    """The `claude` that ships with claude-agent-sdk, which is not imported; None if it ships none here."""
    spec = importlib.util.find_spec("claude_agent_sdk")
    places = (Path(place) / "_bundled" / "claude" for place in (spec and spec.submodule_search_locations) or ())
    return next((program for program in places if program.is_file()), None)
