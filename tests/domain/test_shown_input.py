"""What a permission shows of a tool's input stands for that input alone, or counts as cut."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.question import QuestionKind, fits_line, is_whole, line_of, lines_of, shown_text
from orchestrator.domain.text import clean, exact, fenced, margin, one_line

CONFUSABLE = st.lists(
    st.sampled_from([*"ab \n\t\r\"'\\{}[],:\u2028\u00a0\u200b\u202e\u2800\u201c\uff02\x1b\x7f`|"])
    | st.sampled_from(
        ["\\n", "\\u202e", "\\u0020", "<U+202E>", " ⏎ ", "…", "rm", "]m", '{"command": "', "\r\n", "\U000e0041"]
    ),
    max_size=9,
).map("".join)
QUOTED_ENDS = re.compile(r'"[^"]*" \[… [0-9]+ characters? …\] "[^"]*"')
INPUTS = st.one_of(
    CONFUSABLE.map(lambda text: ("Bash", {"command": text})),
    st.tuples(
        st.sampled_from(["Bash", "Write", "mcp__x__run"]),
        st.dictionaries(
            st.sampled_from(["command", "description", "file_path", "timeout"]) | CONFUSABLE,
            CONFUSABLE | st.integers(0, 2) | st.booleans() | st.none() | st.lists(CONFUSABLE, max_size=2),
            max_size=3,
        ),
    ),
)


def does(tool: str, tool_input: dict[str, object]) -> tuple[str, str]:
    """What the call does: everything but the words that a shell's call says about itself."""
    telling = {name: value for name, value in tool_input.items() if tool != "Bash" or name != "description"}
    return tool, json.dumps(telling)


@pytest.mark.requirement("permission:allow:only-what-was-shown")
@settings(max_examples=600)
@given(st.lists(INPUTS, min_size=2, max_size=8))
def test_two_calls_of_a_tool_never_look_alike_where_they_are_shown_whole(
    calls: list[tuple[str, dict[str, object]]],
) -> None:
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    for tool, tool_input in calls:
        text = shown_text(tool, tool_input)
        assert fits_line(QuestionKind.PERMISSION, text) == (line_of(text) == line_of(text, 10_000))
        if not is_whole(QuestionKind.PERMISSION, text):
            continue
        whole = line_of(text, 10_000)
        assert one_line(whole, 10_000) == whole, "no flattening changes it"
        for shown in (whole, lines_of(text), "\n".join(margin(lines_of(text))), fenced(lines_of(text))):
            assert clean(shown) == shown
            assert seen.setdefault((tool, shown), does(tool, tool_input)) == does(tool, tool_input)
        assert "".join(lines_of(text).split("\n")).replace(r"\u0020", " ") == whole.replace(r"\u0020", " ")


@given(CONFUSABLE | st.text(), st.integers(min_value=40, max_value=400))
def test_a_shortened_input_keeps_its_end_and_says_how_much_is_missing(text: str, limit: int) -> None:
    command = "; " + text + "-" * 3000 + "; tail of it"
    shown = shown_text("Bash", {"command": command})
    assert not is_whole(QuestionKind.PERMISSION, shown)
    line = line_of(shown, limit)
    assert line.endswith(('tail of it"', "tail of it'}\"")), "a NUL makes it JSON"
    assert len(line.encode()) <= limit + 40
    assert QUOTED_ENDS.fullmatch(line)


def test_what_cannot_be_seen_in_a_command_is_named() -> None:
    assert line_of(shown_text("Bash", {"command": "ls\x9b; rm -r x\u202e"})) == r'"ls\u009b; rm -r x\u202e"'


def test_a_command_is_shown_as_it_is_and_every_other_input_as_json() -> None:
    def line(tool: str, **given: object) -> str:
        return line_of(shown_text(tool, given))

    assert line("Bash", command='echo "a  b" # x\nrm y', description="says hello") == r'"echo \"a \u0020b\" # x\nrm y"'
    assert line("Bash", command="ls", timeout=5) == '{"command": "ls", "timeout": 5}'
    assert line("Bash", command='{"a": 1}') == r'{"command": "{\"a\": 1}"}'
    assert (
        line("mcp__mail__send", command="x", description="all of it") == '{"command": "x", "description": "all of it"}'
    )
    assert lines_of(shown_text("Bash", {"command": r"echo '\n'" + "\n\n  ls"})) == "\"echo '\\\\n'\\n\n\\n\n  ls\""


@pytest.mark.parametrize(("one", "other"), [("caf\u00e9", "cafe\u0301"), ("a\U0001d159", "a"), ("a\U00016fe4", "a")])
def test_what_joins_a_letter_or_does_not_show_is_escaped(one: str, other: str) -> None:
    assert "\\u" in exact(one) + exact(other)
    assert exact(one) != exact(other)


def test_plain_letters_of_every_script_are_shown_as_they_are() -> None:
    assert exact("\u6f22\u5b57 \u0430 \u05d0") == '"\u6f22\u5b57 \u0430 \u05d0"'
