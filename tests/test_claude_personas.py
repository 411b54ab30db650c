"""What is a persona is what Claude Code takes for one, under the same name: compared with the real program."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from orchestrator.personas import list_personas
from orchestrator.providers.claude.catalog import bundled_program

D = "description: d\n"
FRONTS = {
    "plain": "name: plain\n" + D,
    "no-name": D,
    "no-description": "name: no-description\n",
    "empty-description": "name: empty-description\ndescription:\n",
    "number-description": "name: number-description\ndescription: 5\n",
    "list-description": "name: list-description\ndescription: [a, b]\n",
    "empty-name": "name:\n" + D,
    "double-quoted": 'name: "double-quoted"\n' + D,
    "single-quoted": "name: 'single-quoted'\n" + D,
    "another": "name: another-name\n" + D,
    "number": "name: 7\n" + D,
    "quoted-number": 'name: "77"\n' + D,
    "yes": "name: yes\n" + D,
    "y": "name: y\n" + D,
    "true": "name: true\n" + D,
    "null": "name: null\n" + D,
    "tilde": "name: ~\n" + D,
    "float": "name: 1.5\n" + D,
    "exponent": "name: 1e3\n" + D,
    "hexadecimal": "name: 0x1F\n" + D,
    "octal": "name: 0o17\n" + D,
    "zeros": "name: 007\n" + D,
    "date": "name: 2026-01-02\n" + D,
    "infinite": "name: .inf\n" + D,
    "signed": "name: +5\n" + D,
    "grouped": "name: 1_000\n" + D,
    "colon": "name: colon\ndescription: Use this: always\n",
    "block": "name: block\ndescription: |\n  Use this: always\n  and more\n",
    "folded": "name: folded\ndescription: >\n  Use this: always\n  and more\n\n  more\n",
    "continued": "name: continued\ndescription: first line\n  second line\n",
    "not-indented": "name: not-indented\ndescription: first line\nsecond line\n",
    "example": "name: example\ndescription: Examples: <example>Context: x user: 'a' assistant: \"b\"</example>\n",
    "escaped": 'name: escaped\ndescription: "Use this\\n\\nExample: x"\n',
    "tab-in-list": "name: tab-in-list\n" + D + "tools:\n\t- Read\n",
    "tabs": "\tname: tabs\n\tdescription: d\n",
    "indented": "  name: indented\n  description: d\n",
    "tools-list": "name: tools-list\n" + D + "tools:\n- Read\n- Grep\n",
    "tools-flow": "name: tools-flow\n" + D + "tools: [Read, Grep]\n",
    "tools-map": "name: tools-map\n" + D + "tools:\n  Read: true\n  Bash: false\n",
    "tools-pattern": "name: tools-pattern\n" + D + "tools: Read, Bash(git *), Bash(npm run:*)\n",
    "tools-star": "name: tools-star\n" + D + "tools: *\n",
    "tools-unknown": "name: tools-unknown\n" + D + "tools: Frobnicate, read\n",
    "verdict": "name: verdict\n" + D + 'verdict: "PASS or FAIL"\n',
    "children": "name: children\n" + D + "children: [a, b]\n",
    "policy": "name: policy\n" + D + "policy: strict\n",
    "ask": "name: ask\n" + D + "ask: Bash(rm *)\n",
    "foreign": "name: foreign\n" + D + "color: red\nmetadata:\n  a:\n    b: [1, {c: d}]\n",
    "bad-hooks": "name: bad-hooks\n" + D + "hooks: yes please\n",
    "servers": "name: servers\n" + D + "mcpServers:\n  - github\n",
    "spaces": "name: Some Spaces\n" + D,
    "unicode": "name: prüfer-检查\n" + D,
    "emoji": "name: 🚀 rocket\n" + D,
    "dash": "name: -dash\n" + D,
    "colon-name": "name: a:b\n" + D,
    "quoted-colon-name": 'name: "a: b"\n' + D,
    "path": "name: ../../etc\n" + D,
    "long": "name: " + "n" * 200 + "\n" + D,
    "too-long": "name: " + "m" * 300 + "\n" + D,
    "padded": 'name: "  padded  "\n' + D,
    "dashes-inside": "name: dashes-inside\ndescription: a --- b\n",
    "dashes-in-name": "description: a\nname: cut---name\n",
    "comment": "# a comment\nname: comment # trailing\n" + D,
    "hash": "name: hash#name\n" + D,
    "list": "- name: list\n- description: d\n",
    "scalar": "just text\n",
    "json": '{"name": "json", "description": "d"}\n',
    "upper-keys": "Name: upper-keys\nDescription: d\n",
    "no-space": "name:no-space\n" + D,
    "quoted-keys": '"name": quoted-keys\n"description": d\n',
    "at": "name: at\ndescription: @here do\n",
    "percent": "name: percent\ndescription: %d items\n",
    "star": "name: star\ndescription: *important*\n",
    "bracket": "name: bracket\ndescription: [WIP] thing\n",
    "backtick": "name: backtick\ndescription: `code` thing\n",
    "open-quote": 'name: open-quote\ndescription: "open\n',
    "quotes-around": 'name: quotes-around\ndescription: "a" and "b"\n',
    "apostrophe": "name: apostrophe\ndescription: don't do\n",
    "pipe": "name: pipe\ndescription: |not block\n",
    "empty": "",
    "question-mark": "? name\n: question-mark\n" + D,
    "deep": "name: deep\n" + D + "x: " + "[" * 60 + "]" * 60 + "\n",
    "open-map": "name: open-map\n" + D + "x: {a: b\n",
    "more-colons": "name: more-colons\n" + D + "note: see: here: there\n",
    "bad-line": "name: bad-line\n" + D + "this is no yaml line\n",
    "jump": "name: jump\n  extra: x\n" + D,
    "scout": "name: scout\n" + D,
}
OTHERS = {
    "README.md": b"# About\nno front matter\n",
    "crlf.md": b"---\r\nname: crlf\r\ndescription: d\r\n---\r\nprompt\r\n",
    "cr.md": b"---\rname: cr\rdescription: d\r---\rprompt\r",
    "bom.md": b"\xef\xbb\xbf---\nname: bom\ndescription: d\n---\nprompt\n",
    "latin1.md": "---\nname: latin1\ndescription: für\n---\nprömpt\n".encode("latin-1"),
    "latin1-name.md": "---\nname: für\ndescription: d\n---\nprompt\n".encode("latin-1"),
    "utf16.md": "---\nname: utf16\ndescription: d\n---\nprompt\n".encode("utf-16"),
    "big.md": b"---\nname: big\ndescription: d\n---\n" + b"x" * 200_000,
    "too-big.md": b"---\nname: too-big\ndescription: d\n---\n" + b"x" * 1_100_000,
    "no-prompt.md": b"---\nname: no-prompt\ndescription: d\n---\n",
    "not-closed.md": b"---\nname: not-closed\ndescription: d\nprompt\n",
    "blank-first.md": b"\n---\nname: blank-first\ndescription: d\n---\nx\n",
    "space-first.md": b" ---\nname: space-first\ndescription: d\n---\nx\n",
    "blank-after.md": b"---\n\n\nname: blank-after\ndescription: d\n---\nx\n",
    "trailing.md": b"---   \nname: trailing\ndescription: d\n---   \nx\n",
    "four-dashes.md": b"----\nname: four-dashes\ndescription: d\n----\nx\n",
    "dots.md": b"---\nname: dots\ndescription: d\n...\nx\n",
    "nul.md": b"---\nname: nul\ndescription: d\n---\nprompt\0\0",
    "nul-in-front.md": b"---\nname: nul\0name\ndescription: d\n---\nx",
    "upper.MD": b"---\nname: upper-suffix\ndescription: d\n---\nx",
    "text.txt": b"---\nname: text\ndescription: d\n---\nx",
    "more.mdx": b"---\nname: mdx\ndescription: d\n---\nx",
    ".hidden.md": b"---\nname: hidden\ndescription: d\n---\nx",
    "folder/nested.md": b"---\nname: nested\ndescription: d\n---\nx",
    "folder/deeper/still/deep-nested.md": b"---\nname: deep-nested\ndescription: d\n---\nx",
    ".folder/in-hidden.md": b"---\nname: in-hidden\ndescription: d\n---\nx",
    "node_modules/module.md": b"---\nname: module\ndescription: d\n---\nx",
}
REFUSED = {
    "anchored": "name: &a anchored\ndescription: *a\n",
    "merged": "base: &b\n  x: y\nname: merged\n" + D + "<<: *b\n",
    "tagged": "name: !!str tagged\n" + D,
    "twice": "name: once\nname: twice\n" + D,
    "control": 'name: "con\\x07trol"\n' + D,
    "two-lines": 'name: "two\\nlines"\n' + D,
}
"""what Claude Code takes and Fleet refuses, with its reason: YAML that can expand, and names that no line can show"""
FLEETS_OWN = {"planner", "builder", "reviewer", "shipper"}


@pytest.fixture
def odd_project(tmp_path: Path) -> Path:
    """A project with all of these files."""
    project = tmp_path / "project"
    files = {f"{name}.md": f"---\n{front}---\nprompt\n".encode() for name, front in {**FRONTS, **REFUSED}.items()}
    for name, content in {**files, **OTHERS}.items():
        path = project / ".claude" / "agents" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return project


def claudes_own_list(project: Path, home: Path) -> dict[str, str]:
    """Names and descriptions of the agents that the real program finds in the project, without its own."""
    (home / "empty").mkdir(parents=True)
    inside, outside = (_asked(place, home) for place in (project, home / "empty"))
    return {name: text for name, text in inside.items() if name not in outside}


def _asked(project: Path, home: Path) -> dict[str, str]:
    program = bundled_program()
    assert program is not None
    request = {"type": "control_request", "request_id": "1", "request": {"subtype": "initialize", "hooks": None}}
    words = [str(program), "-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose"]
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "ANTHROPIC_API_KEY": "sk-test-not-a-key",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:9",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    done = subprocess.run(
        [*words, "--setting-sources", "user,project,local"],
        cwd=project,
        env=environment,
        input=json.dumps(request) + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    answers: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    (answer,) = [one for one in answers if one["type"] == "control_response"]
    return {agent["name"]: agent["description"] for agent in answer["response"]["response"]["agents"]}


@pytest.mark.requirement("persona:files:as-claude-code")
def test_personas_are_those_that_claude_code_takes_under_the_same_names(odd_project: Path, tmp_path: Path) -> None:
    theirs = claudes_own_list(odd_project, tmp_path / "home")
    listing = list_personas(odd_project, None)
    ours = {persona.name: persona.description for persona in listing.found if persona.name not in FLEETS_OWN}
    refused = {"anchored", "merged", "tagged", "twice", "con\x07trol", "two\nlines"}
    assert len(FRONTS | OTHERS) > 100
    assert set(ours) == set(theirs) - refused
    assert refused <= set(theirs)
    assert {name: text.strip() for name, text in ours.items()} == {
        name: text.strip() for name, text in theirs.items() if name not in refused
    }
    for name in REFUSED:
        assert any(f"{name}.md" in problem.message for problem in listing.problems), name
    assert not any("README.md" in problem.message for problem in listing.problems)
