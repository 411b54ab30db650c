"""Reads front matter that was written for Claude Code, not for Fleet: what restricts the agent is kept or refuses it.

Everything else that means nothing to Fleet is left out with a warning, so that no persona is lost for it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from orchestrator.domain.text import MAX_VALUE_CHARACTERS, listed, named, named_value
from orchestrator.domain.tool_names import is_pattern, names_in, without_pattern

RESTRICTING = ("tools", "ask", "deny", "max_turns")
"""keys of Fleet that take something from the agent: a value that cannot be read refuses the persona"""
OF_CLAUDE = frozenset({"disallowedTools", "maxTurns", "permissionMode", "hooks"})
_GUARDS = frozenset({"PreToolUse", "PermissionRequest"})
_READ_ONLY = "plan"
_CLOSE = 0.8
_SHORT = 4
MAX_SHOWN = 5


class ForeignError(ValueError):
    """A key restricts the agent in a way that Fleet cannot keep; the message says which."""


@dataclass(frozen=True, kw_only=True)
class Translated:
    """Front matter with Fleet's keys only, and what was left out or changed."""

    front: Mapping[str, object]
    warnings: tuple[str, ...] = ()


def translated(
    front: Mapping[str, object], keys: frozenset[str], is_valid: Callable[[str, object], bool]
) -> Translated:
    """The front matter as Fleet reads it; `keys` are Fleet's own, and `is_valid` judges the value of one.

    Raises:
        ForeignError: a key restricts the agent, and Fleet cannot keep to it.
    """
    _check_guards(front)
    ours = {key: value for key, value in front.items() if key in keys}
    warnings = _tools_of_map(ours)
    ours["deny"] = _denied(front)
    warnings += _asked(ours)
    turns = front.get("maxTurns")
    if turns is not None and is_valid("max_turns", turns):
        ours.setdefault("max_turns", turns)
    for key in [key for key, value in ours.items() if _is_wrong(key, value, is_valid)]:
        warnings.append(f"leaves out {key}: {named_value(ours.pop(key))} is not valid in Fleet")
    for key in [key for key in front if key not in keys and key not in OF_CLAUDE]:
        _check_is_no_rule(str(key))
    return Translated(front={key: value for key, value in ours.items() if value is not None}, warnings=tuple(warnings))


def with_claudes_rules(front: Mapping[str, object], keys: frozenset[str]) -> Mapping[str, object]:
    """Return front matter that was written for Fleet, with what Claude Code's keys take from the agent.

    Raises:
        ForeignError: a key restricts the agent, and Fleet cannot keep to it, or seems to be a rule.
    """
    _check_guards(front)
    ours = dict(front)
    if front.get("disallowedTools") is not None:
        ours["deny"] = _denied(front)
    if front.get("maxTurns") is not None:
        ours["max_turns"] = _smaller(front.get("max_turns"), front["maxTurns"])
    for key in [key for key in front if key not in keys and key not in OF_CLAUDE]:
        _check_is_no_rule(str(key))
    return ours


def _is_wrong(key: str, value: object, is_valid: Callable[[str, object], bool]) -> bool:
    """Whether to leave out the value: never a name, a restriction, or a value that was meant for Fleet."""
    if value is None or key == "name" or key in RESTRICTING or (key == "policy" and isinstance(value, list)):
        return False
    return not is_valid(key, value)


def _check_guards(front: Mapping[str, object]) -> None:
    hooks = front.get("hooks")
    events = set(cast("dict[str, object]", hooks)) if isinstance(hooks, dict) else set[str]()
    if (hooks is not None and not isinstance(hooks, dict)) or _GUARDS & (events | set(front)):
        raise ForeignError("hooks: a hook before tool calls guards them, and Fleet runs no hooks of a file: use `ask`")
    if front.get("permissionMode") == _READ_ONLY:
        raise ForeignError("permissionMode: plan lets it change nothing, which Fleet promises by `tools` alone")


def _check_is_no_rule(key: str) -> None:
    """Refuse a key that seems to be one of those that restrict: ignoring it would let everything run."""
    plain = key.lower().replace("-", "").replace("_", "")
    rules = {rule.lower().replace("_", ""): rule for rule in (*RESTRICTING, "disallowedTools")}
    close = [rule for rule in rules if _is_like(plain[:80], rule)]
    if close:
        raise ForeignError(f"{named(key, MAX_VALUE_CHARACTERS)}: no such key (did you mean {rules[close[0]]}?)")


def _is_like(key: str, rule: str) -> bool:
    """Whether the key may be a misspelt rule; of a short one, if it has its beginning or its letters, unlike `task`."""
    if len(rule) <= _SHORT:
        begins = key.startswith(rule[: _SHORT - 1]) and len(key) <= len(rule) + _SHORT - 1
        return begins or sorted(key) == sorted(rule)
    return bool(difflib.get_close_matches(key, [rule], 1, _CLOSE))


def _smaller(one: object, other: object) -> object:
    """Return the smaller number of turns; anything that is not a number is refused when it is validated."""
    if one is None:
        return other
    return min(one, other) if isinstance(one, int) and isinstance(other, int) else one


def _tools_of_map(ours: dict[str, object]) -> list[str]:
    """Turn a map of tools to yes or no into a list of those that are on."""
    tools = ours.get("tools")
    if not isinstance(tools, dict):
        return []
    marks = cast("dict[object, object]", tools)
    if not all(isinstance(mark, bool) for mark in marks.values()):
        raise ForeignError("tools is a map whose values are not true or false")
    ours["tools"] = [str(name) for name, mark in marks.items() if mark]
    return ["reads tools, a map, as the tools that are true; Claude Code gives it none"]


def _denied(front: Mapping[str, object]) -> list[str] | None:
    found = [*_named(front, "deny"), *_named(front, "disallowedTools")]
    if patterns := [name for name in found if is_pattern(name)]:
        raise ForeignError(
            f"denies {listed(patterns, MAX_SHOWN)}, and patterns over calls are easily evaded: deny whole tools"
        )
    return found or None


def _asked(ours: dict[str, object]) -> list[str]:
    """Ask before every call of a tool of which only some calls should be asked for."""
    found = _named(ours, "ask")
    patterns = [name for name in found if is_pattern(name)]
    if any(not without_pattern(name) or "*" in without_pattern(name) for name in patterns):
        raise ForeignError(f"ask: {listed(patterns, MAX_SHOWN)} names no tool")
    ours["ask"] = list(dict.fromkeys(map(without_pattern, found))) or None
    return [f"asks before each call of {listed([*map(without_pattern, patterns)], MAX_SHOWN)}"] if patterns else []


def _named(front: Mapping[str, object], key: str) -> list[str]:
    value = front.get(key)
    if value is None or isinstance(value, str):
        return names_in(value or "")
    names = cast("list[object]", value) if isinstance(value, list) else [value]
    if not all(isinstance(name, str) for name in names):
        raise ForeignError(f"{key}: {named_value(front[key])} is not a list of tools")
    return cast("list[str]", names)
