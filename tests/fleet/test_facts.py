"""Facts that Fleet itself reports about an agent's work: from git, at the moment of asking."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from orchestrator.domain.event import ToolEnded, ToolStarted
from orchestrator.errors import InvalidError
from orchestrator.fleet.execution import looks
from orchestrator.provisioning import snapshots
from tests.fixtures.personas import define
from tests.fleet.scripted import Lab, SleepOnChildren, Spawn, at_work, open_lab

pytestmark = pytest.mark.anyio


def git(folder: Path, *words: str) -> None:
    """Git as a person uses it."""
    who = {f"GIT_{role}_{what}": "a@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "GIT_CONFIG_NOSYSTEM": "1", **who}
    subprocess.run(["git", *words], cwd=folder, env=env, check=True, capture_output=True)


@pytest.fixture
async def repo(tmp_path: Path) -> AsyncGenerator[Lab]:
    """A fleet whose project is a git checkout with one file."""
    project = tmp_path / "project"
    project.mkdir()
    git(project, "init", "--quiet")
    (project / "a.py").write_text("one\n")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "first")
    async with open_lab(tmp_path) as lab:
        yield lab


@pytest.mark.requirement("wait:digest:git-facts", "wait:digest:changed-files-are-facts")
async def test_the_digest_says_what_changed_and_where_it_is_now(repo: Lab) -> None:
    (repo.project / "before.txt").write_text("somebody's\n")
    await repo.create("build", persona="builder")
    await at_work(repo, "build")
    (repo.project / "a.py").write_text("two\n")
    (repo.project / "b.py").write_text("new\n")
    repo.finish("build", "I did it")
    digest = await repo.wait("build", key="k1")
    assert "this checkout, uncommitted: 2 files +2 -1 (a.py, b.py)]\n| I did it" in digest.text
    git(repo.project, "add", "a.py", "b.py")
    git(repo.project, "commit", "--quiet", "-m", "work")
    again = await repo.wait("build", key="k1")
    assert "this checkout, committed (" in again.text
    (deleted,) = await repo.fleet.delete(repo.call(), ["build"])
    assert deleted.work.startswith("changed 2 files: this checkout, committed")


async def test_each_turn_has_its_own_changes(repo: Lab) -> None:
    await repo.create("build", persona="builder")
    await at_work(repo, "build")
    (repo.project / "a.py").write_text("two\n")
    repo.finish("build")
    await repo.becomes("build", "complete")
    await repo.fleet.command(repo.call(), "build", "more")
    await at_work(repo, "build", 2)
    (repo.project / "b.py").write_text("new\n")
    git(repo.project, "add", ".")
    git(repo.project, "commit", "--quiet", "-m", "all")
    repo.finish("build")
    await repo.becomes("build", "complete")
    first, second = (await repo.fleet.detail(repo.call(), "build")).turns
    assert first.changes is not None
    assert second.changes is not None
    assert (first.changes.files, first.changes.commits) == (("a.py",), 0)
    assert (second.changes.files, second.changes.commits) == (("b.py",), 1)


async def test_changes_of_a_turn_that_waited_for_an_answer_count_from_its_beginning(repo: Lab) -> None:
    await repo.create("build", persona="builder")
    await at_work(repo, "build")
    (repo.project / "a.py").write_text("two\n")
    await repo.asks("build")
    await repo.fleet.answer(repo.call(), "build", "yes")
    repo.finish("build")
    assert "1 file +1 -1 (a.py)" in (await repo.wait("build")).text


@pytest.fixture
def tidied(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[Path]:
    """Every checkout after whose turn was tidied up; all that no open turn needs goes at once."""
    done: asyncio.Queue[Path] = asyncio.Queue()

    async def prune(checkout: Path, state: Path, needed: Callable[[], Awaitable[Sequence[str]]]) -> None:
        await snapshots.prune(checkout, state, needed)
        done.put_nowait(checkout)

    monkeypatch.setattr(looks, "prune", prune)
    monkeypatch.setattr(snapshots, "MAX_KEPT_BYTES", 0)
    monkeypatch.setattr(snapshots, "EXPIRY", "now")
    return done


async def test_what_fleet_keeps_of_a_checkout_does_not_grow_with_the_turns(
    repo: Lab, tidied: asyncio.Queue[Path]
) -> None:
    held: list[int] = []
    await repo.create("build", persona="builder")
    for turn in range(1, 5):
        await at_work(repo, "build", turn)
        (repo.project / "a.py").write_text(f"{turn}\n")
        repo.finish("build")
        await tidied.get()
        held.append(len(list((repo.state / "git").glob("*/objects/??/*"))))
        await repo.fleet.command(repo.call(), "build", "more")
    assert max(held) == held[0], "of each turn a file and a tree would stay"


async def test_a_turn_that_sleeps_while_another_one_ends_still_tells_all_that_changed(
    repo: Lab, tidied: asyncio.Queue[Path]
) -> None:
    define(repo.project, "lead", "tools: Read, Write\nchildren: 1")
    define(repo.project, "hand", "tools: Read, Write")
    (repo.project / "c.py").write_text("only before\n")
    await repo.create("boss", persona="lead")
    await at_work(repo, "boss")
    (repo.project / "c.py").unlink()
    repo.play("boss", Spawn("build", persona="hand"), SleepOnChildren())
    await at_work(repo, "build")
    (repo.project / "a.py").write_text("two\n")
    repo.finish("build")
    await tidied.get()
    repo.finish("boss")
    assert "2 files +1 -2 (a.py, c.py)" in (await repo.wait("boss")).text


async def test_a_reader_is_not_looked_at_and_a_failure_is(repo: Lab) -> None:
    await repo.create("scout")
    await repo.create("build", persona="builder")
    await at_work(repo, "build")
    (repo.project / "a.py").write_text("two\n")
    repo.finish("scout")
    repo.fail("build")
    await repo.becomes("build", "failed")
    await repo.becomes("scout", "complete")
    digest = await repo.wait("scout", "build")
    assert "[scout complete · $0.01]" in digest.text
    assert "1 file +1 -1 (a.py)" in digest.text


async def test_without_git_the_changes_are_unknown_not_none(lab: Lab) -> None:
    await lab.create("build", persona="builder")
    lab.finish("build")
    await lab.becomes("build", "complete")
    (turn,) = (await lab.fleet.detail(lab.call(), "build")).turns
    assert turn.changes is None
    assert turn.changes_unknown == "this directory is not a git checkout"
    assert "no files changed" not in (await lab.wait("build")).text


@pytest.mark.requirement("turn:artifacts:from-the-tools")
async def test_files_that_tools_read_and_wrote_are_shown_below_the_project(lab: Lab) -> None:
    await lab.create("a")
    inside, outside = str(lab.project / "src" / "x.py"), "/etc/hosts"
    lab.play(
        "a",
        ToolStarted(call_id="1", tool="Read", summary="x.py"),
        ToolEnded(call_id="1", tool="Read", ok=True, consumed=(inside, outside)),
        ToolEnded(call_id="2", tool="Write", ok=True, produced=(inside,)),
    )
    lab.finish("a")
    await lab.becomes("a", "complete")
    page = await lab.fleet.output(lab.call(), "a")
    assert (page.files_consumed, page.files_produced) == (("/etc/hosts", "src/x.py"), ("src/x.py",))
    view = await lab.view("a")
    assert (view.files_consumed, view.files_produced, view.tool_calls) == (2, 1, 1)
    assert view.last_tool == "Read x.py"


@pytest.mark.requirement("agent:self:never-own-orchestrator")
async def test_an_instruction_file_or_persona_that_leads_into_the_state_directory_tells_nobody_what_is_there(
    lab: Lab,
) -> None:
    secret = lab.context.state / "http.token"
    secret.write_text("the token")
    (lab.project / "CLAUDE.md").symlink_to(secret)
    os.mkfifo(lab.project / "AGENTS.md")
    personas = lab.project / ".claude" / "agents"
    personas.mkdir(parents=True)
    (personas / "spy.md").symlink_to(secret)
    await lab.create("a")
    await at_work(lab, "a")
    assert "the token" not in lab.provider.sessions[0].spec.system_prompt
    with pytest.raises(InvalidError, match="must not see"):
        await lab.create("b", persona="spy")


@pytest.mark.requirement("persona:instructions:as-the-persons-session")
async def test_an_agent_is_told_the_users_instructions_and_what_was_not_read_because_it_leads_elsewhere(
    lab: Lab, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "secret.md").write_text("of somebody else")
    user = Path(lab.caller.environment["HOME"]) / ".claude"
    user.mkdir(exist_ok=True)
    (user / "CLAUDE.md").write_text("I prefer tabs")
    (lab.project / "CLAUDE.md").write_text(f"See @more.md, @{elsewhere}/secret.md and @out.md")
    (lab.project / "more.md").write_text("never")
    (lab.project / "out.md").symlink_to(elsewhere / "secret.md")
    (lab.project / ".claude").mkdir(exist_ok=True)
    (lab.project / ".claude" / "rules").symlink_to(elsewhere)
    (lab.project / "CLAUDE.local.md").write_text("x" * 50_000)
    await lab.create("a")
    await at_work(lab, "a")
    prompt = lab.provider.sessions[0].spec.system_prompt
    for told in ("I prefer tabs", f"@{elsewhere}/secret.md in", "out.md is a link that leads out of", "(cut: the file"):
        assert prompt.count(told) == 1, told
    assert "of somebody else" not in prompt


@pytest.mark.requirement("inputs:handover:what-a-verdict-judges-by")
async def test_a_hand_off_file_names_the_commit_and_branch_or_that_nothing_was_committed(repo: Lab) -> None:
    git(repo.project, "checkout", "--quiet", "-b", "topic")
    await repo.create("commits", persona="builder")
    await at_work(repo, "commits")
    (repo.project / "a.py").write_text("two\n")
    git(repo.project, "commit", "--quiet", "-am", "second")
    repo.finish("commits", "I did it")
    await repo.becomes("commits", "complete")
    await repo.create("edits", persona="builder")
    await at_work(repo, "edits")
    (repo.project / "a.py").write_text("three\n")
    repo.finish("edits", "I did it, too")
    await repo.becomes("edits", "complete")
    made = await repo.create("judge", persona="reviewer", inputs=["commits", "edits"])
    await at_work(repo, "judge")
    desk = repo.project / ".fleet" / "desk" / made.agent.id
    facts = [(desk / f"build-report-{name}.md").read_text().splitlines()[1] for name in ("commits", "edits")]
    assert re.fullmatch(r"\[Fleet's facts: commit [0-9a-f]{8} on branch topic: 1 file \+1 -1 \(a\.py\)\]", facts[0])
    assert facts[1] == "[Fleet's facts: 1 file +1 -1 (a.py); not committed by this turn]"


async def test_instructions_and_persona_reach_the_agent_as_text(lab: Lab) -> None:
    (lab.project / "CLAUDE.md").write_text("Use tabs. @import /etc/passwd")
    (lab.project / "AGENTS.md").symlink_to("CLAUDE.md")
    (lab.project / "sub").mkdir()
    (lab.project / "sub" / "AGENTS.md").write_text("x" * 50_000)
    from orchestrator.domain.agent import NewAgent

    await lab.fleet.create(lab.call(), NewAgent(name="a", task="/init @file !ls", persona="scout", cwd="sub"))
    await at_work(lab, "a")
    prompt = lab.provider.sessions[0].spec.system_prompt
    assert prompt.startswith("You are a scout.")
    assert prompt.count("Use tabs. @import /etc/passwd") == 1
    assert prompt.index("Use tabs") < prompt.index("xxxx")
    assert prompt.endswith("(cut: the file is longer)")
    assert lab.provider.prompts["a"] == ["/init @file !ls"]
