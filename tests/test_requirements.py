"""The ledger holds: every promise has a test, and every mark names a promise."""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.requirements import REQUIREMENTS

TESTS = Path(__file__).parent
OPEN = {requirement.id for requirement in REQUIREMENTS if requirement.deferred is None}
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _is_mark(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "requirement"


def _marks(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _is_mark(node):
            yield node


def _ids(mark: ast.Call) -> list[object]:
    """What the mark names; anything but plain text shows up as the node itself, which is no id."""
    return [argument.value if isinstance(argument, ast.Constant) else ast.dump(argument) for argument in mark.args]


def _trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(TESTS.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "requirement" in text:
            yield path, ast.parse(text, str(path))


@pytest.fixture(scope="module")
def marked() -> dict[object, list[str]]:
    """Where each id is marked."""
    places: defaultdict[object, list[str]] = defaultdict(list)
    for path, tree in _trees():
        for mark in _marks(tree):
            for key in _ids(mark):
                places[key].append(f"{path.relative_to(TESTS.parent)}:{mark.lineno}")
    return dict(places)


@pytest.mark.requirement("I3-ledger")
def test_every_promise_that_is_not_deferred_has_a_test(marked: dict[object, list[str]]) -> None:
    missing = [each for each in REQUIREMENTS if each.id in OPEN and each.id not in marked]
    listed = "\n".join(f"  {each.id}: {each.behaviour} ({each.source})" for each in missing)
    if missing:
        pytest.fail(f"{len(missing)} of {len(OPEN)} promises have no test:\n{listed}", pytrace=False)


@pytest.mark.requirement("I3-ledger")
def test_every_mark_names_a_promise_that_is_not_deferred(marked: dict[object, list[str]]) -> None:
    wrong = {key: places for key, places in marked.items() if key not in OPEN}
    assert not wrong, "add the promise to tests/requirements.py, or take its `deferred` away"


def test_marks_stand_on_tests_only() -> None:
    wrong = [
        f"{path.name}:{node.lineno} {node.name}"
        for path, tree in _trees()
        for node in ast.walk(tree)
        if isinstance(node, Definition) and any(_is_mark(each) for each in node.decorator_list)
        if not node.name.startswith(("test_", "Test"))
    ]
    assert not wrong


def test_ids_are_unique_and_readable() -> None:
    twice = [key for key, times in Counter(each.id for each in REQUIREMENTS).items() if times > 1]
    odd = [each.id for each in REQUIREMENTS if not re.fullmatch(r"([ABCD]|I\d)(-[a-z0-9]+)+|G\d+", each.id)]
    assert not twice
    assert not odd


def test_every_promise_of_the_list_of_gaps_and_every_guarantee_is_in_the_ledger() -> None:
    sources = {each.source for each in REQUIREMENTS}
    assert {f"SYSTEMS D {number}" for number in range(1, 19)} <= sources
    assert {f"G{number}" for number in range(1, 13)} <= {each.id for each in REQUIREMENTS}
