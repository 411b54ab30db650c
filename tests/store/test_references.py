"""What the beginning of an id finds among agents that live and agents that were deleted."""

from __future__ import annotations

from functools import partial

import pytest

from orchestrator.domain.tool import Caller
from orchestrator.errors import ConflictError
from orchestrator.fleet.lookup import SHOWN_NAMES, find_all, find_living
from tests.store.world import ORCHESTRATOR, PROJECT, World

pytestmark = pytest.mark.anyio
CALLER = Caller(project=PROJECT, orchestrator=ORCHESTRATOR, cwd=PROJECT)


async def named(world: World, *references: str) -> list[str]:
    """The names of the agents that may be deleted."""
    found = await world.store.read(partial(find_all, caller=CALLER, references=references, deleted=True))
    return [agent.name for agent in found]


async def living(world: World, *references: str) -> list[str]:
    found = await world.store.read(partial(find_living, caller=CALLER, references=references))
    return [agent.name for agent in found]


async def test_the_beginning_of_one_living_id_means_that_agent_whatever_was_deleted(world: World) -> None:
    for name in ("00a", "00b", "00c"):
        await world.create(name)
    for name in ("00a", "00b"):
        await world.delete(f"ag_{name}")
    assert await named(world, "ag_00", "ag_00a") == ["00c", "00a"]
    assert await living(world, "ag_00b", "ag_00", "ag_0", "00c", "none") == ["00c"]


async def test_the_beginning_of_several_ids_names_none_of_them(world: World) -> None:
    for number in range(SHOWN_NAMES + 5):
        await world.create(f"00{number}")
    with pytest.raises(ConflictError, match="'ag_00' fits several agents: ag_00") as caught:
        await named(world, "ag_00")
    assert (str(caught.value).count("ag_00"), "more of the id" in caught.value.hint) == (SHOWN_NAMES + 1, True)
    assert await living(world, "ag_00", "ag_0016") == ["0016"]


async def test_the_beginning_of_a_deleted_id_means_that_agent_if_no_living_one_has_it(world: World) -> None:
    await world.create("00a")
    await world.delete("ag_00a")
    assert await named(world, "ag_00") == ["00a"]
    assert await living(world, "ag_00") == []
    with pytest.raises(ConflictError, match=r"00a \(ag_00a\) is deleted"):
        await world.store.read(partial(find_all, caller=CALLER, references=["ag_00"]))
