"""Reads the marks `@pytest.mark.requirement("<id>", …)` from the source of the tests."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent


def is_mark(node: ast.AST) -> bool:
    """Whether this is a call of `pytest.mark.requirement`."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "requirement"


def ids_of(mark: ast.Call) -> list[object]:
    """What the mark names; anything but plain text shows up as its dump, which is no id."""
    return [argument.value if isinstance(argument, ast.Constant) else ast.dump(argument) for argument in mark.args]


def marked_modules() -> Iterator[tuple[Path, ast.Module]]:
    """The test modules that may carry marks, with their path below the repository."""
    for path in sorted(TESTS.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "requirement" in text:
            yield path.relative_to(TESTS.parent), ast.parse(text, str(path))


def places() -> dict[object, list[tuple[Path, int]]]:
    """Where each id is marked: the module and the line."""
    found: defaultdict[object, list[tuple[Path, int]]] = defaultdict(list)
    for path, tree in marked_modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and is_mark(node):
                for key in ids_of(node):
                    found[key].append((path, node.lineno))
    return dict(found)
