"""Tokens and cost for readers: unknown is never shown as zero."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.usage import Usage, shown_cost, shown_tokens


@pytest.mark.parametrize(
    ("cost", "shown"),
    [
        (None, "cost unknown"),
        (0.0, "$0.00"),
        (0.000001, "<$0.0001"),
        (0.00004, "<$0.0001"),
        (0.0001, "$0.0001"),
        (0.0042, "$0.0042"),
        (0.00996, "$0.0100"),
        (0.01, "$0.01"),
        (1234.5, "$1234.50"),
    ],
)
def test_a_cost_is_shown_in_dollars_or_as_unknown(cost: float | None, shown: str) -> None:
    assert shown_cost(cost) == shown


@given(st.floats(min_value=1e-12, max_value=1e6))
def test_what_cost_something_never_reads_as_nothing(cost: float) -> None:
    assert set(shown_cost(cost)) & set("123456789")


@pytest.mark.parametrize(
    ("tokens", "shown"),
    [
        (None, "?"),
        (0, "0"),
        (999, "999"),
        (1000, "1.0k"),
        (12_345, "12.3k"),
        (999_949, "999.9k"),
        (999_999, "1.0M"),
        (1_000_000, "1.0M"),
        (12_345_678, "12.3M"),
    ],
)
def test_tokens_are_shown_short(tokens: int | None, shown: str) -> None:
    assert shown_tokens(tokens) == shown


def test_all_tokens_count() -> None:
    used = Usage(input_tokens=1, output_tokens=20, cache_read_tokens=300, cache_write_tokens=4000)
    assert used.total_tokens == 4321
