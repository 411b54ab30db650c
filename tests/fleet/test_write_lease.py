"""Writers take turns in a directory and everything below it; only a linked worktree is apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.domain.agent import NewAgent
from tests.fixtures.repositories import git, repository
from tests.fleet.scripted import Lab

pytestmark = pytest.mark.anyio


async def writer(lab: Lab, name: str, cwd: Path) -> None:
    """A builder in this folder of the project."""
    place = str(cwd.relative_to(lab.project))
    await lab.fleet.create(lab.call(), NewAgent(name=name, task="write", persona="builder", cwd=place))


async def reason(lab: Lab, name: str) -> str:
    """What the agent waits for."""
    return (await lab.view(name)).reason


@pytest.mark.requirement("checkout:lease:nested-places-are-one")
@pytest.mark.parametrize("first", ["outer", "inner"])
@pytest.mark.parametrize("kind", ["submodule", "nested clone", "plain"])
async def test_nested_places_are_never_written_at_once(lab: Lab, kind: str, first: str) -> None:
    outer = lab.project / "lib"
    inner = outer / "deep" / "sub"
    if kind == "plain":
        inner.mkdir(parents=True)
    else:
        repository(outer)
        repository(lab.project / "origin")
        words = ["submodule", "add", "--quiet"] if kind == "submodule" else ["clone", "--quiet"]
        git(outer, "-c", "protocol.file.allow=always", *words, str(lab.project / "origin"), "deep/sub")
    places = {"outer": outer, "inner": inner}
    (second,) = set(places) - {first}
    await writer(lab, first, places[first])
    await lab.becomes(first, "working")
    await writer(lab, second, places[second])
    assert await reason(lab, second) == f"{first} writes in this checkout"
    lab.finish(first)
    await lab.becomes(second, "working")


@pytest.mark.requirement("checkout:lease:nested-places-are-one")
async def test_a_linked_worktree_inside_its_project_and_a_neighbour_are_written_at_once(lab: Lab) -> None:
    repository(lab.project / "lib")
    git(lab.project / "lib", "worktree", "add", "--quiet", "trees/one")
    (lab.project / "lib2").mkdir()
    for name, place in (("main", "lib"), ("linked", "lib/trees/one"), ("neighbour", "lib2")):
        await writer(lab, name, lab.project / place)
        await lab.becomes(name, "working")
    await writer(lab, "second", lab.project / "lib" / "trees" / "one")
    assert await reason(lab, "second") == "linked writes in this checkout"
