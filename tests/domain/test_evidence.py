"""Loops and doubtful activities, for any history."""

from __future__ import annotations

from itertools import groupby
from typing import cast

from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.domain.activity import (
    RECOVERING,
    STARTING,
    WORKING,
    Activity,
    ActivityKind,
    Streak,
    activity_words,
    fingerprint,
    patience,
    retrying,
    stalled,
)

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


CHECKING = Activity(kind=ActivityKind.CHECKING, detail="make test")
LOOPING = Activity(kind=ActivityKind.LOOPING, detail="Bash x")


@given(
    quiet=st.floats(0, 1e6),
    stall=st.floats(0.1, 1000),
    tool=st.floats(0.1, 1e5),
    in_tool=st.booleans(),
    activity=st.sampled_from([WORKING, STARTING, RECOVERING, LOOPING, retrying(1, 3, None), CHECKING]),
)
def test_nothing_old_is_plain_work(quiet: float, stall: float, tool: float, in_tool: bool, activity: Activity) -> None:
    shown = patience(stall, tool).staleness(activity, quiet, in_tool=in_tool)
    limit = (tool if in_tool else 2 * stall) + 30
    assert shown == (activity if quiet <= limit else Activity(kind=ActivityKind.UNKNOWN, seconds=quiet))


@given(quiet=st.integers(0, 10_000), known=st.integers(1, 10_000))
def test_what_is_known_of_a_silence_bounds_it_and_nothing_is_believed_for_ever(quiet: int, known: int) -> None:
    trust = patience(90, 3600)

    def is_doubted(activity: Activity, check_seconds: float = 0.0) -> bool:
        shown = trust.staleness(activity, quiet, in_tool=False, check_seconds=check_seconds)
        assert shown.kind in {activity.kind, ActivityKind.UNKNOWN}
        return shown.kind is not activity.kind

    assert is_doubted(stalled(known)) is (quiet + known > 210)
    assert is_doubted(retrying(3, 10, known)) is (quiet > 210 + known)
    assert is_doubted(retrying(3, 10, None)) is (quiet > 210)
    assert is_doubted(CHECKING, known) is (quiet > max(210, known + 30))


@given(
    kind=st.sampled_from(ActivityKind), detail=st.text(min_size=1, max_size=9), seconds=st.none() | st.floats(0, 1e6)
)
def test_the_words_of_an_activity_name_its_kind_and_only_plain_work_has_none(
    kind: ActivityKind, detail: str, seconds: float | None
) -> None:
    words = activity_words(Activity(kind=kind, detail=detail, seconds=seconds))
    assert words.startswith(kind)
    assert bool(words) is (kind is not ActivityKind.NONE)
