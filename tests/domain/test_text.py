"""Scrubbing of text that agents wrote."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.text import clean, is_plain, one_line, storable

ODD = st.text(st.sampled_from("ab \t\n\r\x1b[]0;m\x07\\P\x9b\x00\u202e\u2066\u200b\U000e0041\u2028\x85\ud800\ufe0f"))
SEEN_FORMATS = {0x600, 0x601, 0x602, 0x603, 0x604, 0x605, 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
"""format characters that are drawn: signs over Arabic, Syriac and Kaithi numbers"""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü 漢字 🙂\ttab\nline", "plain ü 漢字 🙂\ttab\nline"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[1;1Hgone", "gone"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b31mred", "red"),
        ("\x1bP+q\x1b\\text", "text"),
        ("safe\u202eevil\u202c", "safeevil"),
        ("a\u2066b\u2069c\u200bd\ufeffe", "abcde"),
        ("hi\U000e0069\U000e0067", "hi"),
        ("a\u2028b\u2029c\r\nd", "a\nb\nc\nd"),
        ("a\rb\x0bc\x0cd\x85e\x00f", "abcdef"),
        ("half \ud83d", "half \ufffd"),
        ("n\U0001d173ote\U0001bca0", "note"),
        ("\x9d0;title\x9ctext", "0;titletext"),  # a C1 character may be mojibake: what is behind it is kept
        ("\x9fcommand\x07text", "commandtext"),
        ("it isn\xe2\x80\x9d over\nmore", "it isn\xe2 over\nmore"),
        ("\x1b]0;never ended\nmore", "0;never ended\nmore"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bP1;2qdata\x1b\\after", "after"),
        ("a\x08\x08b\rc", "abc"),
        ("kept\n\ttab", "kept\n\ttab"),
        ("win\r\ndows", "win\ndows"),
        ("\u202egnp.exe", "gnp.exe"),
        ("\u2066a\u2069\u200f\ufeff", "a"),
        ("\x1bc\x1b(0text", "text"),
        ("end\x1b", "end"),
        ("ünïcödé 漢字 🚀", "ünïcödé 漢字 🚀"),
    ],
)
def test_what_is_not_seen_is_taken_out(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(st.text() | ODD)
def test_cleaned_text_has_nothing_unseen_and_is_clean(text: str) -> None:
    shown = clean(text)
    assert clean(shown) == shown
    for character in shown:
        if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
            assert character in "\t\n" or ord(character) in SEEN_FORMATS
    assert "\n".join(shown.splitlines()) == shown.removesuffix("\n")


def test_no_format_character_but_those_that_are_drawn_comes_through() -> None:
    everything = "".join(map(chr, range(0xA0, 0x110000)))  # the controls before it could begin an escape sequence
    formats = {ord(one) for one in clean(everything) if unicodedata.category(one) == "Cf"}
    assert formats == SEEN_FORMATS


@given(st.text() | ODD, st.integers(1, 80))
def test_one_line_is_one_line_of_at_most_that_many_characters(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert len(line.splitlines()) <= 1
    assert line == line.strip()


def test_a_cut_line_carries_a_mark() -> None:
    assert one_line("one two three", 8) == "one two…"
    assert one_line("one two", 7) == "one two"


@given(st.text(st.characters()) | ODD)
def test_what_is_stored_can_be_encoded_and_is_otherwise_the_same(text: str) -> None:
    kept = storable(text)
    kept.encode()
    assert len(kept) == len(text)
    assert is_plain(kept.replace("\0", ""))
    if is_plain(text):
        assert kept == text
