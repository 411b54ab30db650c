"""Whose key or login would pay, as far as an environment and the user's files show; never the secret itself."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_CLOUDS = {"CLAUDE_CODE_USE_BEDROCK": "Amazon Bedrock", "CLAUDE_CODE_USE_VERTEX": "Google Vertex AI"}
_KEYS = ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY")
_WITHHELD = "CLAUDE_CODE_OAUTH_TOKEN"
LOG_IN = "run claude and log in, or set ANTHROPIC_API_KEY"


@dataclass(frozen=True)
class Payer:
    """Who would pay, in words ('' if nobody was found), and why agents could not use it ('' if they can)."""

    text: str
    trouble: str = ""


def payer_of(environment: Mapping[str, str]) -> Payer:
    """The account that Claude Code would use in this environment, and whether agents made from inside it could.

    Claude Code 2.1.329 keeps CLAUDE_CODE_OAUTH_TOKEN from its MCP servers (measured), so a door never learns it.
    """
    for name, what in _CLOUDS.items():
        if environment.get(name, "0") not in {"", "0", "false"}:
            return Payer(f"{what} ({name})")
    for name in _KEYS:
        if environment.get(name):
            return Payer(f"the account of {name}")
    home = Path(environment.get("HOME") or Path.home())
    login = Path(environment.get("CLAUDE_CONFIG_DIR") or home / ".claude") / ".credentials.json"
    if login.is_file():
        return Payer(f"the login in {login}")
    if environment.get(_WITHHELD):
        return Payer(
            f"the account of {_WITHHELD}",
            "Claude Code keeps this variable from MCP servers, so agents that are created inside it cannot use it",
        )
    if sys.platform == "darwin":
        return Payer("perhaps a login in the keychain (not looked into)")
    return Payer("", "no key and no login found")
