"""Reads untrusted YAML in time and memory linear in its length: plain values, lists and maps, and nothing that expands.

Anchors, aliases, merges, tags and repeated keys are refused: a kilobyte of aliases can expand to gigabytes. The
library only cuts the text into events; what they mean is decided here.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from orchestrator.domain.text import named

MAX_CHARACTERS = 16 * 1024
"""the worst text of this length keeps the reader busy for 0.2 s (ruamel.yaml 0.19, measured)"""
MAX_DEPTH = 64
MAX_NAME = 40
_MERGE = "<<"
_BRACKETS = {"[": 1, "{": 1, "]": -1, "}": -1}
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEAN = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_BASED = re.compile(r"0o[0-7]{1,18}|0x[0-9a-fA-F]{1,15}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,4})?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MAX_NUMBER_CHARACTERS = 40


class YamlError(ValueError):
    """The text is not YAML."""


class YamlRefusedError(ValueError):
    """The text is YAML, but has something that is not read from strangers; the message says what."""


def read(text: str) -> object:
    """The value of the one document in the text, of dicts, lists, str, int, float, bool and None.

    Raises:
        YamlError: it is not one YAML document.
        YamlRefusedError: it is too long or too deep, or has an anchor, merge, tag or repeated key.
    """
    if len(text) > MAX_CHARACTERS:
        raise YamlRefusedError(f"has more than {MAX_CHARACTERS} characters")
    if any(_open_brackets(line) > MAX_DEPTH for line in text.splitlines()):
        raise YamlRefusedError(f"is nested more than {MAX_DEPTH} deep")
    try:
        return _document(cast("Iterator[Any]", YAML(typ="safe", pure=True).parse(io.StringIO(text))))  # pyright: ignore[reportUnknownMemberType] - untyped library
    except (YamlError, YamlRefusedError):
        raise
    except (YAMLError, AssertionError, AttributeError, LookupError, ValueError, OverflowError, TypeError) as error:
        raise YamlError(str(error)) from error  # on some texts the library fails in ways that it does not document


def _document(events: Iterator[Any]) -> object:
    value: object = None
    seen = False
    for event in events:
        kind = _kind(event)
        if kind in {"StreamStart", "DocumentStart", "DocumentEnd", "StreamEnd"}:
            continue
        if seen:
            raise YamlError("more than one document")
        value, seen = _value(event, events, MAX_DEPTH), True
    return value


def _open_brackets(line: str) -> int:
    """How many brackets are open at once at most; the library reads a line's brackets ahead, in quadratic time."""
    return max(accumulate((_BRACKETS.get(each, 0) for each in line), initial=0))


def _kind(event: object) -> str:
    return type(event).__name__.removesuffix("Event")


def _value(event: Any, events: Iterator[Any], depth: int) -> object:
    kind = _kind(event)
    if kind == "Alias":
        raise YamlError("an alias of nothing")  # an alias of something follows its anchor, which was refused
    if event.anchor is not None:
        raise YamlRefusedError(f"has an anchor (&{named(event.anchor, MAX_NAME)}): write the value in each place")
    if event.tag is not None:
        raise YamlRefusedError(
            f"has a tag ({named(str(event.tag), MAX_NAME)}): write the plain value, or put it in quotes"
        )
    if kind == "Scalar":
        text = _joined(event.value)
        return _scalar(text) if event.implicit[0] and event.style is None else text
    if not depth:
        raise YamlRefusedError(f"is nested more than {MAX_DEPTH} deep")
    return _list(events, depth) if kind == "SequenceStart" else _map(events, depth)


def _joined(text: str) -> str:
    """The text with surrogate pairs, which JSON escapes one half at a time, joined into characters, as in Claude Code.

    Raises:
        ValueError: a half is unpaired, so this is not valid text; Claude Code ignores the file (2.1.329, measured).
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")


def _list(events: Iterator[Any], depth: int) -> list[object]:
    found: list[object] = []
    while _kind(event := next(events)) != "SequenceEnd":
        found.append(_value(event, events, depth - 1))
    return found


def _map(events: Iterator[Any], depth: int) -> dict[object, object]:
    found: dict[object, object] = {}
    while _kind(event := next(events)) != "MappingEnd":
        key = _value(event, events, depth - 1)
        if isinstance(key, list | dict):
            raise YamlRefusedError("has a list or map as a key: write plain keys")
        if key == _MERGE:
            raise YamlRefusedError("has a merge (<<): write the keys in each place")
        if key in found:
            raise YamlRefusedError(f"has the key {named(str(key), MAX_NAME)} twice: write it once")
        found[key] = _value(next(events), events, depth - 1)
    return found


def _scalar(text: str) -> object:
    """The value of a plain scalar by YAML 1.2's core schema; a number with too many digits stays text."""
    if text in _NULL:
        return None
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    if len(text) > _MAX_NUMBER_CHARACTERS:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return float(text.lower().replace(".", "")) if _NOT_FINITE.fullmatch(text) else text
