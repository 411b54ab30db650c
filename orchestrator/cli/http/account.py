"""Finds which key or login would pay for agents, from environment and files, without reading the secret itself."""

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
    """Who would pay, in words ('' if unknown), and why agents could not use it ('' if they can)."""

    text: str
    trouble: str = ""


def payer_of(environment: Mapping[str, str]) -> Payer:
    """Return the account that Claude Code would use in this environment, and whether agents created from it could, too.

    Claude Code 2.1.329 withholds CLAUDE_CODE_OAUTH_TOKEN from its MCP servers (measured), so a door never sees it.
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
            "Claude Code keeps this variable from MCP servers, so agents created from inside it cannot use it",
        )
    if sys.platform == "darwin":
        return Payer("perhaps a login in the keychain (not checked)")
    return Payer("", "no key and no login found")
