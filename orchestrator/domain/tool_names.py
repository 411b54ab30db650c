"""The names of tools in rules: one tool has one name, however a rule spells it."""

from __future__ import annotations

from collections.abc import Iterable

MCP = "mcp__"
CREW_SERVER = "mcp__crew"
_RENAMED = {"task": "agent", "killshell": "taskstop", "killbash": "taskstop"}
"""former names of tools that Claude Code still accepts in rules (2.1.329, measured)"""


def key_of(name: str) -> str:
    """What all spellings of one tool share: its present name in lower case.

    A rule may also name a whole MCP server, `mcp__server__*`, or all of them, `mcp__*`.
    """
    plain = name.strip()
    if plain.startswith(MCP):
        return MCP if plain == f"{MCP}*" else plain.removesuffix("__*")
    lower = plain.lower()
    return _RENAMED.get(lower, lower)


def is_named(tool: str, rules: Iterable[str]) -> bool:
    """Whether one of the rules names this tool, the MCP server that it belongs to, or every server."""
    key = key_of(tool)
    return any(
        key == rule or (rule.startswith(MCP) and key.startswith(f"{rule.removesuffix('__')}__"))
        for rule in map(key_of, rules)
    )


def is_pattern(name: str) -> bool:
    """Whether this names calls of a tool, as in `Bash(git *)`, or several tools at once."""
    return "(" in name or "*" in name.removesuffix("__*")


def without_pattern(name: str) -> str:
    """The tool whose calls the pattern names."""
    return name.partition("(")[0].strip()


def spelled(name: str, known: Iterable[str]) -> str | None:
    """Return the tool in its provider's spelling; None if the provider does not have it."""
    key = key_of(name)
    return next((tool for tool in known if key_of(tool) == key), None)


def names_in(text: str) -> list[str]:
    """The names in the text, separated by commas or by spaces outside brackets: `Read, Bash(git *)` has two."""
    parts, depth = [""], 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth <= 0 and (character == "," or character.isspace()):
            parts.append("")
        else:
            parts[-1] += character
    return [part for part in parts if part]
