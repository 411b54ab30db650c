"""Parsing and formatting of durations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.duration import format_age, format_duration, format_elapsed, parse_duration


@given(st.integers(min_value=1, max_value=10**6))
def test_a_duration_means_the_same_after_it_was_shown(seconds: int) -> None:
    assert parse_duration(format_duration(float(seconds))) == seconds


@pytest.mark.parametrize("value", ["", "soon", "-1s", "0", 0, True, None, "2 weeks", [], float("nan")])
def test_what_is_not_a_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "?"),
        (-3, "0s"),
        (8.9, "8s"),
        (65, "1m05s"),
        (3600, "1h00m"),
        (47 * 3600 + 3599, "47h59m"),
        (172_800, "2d"),
    ],
)
def test_an_age_is_short_and_rounded_down(seconds: float | None, shown: str) -> None:
    assert format_age(seconds) == shown


@given(seconds=st.floats(-1e6, 1e9))
def test_an_age_is_never_negative(seconds: float) -> None:
    assert "-" not in format_age(seconds)


@pytest.mark.parametrize(("seconds", "shown"), [(0.0, "0.0s"), (0.26, "0.3s"), (75.04, "75.0s")])
def test_a_measured_time_has_tenths_of_a_second(seconds: float, shown: str) -> None:
    assert format_elapsed(seconds) == shown
