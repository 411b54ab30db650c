"""The page of guarantees matches the ledger, and names what could not be verified."""

from __future__ import annotations

import pytest

from tests.guarantees import GUARANTEES, PAGE, number_of, updated

TEXT = PAGE.read_text()
UNVERIFIED = ("Loss of power", "Real quota messages", "A real model", "macOS", "cgroups under systemd")


@pytest.mark.requirement("project:guarantees:bounds-and-tests")
def test_the_page_is_up_to_date_with_the_ledger_and_the_marks() -> None:
    assert updated(TEXT) == TEXT, "run `make docs`"


@pytest.mark.requirement("project:guarantees:bounds-and-tests")
def test_every_guarantee_has_a_promise_and_a_bound_and_those_to_come_are_named() -> None:
    assert [number_of(each) for each in GUARANTEES] == [f"G{number}" for number in range(1, 19)]
    for each in GUARANTEES:
        if each.deferred is None:
            assert each.promise is not None, each.id
            assert each.promise.endswith("."), each.id
            assert each.bound, each.id
        else:
            assert f"({number_of(each)})" in TEXT, each.id


@pytest.mark.requirement("project:guarantees:bounds-and-tests")
def test_what_could_not_be_verified_is_said() -> None:
    unverified = TEXT.partition("## What is not verified")[2]
    assert [topic for topic in UNVERIFIED if f"**{topic}.**" not in unverified] == []
