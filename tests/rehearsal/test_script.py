"""Reading scripts: every mistake is reported with its line, whatever the text is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.rehearsal.script import ScriptError, load, parse
from tests.rehearsal.conftest import SCRIPTS

HEAD = "name: bad\nparts:\n  - part: a\n"


def _problem(text: str) -> str:
    with pytest.raises(ScriptError) as error:
        parse(text, "bad.yaml")
    return str(error.value)


@pytest.mark.requirement("rehearsal:script:line-and-reason")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "bad.yaml:1: the file is empty"),
        ("- a\n", "bad.yaml:1: must be a mapping"),
        ("name: x\n", "bad.yaml:1: the script needs the key 'parts'"),
        ("name: x\nparts: []\n", "bad.yaml:2: parts: .*at least 1 item"),
        ("name: x\nparts: 3\n", r"bad.yaml:2: parts: .*\(given: '3'\)"),
        (
            "nam: x\nparts: []\n",
            "bad.yaml:1: the script has no key 'nam'; did you mean 'name'\\? valid: name, model_sec",
        ),
        (HEAD + "    replys: []\n", r"bad.yaml:4: parts\[0\] has no key 'replys'; did you mean 'replies'\?"),
        (HEAD, r"bad.yaml:3: parts\[0\] needs the key 'replies'"),
        (
            HEAD + "    replies:\n      - sya: x\n",
            r"bad.yaml:5: parts\[0\].replies\[0\] has no key 'sya'; did you mean 'say'",
        ),
        (HEAD + "    replies:\n      - say: 42\n", "bad.yaml:5: .*say: must be text; put quotes"),
        (HEAD + "    replies: {say: x}\n", "bad.yaml:4: .*replies: must be a list"),
        (HEAD + "    replies:\n      - {}\n", "bad.yaml:5: .*a reply needs say, calls or a fault"),
        (HEAD + "    replies:\n      - say: '{{ 1 + }}'\n", r"bad.yaml:5: .*say: template syntax: "),
        (HEAD + "    replies:\n      - say: hi\n        when: sometimes\n", "bad.yaml:6: .*exactly one expression"),
        (HEAD + "    replies:\n      - say: hi\n        delay_seconds: soon\n", "bad.yaml:6: .*valid number"),
        (
            HEAD + "    replies:\n      - say: hi\n        delay_seconds: -1\n",
            "bad.yaml:6: .*greater than or equal to 0",
        ),
        (HEAD + "    replies:\n      - say: {{ x }}\n", "bad.yaml:5: .*needs quotes"),
        (HEAD + "    replies:\n      - say: I: am\n", "bad.yaml:5: not YAML: mapping values"),
        (
            HEAD + "    replies:\n      - say: a\n        say: b\n",
            "bad.yaml:6: the key 'say' is duplicated; .*line 5",
        ),
        (HEAD + "    replies:\n      - calls:\n          - tol: Read\n", "bad.yaml:6: .*did you mean 'tool'"),
        (HEAD + "    replies:\n      - calls: [{tool: Read, as: 'a b'}]\n", r"bad.yaml:5: .*calls\[0\].as: .*pattern"),
        (HEAD + "    replies:\n      - calls: [{tool: Read, input: {x: ['{{ }']}}]\n", "bad.yaml:5: .*template syntax"),
        (HEAD + "    replies:\n      - fault: {kind: loud}\n", "bad.yaml:5: .*kind: .*'silence'.*'ping'"),
        (HEAD + "    replies:\n      - fault: {status: 200}\n", "bad.yaml:5: .*status: .*400"),
        (HEAD + "    replies:\n      - fault: {times: 2}\n", "bad.yaml:5: .*either status"),
        (HEAD + "    replies:\n      - fault: {kind: cut, resets_after: 2}\n", "bad.yaml:5: .*belong to status"),
        (HEAD + "    replies:\n      - fault: {status: 429, times: 2}\n", "bad.yaml:5: .*a fault that ends"),
        (HEAD + "    match: {task: '('}\n    replies: [{say: x}]\n", "bad.yaml:4: .*task: not a regular expression"),
        (HEAD + "    match: {task: '(?P<agent>x)'}\n    replies: [{say: x}]\n", "bad.yaml:4: .*'agent' is taken"),
        (HEAD + "    match: {agnt: x}\n    replies: [{say: x}]\n", "bad.yaml:4: .*did you mean 'agent'"),
        (
            HEAD + "    replies: [{say: x}]\n  - part: a\n    replies: [{say: x}]\n",
            "bad.yaml:1: .*'a' is defined 2 times",
        ),
        (HEAD + "    replies: [{say: !!python/name:os.system x}]\n", "bad.yaml:4: the tag"),
        ("name: &a x\nparts: &b [*b]\n", "bad.yaml:2: nested deeper than"),
        ("name: x\nparts:\n" + "- " * 2000, "bad.yaml:1: cannot read this YAML"),
    ],
)
def test_a_bad_script_is_refused_with_line_and_reason(text: str, said: str) -> None:
    assert re.search(said, _problem(text)), _problem(text)


def test_all_problems_are_told_at_once() -> None:
    text = HEAD + "    replies:\n      - sya: x\n      - say: hi\n        repeat: 0\n"
    assert [line.split(" ")[0] for line in _problem(text).splitlines()] == ["bad.yaml:5:", "bad.yaml:7:"]


def test_aliases_that_make_much_of_little_are_refused() -> None:
    layers = "".join(f"  l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 12))
    assert "more than 50000 values" in _problem(f"name: x\nparts:\n  l0: &l0 [1]\n{layers}")


def test_a_missing_file_and_one_that_is_not_text_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match=r"none.yaml: cannot be read: No such file"):
        load(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"name: x\nparts: \xff\xfe\n")
    with pytest.raises(ScriptError, match=r"binary.yaml:2: not UTF-8"):
        load(tmp_path / "binary.yaml")


def test_the_name_of_a_result_is_as_or_the_tool() -> None:
    text = "name: x\nparts: [{part: a, replies: [{calls: [%s]}]}]"
    calls = "{tool: Read}, {tool: mcp__a__list_agents}, {tool: Read, as: mine}, {tool: a.b-c}"
    (part,) = parse(text % calls).script.parts
    assert [call.name for call in part.replies[0].calls] == ["read", "list_agents", "mine", "a_b_c"]


GOOD = (SCRIPTS / "wire.yaml").read_text(encoding="utf-8")
LINES = GOOD.splitlines()
KEYS = ["name", "parts", "part", "match", "replies", "say", "calls", "for_each", "when", "fault", "tool", "input", "as"]
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["{{ x }}", "{{", "(", "%}"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=25,
)


def _is_located(text: str) -> None:
    said = "some.yaml:1: nothing is wrong"
    try:
        parse(text, "some.yaml")
    except ScriptError as error:
        said = str(error)
    for line in said.split("\nsome.yaml:"):
        assert re.match(r"\d+: .", line.removeprefix("some.yaml:")), line


@given(st.text(max_size=200))
@example('"\\UFFFFFFFF"')
@example("%TAG ! x\n---\n!a")
@example("a: 0x_\n")
@example("0o9: [")
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_or_refused_with_a_line(text: str) -> None:
    _is_located(text)


@given(values)
@settings(max_examples=300, deadline=None)
def test_any_document_is_read_or_refused_with_a_line(document: object) -> None:
    _is_located(repr(document).replace("None", "null").replace("True", "true").replace("False", "false"))


@given(st.integers(0, len(LINES) - 1), st.text(max_size=20), st.integers(0, 60))
@settings(max_examples=200, deadline=None)
def test_a_damaged_script_is_read_or_refused_with_a_line(line: int, damage: str, column: int) -> None:
    damaged = [*LINES[:line], LINES[line][:column] + damage + LINES[line][column:], *LINES[line + 1 :]]
    _is_located("\n".join(damaged))
