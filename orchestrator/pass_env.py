"""FLEET_PASS_ENV: which further variables of a caller its agents get, and which they never get.

Standard library only and cheap to import, because every `fleet mcp` imports it.
"""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "FLEET_PASS_ENV"
UMASK = "FLEET_UMASK"
"""carries the caller's umask to the shim of an agent's programs; the programs themselves do not see it"""
MAX_NAMES = 100
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_FLEET, _MODEL, _CODE = (
    "it steers Fleet itself, and an agent must not command the fleet that runs it",
    "it decides which model provider is asked and who pays, outside of every budget",
    "it loads code into every program of the agent, the model's client included",
)
_REFUSED = {
    **dict.fromkeys(("FLEET_", "AGENT_"), _FLEET),
    **dict.fromkeys(
        (
            *(
                "ANTHROPIC_",
                "CLAUDE_",
                "CLAUDECODE",
                "CLOUD_ML_",
                "VERTEX_REGION_",
                "AWS_BEARER_TOKEN_",
                "AWS_ENDPOINT_URL",
            ),
            *("OPENAI_", "AZURE_OPENAI_", "CODEX_", "GEMINI_", "GOOGLE_API_KEY", "GOOGLE_GENAI_", "GOOGLE_GEMINI_"),
            *("MISTRAL_API_KEY", "OPENROUTER_", "XAI_API_KEY", "GROQ_API_KEY", "DEEPSEEK_API_KEY"),
        ),
        _MODEL,
    ),
    **dict.fromkeys(("LD_", "DYLD_", "NODE_OPTIONS", "BUN_OPTIONS", "BUN_INSPECT"), _CODE),
}
"""the beginnings of names that never pass by FLEET_PASS_ENV, each with the reason"""


def names(text: str | None) -> tuple[str, ...]:
    """Return the names in a value of FLEET_PASS_ENV, each once."""
    return tuple(dict.fromkeys(name for part in (text or "").split(",") if (name := part.strip())))


def refusal(name: str) -> str:
    """Return why this name cannot pass; '' if it can."""
    if not _NAME.match(name):
        return "it is not the name of a variable"
    return next((reason for start, reason in _REFUSED.items() if name.upper().startswith(start)), "")


def problem(text: str | None) -> str:
    """Return what is wrong with a value of FLEET_PASS_ENV, naming each bad name; '' if nothing is."""
    asked = names(text)
    if len(asked) > MAX_NAMES:
        return f"{VARIABLE} has {len(asked)} names; at most {MAX_NAMES} may pass"
    wrong = [f"{name[:60]!a} cannot pass: {reason}" for name in asked if (reason := refusal(name))]
    return f"{VARIABLE}: {'; '.join(wrong)}" if wrong else ""


def passed(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of `env` that its FLEET_PASS_ENV names and that may pass."""
    return {name: env[name] for name in names(env.get(VARIABLE)) if name in env and not refusal(name)}


def umask() -> str:
    """Return the umask of this process in octal digits."""
    if sys.platform == "linux":
        try:
            with Path("/proc/self/status").open(encoding="ascii", errors="replace") as status:
                return next(line for line in status if line.startswith("Umask:")).split()[1]
        except (OSError, StopIteration, IndexError):
            pass
    mask = os.umask(0o077)  # it can only be read by setting it
    os.umask(mask)
    return f"{mask:04o}"
