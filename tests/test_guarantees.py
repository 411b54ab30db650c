"""The page of promises and the ledger say the same, and every promise names tests that show it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.requirements import REQUIREMENTS

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "guarantees.md").read_text()
ROWS = {match[1]: match[2].split(" | ") for match in re.finditer(r"^\| (G\d+) \| (.+) \|$", PAGE, re.MULTILINE)}
LEDGER = {each.id: each for each in REQUIREMENTS if re.fullmatch(r"G\d+", each.id)}
LATER = {"G8", "G9"}
"""those that come with isolation"""
UNVERIFIED = ("Loss of power", "Real quota messages", "A real model", "macOS", "cgroups under systemd")


@pytest.mark.requirement("I4-guarantees")
def test_every_guarantee_of_the_ledger_is_promised_with_its_bound_and_those_to_come_are_named() -> None:
    assert ROWS.keys() == LEDGER.keys() - LATER
    assert all(f"({key})" in PAGE for key in LATER)
    for key, cells in ROWS.items():
        assert len(cells) == 3, key
        promise, bound, tests = cells
        assert promise.endswith("."), key
        assert bound, key
        assert re.findall(r"`(tests/[\w/]+\.py)`", tests), key


@pytest.mark.requirement("I4-guarantees")
@pytest.mark.parametrize("key", [key for key in ROWS if LEDGER[key].deferred is None])
def test_the_tests_that_a_promise_names_exist_and_carry_its_mark(key: str) -> None:
    named = [ROOT / name for name in re.findall(r"`(tests/[\w/]+\.py)`", ROWS[key][2])]
    assert [path for path in named if not path.exists()] == []
    marks = {path: re.findall(r"requirement\(([^)]*)\)", path.read_text()) for path in named}
    assert [path.name for path, found in marks.items() if not any(f'"{key}"' in mark for mark in found)] == []


@pytest.mark.requirement("I4-guarantees")
def test_what_could_not_be_verified_is_said() -> None:
    unverified = PAGE.partition("## What is not verified")[2]
    assert [topic for topic in UNVERIFIED if f"**{topic}.**" not in unverified] == []
