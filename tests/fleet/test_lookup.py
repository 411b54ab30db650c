"""How agents are named: by name, by id, and by the beginning of an id."""

from __future__ import annotations

import pytest

from orchestrator.errors import ConflictError, InvalidError, NotFoundError
from orchestrator.fleet.lookup import MAX_REFERENCES
from tests.fleet.scripted import Lab

pytestmark = pytest.mark.anyio


async def test_an_agent_is_found_by_its_name_its_id_and_the_beginning_of_its_id(lab: Lab) -> None:
    made = await lab.create("a")
    for reference in ("a", made.agent.id, made.agent.id[:12]):
        [found] = (await lab.fleet.status(lab.call(), (reference,))).agents
        assert found.id == made.agent.id


async def test_the_newest_of_several_deleted_agents_of_one_name_is_meant(lab: Lab) -> None:
    ids: list[str] = []
    for _ in range(3):
        ids.append((await lab.create("a")).agent.id)
        await lab.fleet.delete(lab.call(), ["a"])
    [found] = (await lab.fleet.status(lab.call(), ("a",))).agents
    assert found.id == ids[-1]
    [found] = (await lab.fleet.status(lab.call(), (ids[0],))).agents
    assert found.id == ids[0]
    with pytest.raises(ConflictError, match=f"a \\({ids[-1]}\\) is deleted"):
        await lab.fleet.command(lab.call(), "a", "more")


@pytest.mark.parametrize(
    "reference", ["a", "ag", "ag_", "ag_f", "ag_00\ud7ff", "ag_00\U0010ffff", "\U0010ffff", "AG_00"]
)
async def test_what_begins_no_id_names_no_agent(lab: Lab, reference: str) -> None:
    await lab.create("known")
    with pytest.raises(NotFoundError, match="no agent") as caught:
        await lab.fleet.status(lab.call(), (reference,))
    assert "known" in caught.value.hint


@pytest.mark.requirement("agent:lookup:each-name-once", "mcp:errors:what-to-do-next")
async def test_more_names_than_a_call_may_have_are_refused_and_nothing_is_claimed(lab: Lab) -> None:
    made = await lab.create("theirs")
    names = ["theirs", *(f"x{number}" for number in range(MAX_REFERENCES))]
    with pytest.raises(InvalidError, match=f"{MAX_REFERENCES + 1} agents are named; at most {MAX_REFERENCES}"):
        await lab.fleet.wait(lab.call(orchestrator="another"), agents=names)
    [found] = (await lab.fleet.status(lab.call(), (made.agent.id,))).agents
    assert found.own
