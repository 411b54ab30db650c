"""The names that Claude Code knows: its models and its whole tools."""

from __future__ import annotations

import re
from types import MappingProxyType

MODELS = MappingProxyType(
    {
        "default": "what the account's Claude Code uses by default",
        "haiku": "the newest small model: fast and cheap",
        "sonnet": "the newest middle model",
        "opus": "the newest large model",
    }
)
OFFERED = (
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
"""What an agent without a list of its own gets: all that works unattended (Claude Code 2.1.329's init message).

Left out are tools that need a person (questions, plan mode), that act after the session's end (cron, wake-ups,
monitors), that leave the directory (worktrees), or that duplicate Fleet (SendMessage, Workflow).
"""
_ON_REQUEST = ("Skill", "Task", "TaskStop", "ToolSearch")
RETIRED = frozenset(
    {"AskUserQuestion", "BashOutput", "ExitPlanMode", "KillShell", "LS", "MultiEdit", "NotebookRead", "TodoWrite"}
)
"""Names that agent files still carry though this CLI offers an unattended session no such tool: they mean nothing."""

_MODEL = re.compile(
    r"""claude-[a-z0-9][a-z0-9.-]*(@[0-9]{8})?(\[1m\])?          # Anthropic and Vertex
      | ([a-z]+(-[a-z]+)?\.)?anthropic\.claude-[a-z0-9.:-]+(\[1m\])?   # Bedrock, with or without a region group
      | arn:aws[a-z-]*:bedrock:[a-z0-9-]*:[0-9]*:[a-z-]+/[A-Za-z0-9.:/-]+
      | (haiku|sonnet|opus)\[1m\]""",
    re.VERBOSE,
)


TOOLS = frozenset(OFFERED) | frozenset(_ON_REQUEST) | RETIRED
"""Every name that may stand in a list of tools."""


def is_model(model: str) -> bool:
    """Whether it is an alias, or has the form of a Claude model's id, also Bedrock's and Vertex's."""
    return model in MODELS or _MODEL.fullmatch(model) is not None
