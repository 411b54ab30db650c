from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cli.render import output

ATTACKS = {
    "\x1b[31mred\x1b[0m": "red",
    "\x1b]0;title\x07after": "after",
    "\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\": "link",
    "\x9b31mred": "red",
    "\x1bP1;2qdata\x1b\\after": "after",
    "a\x08\x08b\rc": "abc",
    "kept\n\ttab": "kept\n\ttab",
    "win\r\ndows": "win\ndows",
    "\u202egnp.exe": "gnp.exe",
    "\u2066a\u2069\u200f\ufeff": "a",
    "\x1bc\x1b(0text": "text",
    "end\x1b": "end",
    "ünïcödé 漢字 🚀": "ünïcödé 漢字 🚀",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_steers_a_terminal_is_taken_out_of_text(attack: str) -> None:
    assert output.scrub(attack) == ATTACKS[attack]


@given(st.text(st.characters(codec=None, exclude_categories=[]), max_size=60))
def test_no_control_survives_scrubbing_and_scrubbing_twice_changes_nothing(text: str) -> None:
    once = output.scrub(text)
    assert not [c for c in once if (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 or c in "\u202e\u2066"]
    assert output.scrub(once) == once


@given(st.text(max_size=400), st.integers(2, 80))
def test_a_line_is_one_line_of_at_most_its_limit(text: str, limit: int) -> None:
    shown = output.line(text, limit)
    assert len(shown) <= limit
    assert "\n" not in shown


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.requirement("I3-cli-colour")
@pytest.mark.parametrize(
    ("stream", "variables", "wanted"),
    [
        (_Terminal(), {}, True),
        (_Terminal(), {"TERM": "dumb"}, False),
        (_Terminal(), {"NO_COLOR": "1"}, False),
        (_Terminal(), {"NO_COLOR": ""}, True),
        (_Terminal(), {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        (io.StringIO(), {}, False),
        (io.StringIO(), {"FORCE_COLOR": "1"}, True),
        (io.StringIO(), {"FORCE_COLOR": "0"}, False),
    ],
)
def test_colour_is_for_terminals_unless_the_environment_says_otherwise(
    stream: io.StringIO, variables: dict[str, str], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert output.coloured(stream) is wanted


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "?"), (-3, "0s"), (8.9, "8s"), (65, "1m05s"), (3600, "1h00m"), (172_800, "2d")],
)
def test_ages_are_short(seconds: float | None, shown: str) -> None:
    assert output.shown_age(seconds) == shown
