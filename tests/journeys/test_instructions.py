"""An agent reads the instruction files that the real `claude` reads for a session of the same person, in its order."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.programs import claude_program
from orchestrator.fleet.briefing.instructions import MAX_NOTES, Workplace, instructions

FILES = {
    "home/.claude/CLAUDE.md": "I am the user @~/.claude/extra.md",
    "home/.claude/extra.md": "more of the user",
    "home/.claude/rules/deep/habit.md": "a habit",
    "above/CLAUDE.md": "from above @beside.md",
    "above/beside.md": "of another project",
    "above/CLAUDE.local.md": "mine, from above",
    "above/project/CLAUDE.md": """---
title: stripped
---
# Rules @docs/one.md and again @docs/one.md, `@docs/code.md`
```
@docs/fenced.md
```
<!-- @docs/comment.md
hidden -->
@missing.md **@docs/bold.md** [@docs/link.md](x) @docs/with\\ space.md me@example.org (@docs/paren.md)
@../outside.md then @docs/part.md#anchor
Inline <!-- @docs/inline.md --> comment
<div>
@docs/html.md
</div>

@CLAUDE.md @docs/loop.md
""",
    "above/outside.md": "outside",
    "above/project/docs/one.md": "1 @two.md",
    "above/project/docs/two.md": "2 @three.md",
    "above/project/docs/three.md": "3 @four.md",
    "above/project/docs/four.md": "4 @five.md",
    "above/project/docs/five.md": "too deep",
    "above/project/docs/loop.md": "loop @../CLAUDE.md @loop.md",
    "above/project/.claude/CLAUDE.md": "\ufeffin the folder @../docs/bold.md",
    "above/project/.claude/rules/style.md": "---\ndescription: x\n---\na rule",
    "above/project/.claude/rules/typescript.md": '---\npaths:\n  - "src/**/*.ts"\n---\nfor some files',
    "above/project/CLAUDE.local.md": "mine",
    **{
        f"above/project/docs/{name}.md": f"the text of {name}"
        for name in ("code", "fenced", "comment", "bold", "link", "with space", "paren", "part", "inline", "html")
    },
}
SHOWN = re.compile(r"^Contents of (\S.*) \((?:user's|project)[^()]*\):\n\n", re.MULTILINE)
OURS = re.compile(r'\A# (?:The user\'s own|Project) instructions: "?(.*?)"?\n((?:.|\n)*)\Z')


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A user, a project below a folder with instructions, and a folder in the project."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "above/project/sub").mkdir()
    subprocess.run(["git", "init", "-q"], cwd=tmp_path / "above/project", check=True)
    return tmp_path.resolve()


@pytest.fixture
def listener() -> Iterator[tuple[str, list[bytes]]]:
    """A model that refuses every request: its address and what it was sent."""
    heard: list[bytes] = []

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.rfile.read(int(self.headers["content-length"])))
            body = json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}).encode()
            self.send_response(400)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", heard
    server.shutdown()
    thread.join()
    server.server_close()


def seen_by_claude(place: Path, cwd: Path, url: str, heard: list[bytes]) -> dict[str, str]:
    """The instruction files in the first request of the real program, by path, in its order."""
    env = {"PATH": "/usr/bin:/bin", "HOME": str(place / "home"), "LANG": "C.UTF-8"}
    env |= {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "x", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
    command = [claude_program(os.environ), "-p", "hello"]
    subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    messages: list[dict[str, Any]] = [message for body in heard for message in json.loads(body)["messages"]]
    texts = [str(block["text"]) for message in messages for block in message["content"] if "text" in block]
    text = next(text for text in texts if SHOWN.search(text))
    pieces = SHOWN.split(text.partition("\n</system-reminder>")[0])[1:]
    return {path: content.strip() for path, content in zip(pieces[::2], pieces[1::2], strict=True)}


def git(place: Path, *words: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@t.invalid")
    subprocess.run(["git", *identity, *words], cwd=place, check=True, capture_output=True)


def seen_by_agents(place: Path, cwd: Path) -> tuple[dict[str, str], list[str]]:
    """The same for an agent of ours, and the notes."""
    project, user = place / "above/project", place / "home/.claude"
    parts = instructions(Workplace(project=project, cwd=cwd, user=user))
    found = [OURS.match(part) for part in parts]
    return {one[1]: one[2].strip() for one in found if one}, [p for p, one in zip(parts, found, strict=True) if not one]


@pytest.mark.requirement("persona:instructions:as-the-persons-session")
def test_an_agent_reads_what_the_real_program_reads_in_the_same_order(
    place: Path, listener: tuple[str, list[bytes]]
) -> None:
    project = place / "above/project"
    theirs = seen_by_claude(place, project, *listener)
    ours, notes = seen_by_agents(place, project)
    for_some_files = str(project / ".claude/rules/typescript.md")
    assert ours.pop(for_some_files) == "(for files that match src/**/*.ts)\nfor some files"  # Claude shows it later
    assert list(ours) == list(theirs)
    assert ours == theirs
    assert "the text of bold" in ours.values()
    assert len(ours) == 18
    assert notes == [
        f"(not read: @beside.md in {place}/above/CLAUDE.md leads out of {place}/above)",
        f"(not read: @../outside.md in {project}/CLAUDE.md leads out of {project})",
    ]


@pytest.mark.requirement("persona:instructions:as-the-persons-session")
@pytest.mark.parametrize("where", ["../beside", ".claude/worktrees/in", ".claude/worktrees/in/sub"])
def test_in_another_worktree_an_agent_reads_the_files_of_that_worktree_as_the_real_program_does(
    place: Path, listener: tuple[str, list[bytes]], where: str
) -> None:
    project = place / "above/project"
    (project / ".gitignore").write_text("CLAUDE.local.md\n.claude/worktrees\n")
    (project / "sub/CLAUDE.md").write_text("of a folder")
    git(project, "add", ".")
    git(project, "commit", "-q", "-m", "first")
    worktree = (project / where.removesuffix("/sub")).resolve()
    git(project, "worktree", "add", "-q", "-b", "feature", str(worktree))
    (worktree / "docs/one.md").write_text("1 of the worktree")
    (project / "docs/one.md").write_text("1 of the main checkout")
    (project / "AGENTS.md").write_text("of the main checkout")
    cwd = (project / where).resolve()
    theirs = seen_by_claude(place, cwd, *listener)
    ours, _ = seen_by_agents(place, cwd)
    assert ours.pop(str(worktree / ".claude/rules/typescript.md"))  # Claude shows it later
    if cwd != worktree:  # Claude would import these if the session had been started in the worktree's root
        ours = {path: text for path, text in ours.items() if "/docs/" not in path}
    assert ours == theirs
    assert list(ours) == list(theirs)
    assert "of the main checkout" not in "".join(ours.values())
    assert (str(project / "CLAUDE.local.md") in ours) == (project in cwd.parents)  # it is in no worktree, so it counts
    if cwd == worktree:
        assert ours[str(worktree / "docs/one.md")] == "1 of the worktree"
        (worktree / "AGENTS.md").write_text("for every program")
        assert "for every program" in seen_by_agents(place, cwd)[0].values()


@pytest.mark.requirement("persona:instructions:as-the-persons-session")
def test_the_notes_about_what_is_not_read_are_few_short_and_count_the_rest(place: Path) -> None:
    project = place / "above/project"
    deep = place / "/".join(["d" * 200] * 3)
    deep.mkdir(parents=True)
    for number in range(300):
        (deep / f"{number}.md").write_text("outside")
        (project / ".claude/rules" / f"{number}.md").symlink_to(deep / f"{number}.md")
    lines = [f"@{os.path.relpath(deep, project)}/{number}.md" for number in range(25)]
    (project / "CLAUDE.md").write_text("\n".join([*lines, *lines]))
    (project / "AGENTS.md").write_text("what counts")
    ours, notes = seen_by_agents(place, project)
    assert "what counts" in ours.values()
    told = [note for note in notes if note.startswith("(not read: ")]
    assert len(told) == MAX_NOTES + 1
    assert told[-1] == f"(not read: {1 + 25 + 300 - MAX_NOTES} more files that a link or an import leads to)"
    assert sum(len(note.encode()) for note in notes) < 10_000
