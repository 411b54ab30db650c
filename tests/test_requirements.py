"""Every promise of the ledger has a test, every mark names a promise, and neither is written twice."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.marks import ids_of, is_mark, marked_modules, places
from tests.requirements import REQUIREMENTS

OPEN = {requirement.id for requirement in REQUIREMENTS if requirement.deferred is None}
ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*(:[a-z0-9]+(-[a-z0-9]+)*){2}")
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@pytest.fixture(scope="module")
def marked() -> dict[object, list[str]]:
    """Where each id is marked."""
    return {key: [f"{path}:{line}" for path, line in found] for key, found in places().items()}


@pytest.mark.requirement("project:ledger:promise-has-test")
def test_every_promise_that_is_not_deferred_has_a_test(marked: dict[object, list[str]]) -> None:
    missing = [each for each in REQUIREMENTS if each.id in OPEN and each.id not in marked]
    listed = "\n".join(f"  {each.id}: {each.behaviour} ({each.source})" for each in missing)
    if missing:
        pytest.fail(f"{len(missing)} of {len(OPEN)} promises have no test:\n{listed}", pytrace=False)


@pytest.mark.requirement("project:ledger:promise-has-test")
def test_every_mark_names_a_promise_that_is_not_deferred(marked: dict[object, list[str]]) -> None:
    wrong = {key: places for key, places in marked.items() if key not in OPEN}
    assert not wrong, "add the promise to tests/requirements.toml, or take its `deferred` away"


def test_marks_stand_on_tests_only() -> None:
    wrong = [
        f"{path.name}:{node.lineno} {node.name}"
        for path, tree in marked_modules()
        for node in ast.walk(tree)
        if isinstance(node, Definition) and any(is_mark(each) for each in node.decorator_list)
        if not node.name.startswith(("test_", "Test"))
    ]
    assert not wrong


@pytest.mark.requirement("project:ledger:promise-has-test")
def test_no_test_carries_the_same_mark_twice() -> None:
    wrong = [
        f"{path}:{node.lineno} {node.name}: {key}"
        for path, tree in marked_modules()
        for node in ast.walk(tree)
        if isinstance(node, Definition)
        for key, times in Counter(_own_ids(node)).items()
        if times > 1
    ]
    assert not wrong


def _own_ids(definition: Definition) -> Iterator[object]:
    for decorator in definition.decorator_list:
        if isinstance(decorator, ast.Call) and is_mark(decorator):
            yield from ids_of(decorator)


@pytest.mark.requirement("project:ledger:promise-has-test")
def test_every_id_reads_area_topic_promise_and_every_promise_is_written_once() -> None:
    # two rows with the same id do not even load: TOML refuses them
    odd = [each.id for each in REQUIREMENTS if not ID.fullmatch(each.id)]
    twice = [text for text, times in Counter(each.behaviour for each in REQUIREMENTS).items() if times > 1]
    assert not odd
    assert not twice


def test_every_gap_of_the_list_of_systems_is_in_the_ledger() -> None:
    sources = {each.source for each in REQUIREMENTS}
    assert {f"SYSTEMS D {number}" for number in range(1, 19)} <= sources
