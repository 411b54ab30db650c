"""Checks a result against its JSON schema; runs as a separate program, so that a time-out can end it.

A schema may contain a regular expression that runs forever on some text, and the text is an agent's, so this never runs
inside the daemon. Called as `python -I result_schema.py`; it needs only jsonschema.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, cast

from jsonschema import Draft202012Validator, SchemaError, exceptions
from jsonschema.exceptions import ValidationError
from referencing import Registry

MAX_SAID_CHARACTERS = 400
MAX_SCHEMA_BYTES = 32 * 1024
_FENCED = re.compile(r"```[a-zA-Z]*\n(.*?)\n```", re.DOTALL)
_NO_JSON = "the result is not JSON: {}; end with one JSON value, alone or in the last ``` block"


def schema_problem(schema: dict[str, object]) -> str:
    """Why this is not a usable schema of a result; '' if it is."""
    try:
        size = len(json.dumps(schema).encode())
        if size > MAX_SCHEMA_BYTES:
            return f"{size} bytes; at most {MAX_SCHEMA_BYTES} are accepted"
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"no JSON schema: {_place(error)}{error.message[:MAX_SAID_CHARACTERS]}"
    except (ValueError, RecursionError) as error:
        return f"no JSON schema: {error}"
    foreign = [one for one in _references(schema) if not one.startswith("#")]
    if foreign:
        return f"a reference to {foreign[0][:80]}: nothing is fetched, so only those within it (#…) can be followed"
    return ""


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, one in cast("dict[str, object]", value).items():
            if key in {"$ref", "$dynamicRef"} and isinstance(one, str):
                yield one
            yield from _references(one)
    elif isinstance(value, list):
        for one in cast("list[object]", value):
            yield from _references(one)


def violation(schema: dict[str, object], text: str) -> str:
    """What is wrong with the result, in the validator's own words; '' if it fits."""
    try:
        value = _value(text)
    except ValueError as error:
        return _NO_JSON.format(error)
    return mismatch(schema, value)


def mismatch(schema: dict[str, object], value: object) -> str:
    """The same for a parsed value."""
    validator = Draft202012Validator(schema, registry=Registry[Any]())
    errors = cast("Callable[[object], Iterator[ValidationError]]", validator.iter_errors)
    best = cast("Callable[[Iterator[ValidationError]], ValidationError | None]", exceptions.best_match)  # pyright: ignore[reportUnknownMemberType] - its key is typed in part
    try:
        worst = best(errors(value))
    except Exception as error:  # noqa: BLE001 - whatever a schema raises, the check fails with these words
        return f"the schema cannot be used: {type(error).__name__}: {error}"[:MAX_SAID_CHARACTERS]
    return "" if worst is None else (_place(worst) + worst.message)[:MAX_SAID_CHARACTERS]


def _value(text: str) -> object:
    """The text parsed as JSON, or else its last fenced block."""
    try:
        return json.loads(text)
    except ValueError:
        fenced = _FENCED.findall(text)
        if not fenced:
            raise
        return json.loads(fenced[-1])


def _place(error: ValidationError | SchemaError) -> str:
    place = error.json_path
    return "" if place == "$" else f"{place}: "


def main() -> int:
    """Read `{"schema": …, "text": …}`; print what is wrong, as JSON, and return 1; or return 0."""
    given = json.loads(sys.stdin.buffer.readline())
    said = violation(given["schema"], given["text"])
    sys.stdout.write(json.dumps(said) + "\n")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
