"""Transitions between an agent's statuses, and valid names and tasks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.agent import ENDED, MOVES, OPEN, Status, check_move, checked_name, checked_text
from orchestrator.errors import ConflictError, InvalidError

LIVING = [status for status in Status if status is not Status.DELETED]


def reachable(start: Status) -> set[Status]:
    """Where an agent can come to."""
    seen: set[Status] = set()
    ahead = [start]
    while ahead:
        one = ahead.pop()
        if one not in seen:
            seen.add(one)
            ahead.extend(MOVES[one])
    return seen


def test_every_status_has_its_moves_and_only_deleted_is_an_end() -> None:
    assert set(MOVES) == set(Status)
    assert [status for status in Status if not MOVES[status]] == [Status.DELETED]


@pytest.mark.parametrize("status", LIVING)
def test_a_living_agent_can_fail_and_be_deleted_at_once(status: Status) -> None:
    check_move(status, Status.FAILED)
    check_move(status, Status.DELETED)


@pytest.mark.parametrize("status", LIVING)
def test_a_living_agent_can_come_to_a_complete_turn(status: Status) -> None:
    assert Status.COMPLETE in reachable(status)


@pytest.mark.parametrize("status", list(Status))
def test_nobody_comes_back_from_deleted_nor_to_creating(status: Status) -> None:
    with pytest.raises(ConflictError) as error:
        check_move(Status.DELETED, status)
    assert "deleted cannot become" in error.value.message
    with pytest.raises(ConflictError):
        check_move(status, Status.CREATING)


@pytest.mark.parametrize("after", sorted({*ENDED, Status.WAITING} - {Status.FAILED, Status.INTERRUPTED}))
def test_what_needs_a_session_comes_from_working_only(after: Status) -> None:
    sources = {before for before in Status if after in MOVES[before]}
    assert Status.WORKING in sources
    if after is Status.COMPLETE:
        assert sources == {Status.WORKING}


def test_an_agent_that_waits_for_its_account_was_queued() -> None:
    check_move(Status.QUEUED, Status.WAITING)
    check_move(Status.WAITING, Status.QUEUED)


def test_open_and_ended_are_apart() -> None:
    assert not OPEN & ENDED


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=500))
def test_any_text_with_something_in_it_is_taken_as_it_is(text: str) -> None:
    if text.strip():
        assert checked_text("task", text) is text
    else:
        with pytest.raises(InvalidError):
            checked_text("task", text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "task is empty"),
        (" \n\t\u2003", "task is empty"),
        ("ab\0c", "NUL character at 2"),
        ("ab\udfffc", "lone surrogate at 2"),
        ("x" * (1024 * 1024), "has 1048576 bytes; at most 262144 are accepted"),
        ("ü" * 131_073, "has 262146 bytes"),
    ],
    ids=["empty", "blank", "nul", "surrogate", "1 MB", "two bytes each"],
)
def test_what_cannot_be_sent_is_refused_with_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(InvalidError) as error:
        checked_text("task", text)
    assert said in error.value.message
    assert error.value.hint


def test_the_limit_itself_is_taken() -> None:
    assert checked_text("task", "x" * 262_144)


@pytest.mark.parametrize("name", ["a", "A1", "scout-1", "a.b_c-d", "0", "x" * 64, "again", "tn"])
def test_plain_names_are_taken(name: str) -> None:
    assert checked_name(name) == name


@given(st.text(max_size=70))
def test_a_name_that_is_taken_is_safe_in_paths_headers_and_lines(name: str) -> None:
    try:
        checked_name(name)
    except InvalidError:
        return
    assert name.isascii()
    assert name.isprintable()
    assert 1 <= len(name) <= 64
    assert not set(name) & set(" /\\'\"$`;|&<>")
    assert name[0] not in ".-_"
