"""How budgets are shown: caps exactly, what was used rounded down."""

from __future__ import annotations

import pytest

from orchestrator.domain.budget import Headroom, Scope, Unit, format_cap, format_used, remedy_for


@pytest.mark.parametrize(
    ("seconds", "cap", "used"), [(180_000, "50h", "2d"), (0.4, "0.4s", "0s"), (3_699, "3699s", "1h01m")]
)
def test_a_cap_in_seconds_is_exact_and_what_was_used_of_it_is_an_age(seconds: float, cap: str, used: str) -> None:
    assert format_cap(Unit.SECONDS, seconds) == cap
    assert format_used(Unit.SECONDS, seconds) == used


@pytest.mark.parametrize(
    ("unit", "amount", "shown"),
    [(Unit.USD, 0.5, "$0.50"), (Unit.TOKENS, 900, "900 tokens"), (Unit.TURNS, 3, "3 turns")],
)
def test_a_cap_and_its_use_read_alike_in_all_other_units(unit: Unit, amount: float, shown: str) -> None:
    assert format_cap(unit, amount) == format_used(unit, amount) == shown


def test_a_wait_for_budget_says_what_was_used_of_the_exact_cap() -> None:
    room = Headroom(subject="ag_a", name="a", scope=Scope.AGENT, unit=Unit.SECONDS, cap=180_000, used=180_000.7)
    assert room.shown("ag_a") == "budget 2d of 50h"


@pytest.mark.parametrize(
    ("unit", "used", "call"),
    [
        (Unit.SECONDS, 140.099, "--max-seconds 281"),
        (Unit.TOKENS, 600_000, "max_tokens=1200000"),
        (Unit.USD, 0.0003, "=0.0006"),
    ],
)
def test_the_call_that_raises_a_cap_names_an_amount_that_it_takes(unit: Unit, used: float, call: str) -> None:
    room = Headroom(subject="ag_a", name="a", scope=Scope.AGENT, unit=unit, cap=used, used=used)
    assert call in remedy_for(room.wait("ag_a"), "a", [room])
