"""A turn is credited with what it may have written itself; what cannot be told apart is said to be shared."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from orchestrator.domain.agent import NewAgent
from orchestrator.domain.attribution import EARLY_SECONDS
from orchestrator.domain.event import ToolEnded, ToolStarted
from tests.fixtures.personas import define
from tests.fixtures.repositories import git, repository
from tests.fleet.scripted import Ask, Lab, ScriptedProvider, eventually, open_lab
from tests.fleet.test_answers import person
from tests.fleet.test_restart import KEY

pytestmark = pytest.mark.anyio


@pytest.fixture
async def repo(tmp_path: Path) -> AsyncGenerator[Lab]:
    """A fleet whose project is a git checkout with one file, with a persona that can only edit."""
    repository(tmp_path / "project")
    async with open_lab(tmp_path) as lab:
        define(lab.project, "hand", "tools: Read, Write, Edit")
        yield lab


async def begin(lab: Lab, name: str, persona: str) -> None:
    """Create the agent, and return once it works."""
    await lab.create(name, persona=persona)

    async def prompted() -> bool:
        return len(lab.provider.prompts[name]) == 1

    await eventually(prompted)


async def calls(lab: Lab, name: str, tool: str, *produced: Path, ends: bool = True) -> None:
    """Let the agent use the tool, and return once the store knows."""
    number = (await lab.view(name)).tool_calls
    lab.play(name, ToolStarted(call_id=str(number), tool=tool, summary="x"))
    if ends:
        lab.play(name, ToolEnded(call_id=str(number), tool=tool, ok=True, produced=tuple(map(str, produced))))

    async def known() -> bool:
        view = await lab.view(name)
        return view.tool_calls == number + 1 and view.files_produced >= len(produced)

    await eventually(known)


async def edits(lab: Lab, name: str, file: str) -> None:
    """Let the agent edit a file with its editing tool."""
    (lab.project / file).write_text(f"by {name}\n")
    await calls(lab, name, "Edit", lab.project / file)


async def digest(lab: Lab, name: str) -> str:
    """The facts about the agent's turn once it is done."""
    lab.finish(name, "fine\n\nVERDICT: pass")
    return next(line for line in (await lab.wait(name)).text.splitlines() if line.startswith("["))


@pytest.mark.requirement("checkout:changes:attributed")
async def test_a_reviewer_is_not_credited_with_the_builders_file(repo: Lab) -> None:
    await begin(repo, "review", "reviewer")
    await begin(repo, "build", "builder")
    await calls(repo, "review", "Bash", ends=False)
    await edits(repo, "build", "b.py")
    assert "no files changed; 1 file changed by others meanwhile]" in await digest(repo, "review")
    assert "1 file +1 -0 (b.py)]" in await digest(repo, "build")


@pytest.mark.requirement("checkout:changes:attributed")
async def test_an_agent_without_a_shell_is_not_credited_with_the_users_edit_or_commit(repo: Lab) -> None:
    await begin(repo, "hand", "hand")
    (repo.project / "a.py").write_text("the user's\n")
    git(repo.project, "commit", "--quiet", "-am", "the user's")
    (repo.project / "user.py").write_text("the user's\n")
    await edits(repo, "hand", "h.py")
    text = await digest(repo, "hand")
    assert "uncommitted: 1 file +1 -0 (h.py)" in text
    assert "1 file changed by others meanwhile" in text
    assert "commit " not in text


@pytest.mark.requirement("checkout:changes:attributed")
async def test_what_two_shells_may_have_written_is_shared_and_says_with_whom(repo: Lab) -> None:
    await begin(repo, "review", "reviewer")
    await begin(repo, "build", "builder")
    for name in ("review", "build"):
        await calls(repo, name, "Bash", ends=False)
    (repo.project / "x.py").write_text("whose?\n")
    await edits(repo, "build", "b.py")
    assert "2 files +2 -0 (b.py, x.py); shared with review: x.py]" in await digest(repo, "build")
    assert "1 file +1 -0 (x.py); shared with build; 1 file changed by others meanwhile]" in await digest(repo, "review")


@pytest.mark.requirement("checkout:changes:attributed")
async def test_what_changed_while_no_shell_of_the_turn_ran_may_be_the_users(repo: Lab) -> None:
    await begin(repo, "build", "builder")
    await calls(repo, "build", "Bash", ends=False)
    (repo.project / "x.py").write_text("by its shell\n")
    text = await digest(repo, "build")
    assert "(x.py)]" in text


async def test_a_sub_agent_or_an_unknown_tool_may_have_written_anything(repo: Lab) -> None:
    for number, tool in enumerate(("Agent", "mcp__files__write")):
        name = f"build-{number}"
        await begin(repo, name, "builder")
        await calls(repo, name, tool, ends=False)
        (repo.project / f"{number}.py").write_text("x\n")
        assert f"({number}.py)]" in await digest(repo, name)


class Clock:
    """The fleet's clock, some time before or after that of the file system."""

    ahead_seconds = 0.0
    stopped_at: float | None = None

    def __call__(self) -> float:
        return time.time() + self.ahead_seconds if self.stopped_at is None else self.stopped_at


async def waits_for_permission(lab: Lab, name: str) -> None:
    """Create a builder that asks before it uses its shell, and let it ask."""
    define(lab.project, "careful", "tools: Read, Write, Edit, Bash\nask: [Bash]")
    await begin(lab, name, "careful")
    number = lab.provider.questions + 1
    lab.play(name, ToolStarted(call_id=f"toolu_{number}", tool="Bash", summary="make"))
    lab.play(name, Ask("", tool="Bash", input={"command": "make"}))
    await lab.becomes(name, "waiting", "permission")


@pytest.mark.requirement("checkout:changes:attributed")
@pytest.mark.parametrize("answer", ["allow", "deny: no"])
async def test_what_the_user_edits_while_a_call_waits_for_permission_is_not_the_agents(
    tmp_path: Path, answer: str
) -> None:
    repository(tmp_path / "project")
    clock = Clock()
    clock.ahead_seconds = -100.0
    async with open_lab(tmp_path, clock=clock) as lab:
        await waits_for_permission(lab, "build")
        (lab.project / "x.py").write_text("the user's\n")
        clock.ahead_seconds = 100.0
        await lab.fleet.answer(person(lab), "build", answer)
        await lab.becomes("build", "working")
        lab.play("build", ToolEnded(call_id="toolu_1", tool="Bash", ok=True))
        await edits(lab, "build", "b.py")
        told = "shared with the user or a background process: x.py]"
        assert (told if answer == "allow" else "1 file changed by others meanwhile]") in await digest(lab, "build")


@pytest.mark.requirement("checkout:changes:attributed")
async def test_what_a_permitted_call_writes_is_the_agents(tmp_path: Path) -> None:
    repository(tmp_path / "project")
    async with open_lab(tmp_path) as lab:
        await waits_for_permission(lab, "build")
        await lab.fleet.answer(person(lab), "build", "allow")
        await lab.becomes("build", "working")
        (lab.project / "x.py").write_text("by its shell\n")
        assert "(x.py)]" in await digest(lab, "build")


@pytest.mark.requirement("checkout:changes:attributed")
async def test_what_the_user_edits_after_a_crash_is_not_credited_to_the_call_that_it_cut_off(tmp_path: Path) -> None:
    repository(tmp_path / "project")
    clock, provider = Clock(), ScriptedProvider()
    clock.ahead_seconds = -100.0
    async with open_lab(tmp_path, account=KEY, provider=provider, clock=clock) as lab:
        await begin(lab, "build", "builder")
        await calls(lab, "build", "Bash", ends=False)
        await lab.die()
    (tmp_path / "project" / "x.py").write_text("the user's\n")
    clock.ahead_seconds = 100.0
    async with open_lab(tmp_path, account=KEY, provider=provider, clock=clock) as lab:
        await lab.fleet.greet(lab.caller)
        await lab.becomes("build", "working")
        assert "shared with the user or a background process]" in await digest(lab, "build")


@pytest.mark.requirement("checkout:changes:attributed")
async def test_a_commit_that_another_agent_may_have_made_is_shared_and_the_users_is_the_users(repo: Lab) -> None:
    await begin(repo, "review", "reviewer")
    await begin(repo, "ship", "builder")
    await calls(repo, "review", "Bash", ends=False)
    await edits(repo, "ship", "s.py")
    await calls(repo, "ship", "Bash", ends=False)
    git(repo.project, "add", "s.py")
    git(repo.project, "commit", "--quiet", "-m", "whose?")
    shipped = await digest(repo, "ship")
    assert " on branch main: 1 file +1 -0 (s.py); shared with review: commit]" in shipped
    assert "on branch main: 1 file +1 -0 (s.py); shared with ship; 1 file changed by others" in await digest(
        repo, "review"
    )


@pytest.mark.requirement("checkout:changes:attributed")
async def test_a_commit_that_was_made_while_no_shell_of_the_turn_ran_may_be_the_users(tmp_path: Path) -> None:
    repository(tmp_path / "project")
    clock = Clock()
    async with open_lab(tmp_path, clock=clock) as lab:
        await begin(lab, "build", "builder")
        clock.ahead_seconds = 100.0
        await calls(lab, "build", "Bash")
        git(lab.project, "commit", "--quiet", "--allow-empty", "-m", "the user's")
        assert "shared with the user or a background process]" in await digest(lab, "build")


@pytest.mark.requirement("checkout:changes:attributed")
async def test_a_commit_late_in_the_second_that_gits_log_names_is_the_turns_own(tmp_path: Path) -> None:
    repository(tmp_path / "project")
    clock = Clock()
    async with open_lab(tmp_path, clock=clock) as lab:
        await begin(lab, "ship", "builder")
        git(lab.project, "commit", "--quiet", "--allow-empty", "-m", "shipped")
        clock.stopped_at = int(git(lab.project, "log", "-1", "--format=%ct")) + EARLY_SECONDS + 0.5
        await calls(lab, "ship", "Bash")
        assert "shared" not in await digest(lab, "ship")


@pytest.mark.requirement("checkout:changes:attributed")
async def test_the_files_of_a_directory_that_the_turn_moves_are_its_own(tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "old").mkdir(parents=True)
    repository(project, name="old/a.py")
    clock = Clock()
    async with open_lab(tmp_path, clock=clock) as lab:
        await begin(lab, "build", "builder")
        clock.ahead_seconds = 100.0
        await calls(lab, "build", "Bash", ends=False)
        (project / "old").rename(project / "new")
        assert "(new/a.py, old/a.py)]" in await digest(lab, "build")


@pytest.mark.requirement("checkout:changes:attributed")
@pytest.mark.parametrize("place", ["link", "pkg/../pkg"])
async def test_a_file_that_the_editing_tool_names_through_a_link_is_the_agents(repo: Lab, place: str) -> None:
    (repo.project / "pkg").mkdir()
    (repo.project / "link").symlink_to("pkg")
    await begin(repo, "hand", "hand")
    await edits(repo, "hand", f"{place}/h.py")
    assert "uncommitted: 1 file +1 -0 (pkg/h.py)]" in await digest(repo, "hand")


@pytest.mark.requirement("checkout:changes:attributed")
async def test_what_is_written_in_a_worktree_inside_the_checkout_is_shared_with_who_works_there(repo: Lab) -> None:
    tree = repo.project / "trees" / "one"
    git(repo.project, "worktree", "add", "--quiet", str(tree))
    await begin(repo, "main", "builder")
    await repo.fleet.create(repo.call(), NewAgent(name="linked", task="t", persona="builder", cwd="trees/one"))
    await repo.becomes("linked", "working")
    for name in ("main", "linked"):
        await calls(repo, name, "Bash", ends=False)
    for place in (repo.project, tree):
        (place / "x.py").write_text("x\n")
    git(tree, "add", ".")
    git(tree, "commit", "--quiet", "-m", "in the worktree")
    assert "(x.py, trees/one/x.py); shared with linked: commit, trees/one/x.py]" in await digest(repo, "main")
    linked = await digest(repo, "linked")
    assert "on branch one: 1 file +1 -0 (x.py)]" in linked


@pytest.mark.requirement("checkout:changes:attributed")
async def test_a_worktree_that_the_session_makes_meanwhile_is_not_the_agents(repo: Lab) -> None:
    await begin(repo, "hand", "hand")
    git(repo.project, "worktree", "add", "--quiet", "trees/one")
    await edits(repo, "hand", "h.py")
    assert "1 file +1 -0 (h.py); 1 file changed by others meanwhile]" in await digest(repo, "hand")
