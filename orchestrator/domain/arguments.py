"""Checks a tool's arguments against its schema; an error says how to correct the call.

Every host must be able to read a schema: each property has exactly one `type`, and nothing in it fails in another
vendor's converter. This module checks the rest: it refuses unknown arguments, and reads null as an optional argument
that was left out.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Protocol, cast

from orchestrator.domain.tool import Json, Tool
from orchestrator.errors import InvalidError

MAX_PROBLEMS = 3
MAX_SHOWN_CHARACTERS = 60

_ARTICLES = {
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "object": "an object",
}
_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "true or false"),
    (str, "text"),
    (int, "a number"),
    (float, "a number"),
    (list, "a list"),
    (dict, "an object"),
)


class Violation(Protocol):
    """What `jsonschema` reports about one violated keyword."""

    validator: str
    validator_value: Any
    instance: Any
    message: str

    @property
    def absolute_path(self) -> Sequence[str | int]:
        """The path of the violation in the arguments."""
        ...

    @property
    def schema(self) -> Json:
        """The part of the schema that is violated."""
        ...


Errors = Callable[[Json], Iterator[Violation]]


@lru_cache(maxsize=256)
def _compiled(schema: str) -> Errors:
    """Return a cached validator of the schema: a call takes 20 µs, compiling the schema 1 ms."""
    from jsonschema import Draft202012Validator  # 20 ms, which a starting daemon spends on resumed turns

    parsed = json.loads(schema)
    Draft202012Validator.check_schema(parsed)
    return cast("Errors", Draft202012Validator(parsed).iter_errors)


class ArgumentCheck:
    """Checks the arguments of one tool; tools with equal schemas share one validator, compiled by the first call."""

    def __init__(self, tool: Tool) -> None:
        self._tool = tool.name
        self._known = tuple(tool.schema.get("properties", {}))
        self._required = frozenset(tool.schema.get("required", ()))
        self._json_lists = tool.json_lists
        self._schema = json.dumps(tool.schema)

    def __call__(self, arguments: Json) -> Json:
        """Return the arguments as the tool takes them: without nulls of optional ones, objects in lists as JSON text.

        Raises:
            InvalidError: they are not valid; names the argument, what is valid and the closest known argument.
        """
        try:
            given = {
                name: self._plain(name, value) for name, value in arguments.items() if not self._is_unset(name, value)
            }
            found = list(self._problems(given))
        except RecursionError:
            raise InvalidError(f"{self._tool}: an argument is nested too deeply", hint="send plain values") from None
        if not found:
            return given
        known = ", ".join(self._known) or "no arguments"
        raise InvalidError(f"{self._tool}: {'; '.join(found[:MAX_PROBLEMS])}", hint=f"it takes {known}")

    def _is_unset(self, name: str, value: object) -> bool:
        return value is None and name in self._known and name not in self._required

    def _plain(self, name: str, value: object) -> object:
        if name not in self._json_lists or not isinstance(value, list):
            return value
        return [json.dumps(item) if isinstance(item, dict) else item for item in cast("list[object]", value)]

    def _problems(self, arguments: Json) -> Iterator[str]:
        for name in arguments:
            if name not in self._known:
                close = difflib.get_close_matches(name, self._known, 1, 0.5)
                yield f"no argument {_shown(name)}" + (f" (did you mean {close[0]!r}?)" if close else "")
        yield from map(_said, _compiled(self._schema)(arguments))
        for name, value in arguments.items():
            if isinstance(value, float) and not math.isfinite(value):
                yield f"{name!r} must be a finite number"


def _said(error: Violation) -> str:
    where = _place(error.absolute_path)
    limit: object = error.validator_value
    match error.validator:
        case "required":
            return f"{error.message.split(' ')[0]} is missing"
        case "type":
            return f"{where} must be {_article(error.schema)}, not {_kind(error.instance)}"
        case "enum":
            valid = ", ".join(str(value) for value in error.validator_value)
            return f"{where} must be one of {valid}; it is {_shown(error.instance)}"
        case "minimum" | "maximum":
            side = "least" if error.validator == "minimum" else "most"
            return f"{where} must be at {side} {limit}; it is {_shown(error.instance)}"
        case "minItems" | "minLength":
            return f"{where} is empty"
        case "maxItems" | "maxLength":
            return f"{where} is too long: {len(error.instance)}, at most {limit}"
        case _:
            return f"{where}: {error.message[:200]}"


def _place(path: Sequence[str | int]) -> str:
    if not path:
        return "the arguments"
    return repr(str(path[0])) + "".join(f"[{step}]" for step in list(path)[1:])


def _article(schema: Json) -> str:
    kinds = _types(schema)
    items = _types(cast("Json", schema.get("items", {})))
    of = f" of {' or '.join(f'{kind}s' for kind in items)}" if items else ""
    return " or ".join(_ARTICLES.get(kind, kind) for kind in kinds) + of


def _types(schema: Json) -> list[str]:
    given: object = schema.get("type", [])
    return [given] if isinstance(given, str) else [str(kind) for kind in cast("list[object]", given)]


def _kind(value: object) -> str:
    return next((name for kind, name in _KINDS if isinstance(value, kind)), "null")


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}…"
