"""An agent whose project was moved comes with its right to write, and never beside another writer there."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from orchestrator.domain.agent import NewAgent
from orchestrator.domain.tool import CallContext
from orchestrator.errors import ConflictError
from tests.fixtures.repositories import git, repository
from tests.fleet.scripted import Lab

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("session:adopt:moved-project")]


def at(lab: Lab, place: Path) -> CallContext:
    """A call of somebody who works at this place."""
    return CallContext(caller=dataclasses.replace(lab.caller, project=str(place), cwd=str(place)))


async def writer(lab: Lab, call: CallContext, name: str, cwd: str | None = None) -> str:
    """A builder there; its id."""
    return (await lab.fleet.create(call, NewAgent(name=name, task="write", persona="builder", cwd=cwd))).agent.id


async def asking_writer(lab: Lab, cwd: str | None = None) -> str:
    """A builder that waits in the middle of its turn with a question, and so keeps its right to write; its id."""
    agent = await writer(lab, lab.call(), "moved", cwd)
    await lab.asks("moved")
    return agent


async def reason(lab: Lab, place: Path, name: str) -> str:
    """What the agent there waits for."""
    return (await lab.fleet.status(at(lab, place), [name])).agents[0].reason


async def test_an_agent_that_may_write_is_not_adopted_beside_another_writer(lab: Lab) -> None:
    agent = await asking_writer(lab)
    new = lab.project.rename(lab.project.with_name("moved"))
    await writer(lab, at(lab, new), "settled")
    with pytest.raises(ConflictError, match="settled writes in") as refused:
        await lab.fleet.adopt(at(lab, new), [agent])
    assert "fleet interrupt" in refused.value.hint
    assert (await lab.context.find(lab.caller, agent)).project == str(lab.project)
    lab.finish("settled")
    await lab.fleet.wait(at(lab, new), agents=["settled"])
    await lab.fleet.adopt(at(lab, new), [agent])
    await writer(lab, at(lab, new), "later")
    assert await reason(lab, new, "later") == "moved writes in this checkout and waits for an answer"


async def test_writers_of_one_place_inside_the_other_are_not_brought_together(lab: Lab) -> None:
    (lab.project / "lib").mkdir()
    agent = await asking_writer(lab, "lib")
    new = lab.project.rename(lab.project.with_name("moved"))
    await writer(lab, at(lab, new), "settled")
    with pytest.raises(ConflictError, match="settled writes in"):
        await lab.fleet.adopt(at(lab, new), [agent])


@pytest.mark.parametrize("kind", ["worktree", "part of a repository"])
async def test_the_place_to_write_in_is_found_anew_where_the_project_is_now(lab: Lab, kind: str) -> None:
    if kind == "worktree":
        repository(lab.project / "lib")
        git(lab.project / "lib", "worktree", "add", "--quiet", "../tree")
    else:
        (lab.project / "tree").mkdir()
    agent = await asking_writer(lab, "tree")
    new = lab.project.rename(lab.project.with_name("moved"))
    if kind != "worktree":
        repository(new)
    await lab.fleet.adopt(at(lab, new), [agent])
    await writer(lab, at(lab, new), "later", "tree")
    assert await reason(lab, new, "later") == "moved writes in this checkout and waits for an answer"
