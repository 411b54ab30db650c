"""The words of a wait, and which waits need somebody to act."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.wait import NEEDS_ACTION, ON_OTHERS, SUSPENDED, TIMED, Wait, WaitKind, wait_words

NAMES = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}", fullmatch=True)
WAITS = st.builds(
    Wait,
    kind=st.sampled_from(WaitKind),
    on=NAMES,
    until=st.none() | st.floats(0, 1e10),
    detail=st.text(min_size=1, max_size=30),
    blocked=st.booleans(),
)


@given(wait=WAITS, kind=st.sampled_from([WaitKind.INPUTS, WaitKind.CHECKOUT, WaitKind.BUDGET, WaitKind.QUOTA]))
def test_the_words_tell_a_blocked_wait_from_one_that_ends_as_usual(wait: Wait, kind: WaitKind) -> None:
    usual, blocked = replace(wait, kind=kind, blocked=False), replace(wait, kind=kind, blocked=True)
    assert wait_words(usual) != wait_words(blocked)


@pytest.mark.requirement("status:wait:kinds-not-words")
@given(wait=WAITS)
def test_a_wait_needs_somebody_exactly_if_its_kind_does_or_it_is_blocked(wait: Wait) -> None:
    assert wait.needs_action is (wait.kind in NEEDS_ACTION or wait.blocked)
    assert wait_words(wait)


def test_the_sets_of_kinds_do_not_contradict_each_other() -> None:
    assert not TIMED & ON_OTHERS
    assert not NEEDS_ACTION & (TIMED | ON_OTHERS)
    assert SUSPENDED >= TIMED | ON_OTHERS


@pytest.mark.parametrize(
    ("wait", "words"),
    [
        (Wait(kind=WaitKind.SLOT), "slot"),
        (Wait(kind=WaitKind.INPUTS, on="a, b"), "inputs: a, b"),
        (Wait(kind=WaitKind.INPUTS, on="a", detail="failed (checks)", blocked=True), "its input a failed (checks)"),
        (Wait(kind=WaitKind.CHECKOUT, on="a"), "a writes in this checkout"),
        (Wait(kind=WaitKind.CHECKOUT, on="a", blocked=True), "a writes in this checkout and waits for an answer"),
        (Wait(kind=WaitKind.BUDGET, detail="$0.50 of $0.50"), "budget $0.50 of $0.50"),
        (
            Wait(kind=WaitKind.BUDGET, on="the fleet", detail="3 turns of 3 turns"),
            "budget of the fleet 3 turns of 3 turns",
        ),
        (Wait(kind=WaitKind.BUDGET, detail="no price", blocked=True), "budget: no price"),
        (Wait(kind=WaitKind.QUOTA, detail="14:00"), "quota until 14:00"),
        (Wait(kind=WaitKind.QUOTA, detail="14:00", blocked=True), "refused; next try 14:00"),
        (Wait(kind=WaitKind.OVERLOAD, detail="2/5"), "retrying 2/5"),
    ],
)
def test_each_wait_has_its_words(wait: Wait, words: str) -> None:
    assert wait_words(wait) == words
