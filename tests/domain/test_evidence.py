"""Loops and doubts, from plain facts, for any history."""

from __future__ import annotations

from itertools import groupby
from typing import cast

from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.domain.activity import UNKNOWN, Streak, fingerprint, patience, retrying, stalled

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
INPUTS = st.dictionaries(st.text(max_size=4), JSON, max_size=4)


@given(calls=st.lists(st.sampled_from("abc"), max_size=40), limit=st.integers(2, 6))
def test_a_loop_is_told_once_for_each_streak_that_is_long_enough(calls: list[str], limit: int) -> None:
    streak, told = Streak(), 0
    for call in calls:
        streak = streak.then(call)
        told += streak.begins_to_loop(limit)
        assert streak.times >= 1
        assert streak.loops(limit) or not streak.begins_to_loop(limit)
    assert told == sum(len(list(same)) >= limit for _, same in groupby(calls))


@given(tool=st.text(max_size=5), arguments=INPUTS)
@example(tool="Bash", arguments={"command": "half a character: \ud800"})
def test_the_order_of_an_inputs_keys_makes_no_other_call(tool: str, arguments: dict[str, object]) -> None:
    turned = dict(reversed(arguments.items()))
    assert fingerprint(tool, arguments) == fingerprint(tool, turned)


@given(one=st.tuples(st.text(max_size=3), INPUTS), other=st.tuples(st.text(max_size=3), INPUTS))
def test_different_calls_have_different_fingerprints(
    one: tuple[str, dict[str, object]], other: tuple[str, dict[str, object]]
) -> None:
    same = repr(one[0]) == repr(other[0]) and _canonical(one[1]) == _canonical(other[1])
    assert (fingerprint(*one) == fingerprint(*other)) is same


def _canonical(value: object) -> object:
    if isinstance(value, dict):
        pairs = cast("dict[object, object]", value)
        return sorted((str(key), repr(_canonical(inner))) for key, inner in pairs.items())
    if isinstance(value, list):
        return [repr(_canonical(inner)) for inner in cast("list[object]", value)]
    return repr(value)


@given(
    quiet=st.floats(0, 1e6),
    stall=st.floats(0.1, 1000),
    tool=st.floats(0.1, 1e5),
    in_tool=st.booleans(),
    reason=st.sampled_from(["", "starting", "looping: Bash x", "retrying 1/3", "checking: make test"]),
)
def test_nothing_old_is_plain_work(quiet: float, stall: float, tool: float, in_tool: bool, reason: str) -> None:
    shown = patience(stall, tool).doubt(reason, quiet, in_tool=in_tool)
    limit = (tool if in_tool else 2 * stall) + 30
    if quiet <= limit:
        assert shown == reason
    else:
        assert shown == f"{UNKNOWN}nothing heard for {quiet:.0f} s"


@given(quiet=st.integers(0, 10_000), known=st.integers(1, 10_000))
def test_what_is_known_of_a_silence_bounds_it_and_nothing_is_believed_for_ever(quiet: int, known: int) -> None:
    trust = patience(90, 3600)

    def is_doubted(reason: str, **more: float) -> bool:
        shown = trust.doubt(reason, quiet, in_tool=False, **more)
        assert shown == reason or shown.startswith(UNKNOWN)
        return shown != reason

    assert is_doubted(stalled(known)) is (quiet + known > 210)
    assert is_doubted(retrying(3, 10, known)) is (quiet > 210 + known)
    assert is_doubted(retrying(3, 10, None)) is (quiet > 210)
    assert is_doubted("checking: make test", check_seconds=known) is (quiet > max(210, known + 30))
