"""Who changed what, and who writes when, with the real `claude` as agents that share checkouts."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import rehearsal
from tests.fixtures.daemon import clean_env, wait_until
from tests.fixtures.fleet_command import Command
from tests.fixtures.raw_door import end_daemon
from tests.fixtures.repositories import git, repository

SCRIPT = """
name: checkouts
parts:
  - part: shell
    match: {task: "^run (?P<command>(?:.|\\n)*)"}
    replies:
      - calls: [{tool: Bash, as: out, input: {command: "{{ command }}"}}]
      - say: "{{ results.out }}\\n\\nVERDICT: pass"
  - part: editor
    match: {task: "^write (?P<file>.*)"}
    replies:
      - calls: [{tool: Write, input: {file_path: "{{ file }}", content: "by {{ agent }}\\n"}}]
      - say: wrote it
"""


@pytest.fixture
def fleet(tmp_path: Path, state: Path) -> Iterator[Command]:
    """`fleet` in a repository with one commit, and no daemon left at the end."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[user]\nname = t\nemail = t@example.org\n[protocol.file]\nallow = always\n")
    (tmp_path / "checkouts.yaml").write_text(SCRIPT)
    place = repository(tmp_path / "project")
    with rehearsal.start(tmp_path / "checkouts.yaml") as model:
        account = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "sk-test-not-a-key"}
        quiet = {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "FLEET_REHEARSAL": "checkouts"}
        yield Command(place, clean_env(home, state, **account, **quiet))
        end_daemon(state)


def create(fleet: Command, name: str, persona: str, task: str, *more: str) -> str:
    made = fleet("create", name, task, "--persona", persona, *more)
    assert made.code == 0, made.out + made.err
    return made.out


def facts(fleet: Command, name: str) -> str:
    """The facts about the agent's turn in its digest, once it has ended."""
    waited = fleet("wait", name)
    assert waited.code == 0, waited.out + waited.err
    return next(line for line in waited.out.splitlines() if line.startswith(f"[{name} "))


@pytest.mark.requirement("checkout:changes:attributed")
def test_a_reviewer_whose_shell_runs_meanwhile_is_not_credited_with_a_file_and_shares_a_commit(
    fleet: Command, tmp_path: Path
) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    create(fleet, "review", "reviewer", f"run touch {begun}; until [ -e {go} ]; do sleep 0.05; done; git status")
    wait_until(begun.exists, "the reviewer's shell")
    create(fleet, "build", "builder", f"write {fleet.cwd / 'built.py'}")
    told = facts(fleet, "build")
    assert "1 file +1 -0 (built.py)" in told
    assert "shared" not in told
    create(fleet, "ship", "shipper", "run git add built.py && git commit -q -m shipped")
    assert " on branch main: 1 file +1 -0 (built.py); shared with review]" in facts(fleet, "ship")
    go.touch()
    assert "(built.py); shared with ship; 1 file changed by others meanwhile]" in facts(fleet, "review")


@pytest.mark.requirement("checkout:lease:nested-places-are-one")
@pytest.mark.parametrize(("kind", "first"), [("submodule", "outer"), ("submodule", "inner"), ("plain", "outer")])
def test_agents_in_a_project_and_in_a_place_inside_it_run_their_tools_one_after_the_other(
    fleet: Command, tmp_path: Path, kind: str, first: str
) -> None:
    places = {"outer": fleet.cwd, "inner": fleet.cwd / "deep" / "sub"}
    if kind == "plain":
        places["inner"].mkdir(parents=True)
    else:
        repository(tmp_path / "origin")
        git(
            fleet.cwd,
            "-c",
            "protocol.file.allow=always",
            "submodule",
            "add",
            "-q",
            str(tmp_path / "origin"),
            "deep/sub",
        )
        git(fleet.cwd, "commit", "-q", "-m", "second")
    (second,) = set(places) - {first}
    order, go = tmp_path / "order", tmp_path / "go"

    def write(name: str) -> str:
        wait = f"until [ -e {go} ]; do sleep 0.05; done"
        work = f"echo {name} begins >> {order}; {wait}; echo x >> made; echo {name} ends >> {order}"
        return create(fleet, name, "builder", f"run {work}", "--cwd", str(places[name]))

    write(first)
    wait_until(order.exists, "the first writer's shell")
    write(second)
    shown = fleet("show", second, "--json").json["agent"]
    assert (shown["status"], shown["reason"]) == ("queued", f"{first} writes in this checkout")
    go.touch()
    for name in (first, second):
        assert "1 file +1 -0" in facts(fleet, name)
    assert order.read_text().splitlines() == [
        f"{name} {what}" for name in (first, second) for what in ("begins", "ends")
    ]
    assert all((place / "made").read_text() == "x\n" for place in places.values())


@pytest.mark.requirement("checkout:changes:own-commits")
def test_a_shippers_commit_on_a_new_branch_is_told_with_commit_branch_and_what_is_in_it(fleet: Command) -> None:
    (fleet.cwd / "a.py").write_text("two\nthree\n")
    (fleet.cwd / "new.py").write_text("new\n")
    ship = "git switch -q -c release/one && git add a.py new.py && git commit -q -m shipped"
    create(fleet, "ship", "shipper", f"run {ship}")
    told = facts(fleet, "ship")
    commit = git(fleet.cwd, "rev-parse", "release/one")
    assert f"commit {commit[:8]} on branch release/one: 2 files +3 -1 (a.py, new.py)" in told
    assert subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=fleet.cwd, check=False).returncode == 0
