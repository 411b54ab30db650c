"""Templates: what they can express, and what they cannot do."""

from __future__ import annotations

import pytest

from orchestrator.rehearsal import templates
from orchestrator.rehearsal.templates import TemplateProblem, bounded_cpu, text, value

TEXT = "src/a.py:3: foo\nsrc/b.py:14: foo bar"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("plain } text {", "plain } text {"),
        ("{{ text | findall('^\\S+?:') }}", ["src/a.py:", "src/b.py:"]),
        ("{{ text | findall('^(\\S+?):') }}", ["src/a.py", "src/b.py"]),
        ("{{ text | findall('^(\\S+?):(\\d+):') }}", [["src/a.py", "3"], ["src/b.py", "14"]]),
        ("{{ text | findall('^(?P<path>\\S+?):(\\d+)') | map(attribute='path') }}", ["src/a.py", "src/b.py"]),
        ("{{ text | match(':(\\d+):') | int }}", 3),
        ("{{ text | match('nothing') }}", None),
        ("{{ text | lines | length }}", 2),
        ("{{ 'foo foobar' | sub('\\bfoo\\b', 'X') }}", "X foobar"),
        ("{{ 'ab' | sub('(a)(b)', '\\2\\1') }}", "ba"),
        ("{{ '[1, {\"a\": null}]' | json }}", [1, {"a": None}]),
        ("{{ 'src/a.py' | basename }} in {{ 'src/a.py' | dirname }}", "a.py in src"),
        ("  {{ 1 + 1 }}\n", 2),
        ("n{{ 1 + 1 }}", "n2"),
        ("{{ results.items }}{{ results.keys }}", "oneTwo"),
        ("{{ results.items }}", "one"),
        ("{% if results.keys %}yes{% endif %}", "yes"),
        ("{{ '}}' }}", "}}"),
        ("{{ 'a' if false }}", ""),
        ("{{ 'aba' | replace('a', 'xy') }}", "xybxy"),
        ("{{ 'a\\nb' | indent(2) }}", "a\n  b"),
        ("{{ {'k': (1, 2)} }}", {"k": [1, 2]}),
    ],
)
@pytest.mark.requirement("rehearsal:templates:task-and-results")
def test_an_expression_gives_the_value_itself_and_all_else_is_text(source: str, found: object) -> None:
    assert value(source, {"text": TEXT, "results": {"items": "one", "keys": "Two"}}) == found


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("{{ nothing }}", "'nothing' is undefined; known here: results; results so far: hits"),
        ("{{ results.hit }}", "no attribute 'hit'; known here: results; results so far: hits"),
        ("x{{ results.hit }}", "results so far: hits"),
        ("{{ [results.hit] }}", "no attribute 'hit'"),
        ("{{ ''.__class__ }}", "unsafe"),
        ("{{ results.update({}) }}", "unsafe"),
        ("{{ results.hits.format(1) }}", "unsafe"),
        ("{{ results.hits['ljust'](1) }}", "unsafe"),
        ("{{ '(' | findall('(') }}", "PatternError|error"),
        ("{{ 'x' | json }}", "JSONDecodeError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ range }}", "the value is a"),
        ("{{ 1e308 * 10 }}", "inf, which is not a finite number"),
    ],
)
def test_what_cannot_be_rendered_says_why(source: str, problem: str) -> None:
    with pytest.raises(TemplateProblem, match=problem):
        value(source, {"results": {"hits": "x"}})


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x' * 10 ** 9 }}",
        "{{ 10 ** 9 * 'x' }}",
        "{{ [1] * 10 ** 9 }}",
        "{{ 2 ** (10 ** 9) }}",
        "{{ (2 ** 4000) * (2 ** 4000) }}",
        "{{ '%01000000000d' % 1 }}",
        "{{ 'x'.ljust(10 ** 9) }}",
        "{{ ('x' * 1000000) | replace('x', 'y' * 1000) }}",
        "{{ 'x' | indent(10 ** 9, true) }}",
        "{{ 'x'.replace('x', 'y') }}",
        "{% for i in range(100000) %}{{ 'x' * 1000 }}{% endfor %}",
        "{{ range(10 ** 9) }}",
    ],
)
def test_nothing_huge_can_be_made(source: str) -> None:
    with pytest.raises(TemplateProblem):
        value(source, {})


@pytest.mark.parametrize(
    "source",
    [
        "{{ ('a' * 40) | findall('(a+)+b') }}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    ],
)
def test_work_without_end_is_ended(source: str) -> None:
    with pytest.raises(TemplateProblem, match="processor time"), bounded_cpu(0.1):
        text(source, {})


def test_text_is_left_alone_where_nothing_is_to_be_filled_in() -> None:
    assert text("a \\d {b} \n", {}) == "a \\d {b} \n"


@pytest.mark.parametrize("source", ["{{ 1 + }}", "{{ x", "{% if x %}", "{{ x | nofilter }}", "{% include 'x' %}{{"])
def test_bad_syntax_is_found_before_anything_is_played(source: str) -> None:
    with pytest.raises(TemplateProblem, match="template syntax"):
        templates.check(source)
