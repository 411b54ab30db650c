"""YAML of strangers: plain values are read, and nothing in it can expand, nest or repeat."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.bounded_yaml import MAX_CHARACTERS, MAX_DEPTH, YamlError, YamlRefusedError, read

ALIASES = "a: &a\n  - x\n" + "".join(
    f"{name}: &{name}\n" + f"  - *{last}\n" * 8 for last, name in zip("abcdefgh", "bcdefghi", strict=True)
)
"""a kilobyte that stands for 8^8 values"""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: b", {"a": "b"}),
        ("a: [b, 'c', {d: 1}]", {"a": ["b", "c", {"d": 1}]}),
        ("a:\n- b\n-  c: 1.5\n", {"a": ["b", {"c": 1.5}]}),
        ("a: |\n  one\n  two\n", {"a": "one\ntwo\n"}),
        ("a: yes\nb: true\nc: ~\nd: 'true'\ne: 1_000\nf: 2026-01-02", {
            "a": "yes", "b": True, "c": None, "d": "true", "e": "1_000", "f": "2026-01-02"
        }),
        ("a: 0x1F\nb: 0o17\nc: -7\nd: 1e3\ne: -.inf", {"a": 31, "b": 15, "c": -7, "d": 1000.0, "e": float("-inf")}),
        ("a: " + "9" * 400, {"a": "9" * 400}),
        ("7: b\ntrue: c", {7: "b", True: "c"}),
        ('"\\ud83d\\ude00": ["a\\uD83D\\uDE00", "\\U0001F600"]', {"\U0001f600": ["a\U0001f600", "\U0001f600"]}),
    ],
)  # fmt: skip
def test_plain_values_are_read_as_by_the_core_schema(text: str, value: object) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ALIASES, "an anchor (&a)"),
        ("a: &x 1\nb: *x", "an anchor (&x)"),
        ("<<: {a: b}\n" * 1000, "a merge"),
        ("a: 1\n" * 2000, "the key a twice"),
        ("a: !!python/object x", "a tag"),
        ("? [a]\n: b", "a list or map as a key"),
        ("[" * MAX_CHARACTERS, "nested more than"),
        ("{" * MAX_CHARACTERS, "nested more than"),
        ("[\n" * 1000, "nested more than"),
        ("\n".join(" " * depth + "a:" for depth in range(MAX_DEPTH + 2)), "nested more than"),
        ("- " * 1000, "nested more than"),
        ("? " * 1000, "nested more than"),
        ("x" * (MAX_CHARACTERS + 1), "more than 16384 characters"),
    ],
)
@pytest.mark.requirement("persona:files:bounded-reading")
def test_what_could_expand_nest_or_repeat_is_refused(text: str, said: str) -> None:
    with pytest.raises(YamlRefusedError) as error:
        read(text)
    assert said in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        'a: "b',
        "a: b: c",
        "*x",
        "a\nb: c",
        "a: b\n---\nc: d",
        "\x00",
        "%x",
        "@",
        'a: "\\UFFFFFFFF"',
        'a: "\\U00110000"',
        'a: "\\ud83d"',
        'a: "\\ude00\\ud83d"',
        '"\\ude00": b',
        'a: ["\\ud83d\U0001f600"]',
    ],
)
def test_what_is_no_yaml_is_said_to_be_none(text: str) -> None:
    with pytest.raises(YamlError):
        read(text)


@given(st.text(max_size=300) | st.text(st.sampled_from("-:[]{}'\"&*!|>%@`#,?<~ \n\tab01"), max_size=80))
def test_every_text_is_read_or_refused(text: str) -> None:
    with suppress(YamlError, YamlRefusedError):
        read(text)
