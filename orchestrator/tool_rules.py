"""Checks the tools that a persona names against those that agents can have: a rule that names no tool protects nothing.

A name that is only spelled differently (`bash`, `Task`) is corrected. One that does not exist refuses the persona; in a
file that was written for Claude Code, which ignores it in `tools`, it is left out with a warning.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from orchestrator.domain.persona import FLEET, Persona
from orchestrator.domain.text import listed, named, named_path
from orchestrator.domain.tool_names import CREW_SERVER, MCP, is_pattern, key_of, spelled, without_pattern
from orchestrator.errors import InvalidError

MAX_SHOWN = 5
MAX_NAME = 80
_CLOSE = 0.6


@dataclass(kw_only=True)
class _Names:
    """The names of one persona on their way to those of the provider, and what became of them."""

    known: frozenset[str]
    wrong: dict[str, str] = field(default_factory=dict[str, str])
    warnings: list[str] = field(default_factory=list[str])

    def tool(self, key: str, name: str) -> str | None:
        """The tool as the provider spells it; otherwise None, and why is noted."""
        found = spelled(name, self.known)
        if found is None:
            self.wrong[name] = f"{key}: {named(name, MAX_NAME)}{_meant(name, self.known)}"
        return found


def checked(persona: Persona, tools: frozenset[str]) -> Persona:
    """The persona with every tool spelled as one of `tools`, the provider's and Fleet's.

    Raises:
        InvalidError: a rule names no tool; the message names the file and the tool, and what may be meant.
    """
    names = _Names(known=tools | {FLEET})
    offered, asked = _offered(persona, names)
    rules = {
        "ask": (*_rules("ask", persona.ask, names), *asked),
        "deny": _rules("deny", persona.deny, names),
    }
    policy = tuple(
        replace(one, tool=one.tool and (names.tool("policy", one.tool) or one.tool)) for one in persona.policy
    )
    if names.wrong:
        raise InvalidError(
            f"persona {named(persona.name)} ({named_path(persona.source)}) names tools that agents cannot have: "
            f"{'; '.join(list(names.wrong.values())[:MAX_SHOWN])}",
            hint=f"whole tools are: {', '.join(sorted(one for one in tools if not one.startswith(MCP)))}",
        )
    warnings = (*persona.warnings, *names.warnings)
    unique = {key: tuple(dict.fromkeys(value)) for key, value in rules.items()}
    return replace(persona, tools=offered, policy=policy, warnings=warnings, **unique)


def _offered(persona: Persona, names: _Names) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """The whole tools of the persona's list, and those of which only a pattern is on it: each call of them asks."""
    if persona.tools is None:
        return None, ()
    if not persona.is_foreign:
        found = (names.tool("tools", name) for name in persona.tools)
        return tuple(dict.fromkeys(tool for tool in found if tool is not None)), ()
    whole = {name: spelled(name, names.known) for name in persona.tools if not is_pattern(name)}
    parts = {name: spelled(without_pattern(name), names.known) for name in persona.tools if is_pattern(name)}
    missing = [name for name, tool in {**whole, **parts}.items() if tool is None]
    asked = {name: tool for name, tool in parts.items() if tool is not None and tool not in whole.values()}
    if missing:
        names.warnings.append(f"leaves out tools that agents cannot have: {listed(missing, MAX_SHOWN)}")
    if asked:
        tools = listed([*dict.fromkeys(asked.values())], MAX_SHOWN)
        names.warnings.append(f"asks before each call of {tools}: Fleet has no patterns over calls")
    offered = dict.fromkeys(tool for tool in whole.values() if tool is not None)
    return tuple(offered), tuple(dict.fromkeys(asked.values()))


def _rules(key: str, rules: Iterable[str], names: _Names) -> tuple[str, ...]:
    """The tools of a rule that restricts; tools of MCP servers that agents never have need no rule, and stay."""
    found: list[str] = []
    for rule in rules:
        if key_of(rule).startswith(CREW_SERVER):
            names.wrong[rule] = f"{key}: {named(rule, MAX_NAME)} (an agent always may talk to its fleet: leave it out)"
        elif rule.startswith(MCP) and spelled(rule, names.known) is None and not _meant(rule, names.known):
            found.append(rule)
        elif (tool := names.tool(key, rule)) is not None:
            found.append(tool)
    return tuple(found)


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key_of(name)[:80], {key_of(tool): tool for tool in known}, 1, _CLOSE)
    return f" (did you mean {spelled(close[0], known)}?)" if close else ""
