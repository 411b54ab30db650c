"""YAML read as plain values with the line of each: mappings, lists, text, numbers, true, false and null.

This module builds the nodes instead of the library, so every value has a line, a duplicate key is an error,
and neither tags nor aliases can expand a small file into a huge value.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import Protocol, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_BYTES = 1024 * 1024
MAX_NODES = 50_000
MAX_DEPTH = 40


Path = tuple[str | int, ...]
"""The path to a value: keys and indexes from the top."""


class SourceError(Exception):
    """The file is not a valid script: `line` (from 1) and what is wrong there."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line = line
        self.problem = problem


@dataclass(slots=True)
class Source:
    """A document as plain values, and the line (from 1) at which each begins."""

    root: object = None
    lines: dict[Path, int] = field(default_factory=dict[Path, int])
    _left: int = MAX_NODES

    def line(self, path: Path) -> int:
        """The line of the value at `path`, or of the closest value around it."""
        for length in range(len(path), -1, -1):
            if (found := self.lines.get(path[:length])) is not None:
                return found
        return 1

    def take(self, node: Node, path: Path) -> object:
        """The plain value of `node`; raises SourceError."""
        line = _line(node)
        self._left -= 1
        if self._left < 0:
            raise SourceError(line, f"more than {MAX_NODES} values (aliases count each time)")
        if len(path) > MAX_DEPTH:
            raise SourceError(line, f"nested deeper than {MAX_DEPTH}, or an alias that contains itself")
        self.lines[path] = line
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            items = cast("list[Node]", node.value)
            return [self.take(item, (*path, index)) for index, item in enumerate(items)]
        return _scalar(node, line)

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, object]:
        made: dict[str, object] = {}
        for key_node, value_node in cast("list[tuple[Node, Node]]", node.value):
            line = _line(key_node)
            if not isinstance(key_node, ScalarNode):
                raise SourceError(line, 'a key must be text; a template in braces needs quotes: "{{ ... }}"')
            key = str(cast("object", key_node.value))
            if _tag(key_node) == "tag:yaml.org,2002:merge":
                raise SourceError(line, "merge keys (<<) are not available; write the keys out")
            if key in made:
                raise SourceError(
                    line, f"the key {key!r} is duplicated; the first is on line {self.lines[(*path, key)]}"
                )
            made[key] = self.take(value_node, (*path, key))
            self.lines[(*path, key)] = line
        return made


class _Mark(Protocol):
    line: int


class _Marked(Protocol):
    start_mark: _Mark
    tag: object


def _line(node: Node) -> int:
    return cast("_Marked", node).start_mark.line + 1


def _tag(node: Node) -> str:
    return str(cast("_Marked", node).tag)


def _scalar(node: Node, line: int) -> object:
    text = str(cast("object", node.value))
    kind = _tag(node).removeprefix("tag:yaml.org,2002:")
    try:
        if kind in {"str", "timestamp"}:
            return text
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "int":
            return int(text.replace("_", ""), 0 if text.lstrip("+-").startswith(("0x", "0o")) else 10)
        if kind == "float":
            return _finite(text)
    except ValueError:
        raise SourceError(line, f"{text[:40]!r} is not a number; put quotes around it if it is text") from None
    raise SourceError(
        line,
        f"the tag {_tag(node)[:40]!r} is not available; only text, numbers, true, false, null, lists and mappings",
    )


def _finite(text: str) -> float:
    number = float(text.replace("_", ""))
    if not isfinite(number):
        raise ValueError(text)
    return number


class _Composing(Protocol):
    def compose(self, stream: str) -> object: ...


class _Told(Protocol):
    problem: str | None
    context: str | None
    problem_mark: _Mark | None
    context_mark: _Mark | None


def read(text: str) -> Source:
    """The one document in `text`; raises SourceError."""
    if len(text) > MAX_BYTES:
        raise SourceError(1, f"the file is larger than {MAX_BYTES} characters")
    try:
        node = cast("Node | None", cast("_Composing", YAML(typ="safe", pure=True)).compose(text))
    except MarkedYAMLError as error:
        told = cast("_Told", error)
        mark = told.problem_mark or told.context_mark
        raise SourceError(mark.line + 1 if mark else 1, f"not YAML: {told.problem or told.context}") from None
    except RecursionError:
        raise SourceError(1, "cannot read this YAML: it is nested too deeply") from None
    except Exception as error:  # noqa: BLE001 - the YAML library may raise anything on damaged text; a script must never cause a crash
        raise SourceError(
            1, f"not YAML: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from None
    if node is None:
        raise SourceError(1, "the file is empty")
    source = Source()
    source.root = source.take(node, ())
    return source
