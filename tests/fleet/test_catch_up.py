"""A session is told once what others left in its project, as soon as it is known that they have ended."""

from __future__ import annotations

import pytest

from orchestrator.domain.agent import NewAgent
from orchestrator.fleet import connections
from tests.fleet.scripted import Lab

pytestmark = [pytest.mark.anyio, pytest.mark.requirement("session:adopt:by-name")]
OFFER = "left by ended sessions: first works -> "


async def create(lab: Lab, name: str, orchestrator: str) -> None:
    """An agent of this session."""
    call = lab.call(orchestrator=orchestrator)
    await lab.fleet.create(call, NewAgent(name=name, task="look", persona="scout"))


async def told(lab: Lab, orchestrator: str) -> str:
    """What the next result of this session tells of others, in the digest and elsewhere."""
    return await lab.fleet.catch_up(lab.call(orchestrator=orchestrator))


async def test_what_a_silent_http_client_left_is_offered_to_its_next_process_once_it_counts_as_gone(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lab.fleet.heard(lab.call(orchestrator="before").caller):
        await create(lab, "first", "before")
    assert await told(lab, "after") == ""  # it may still be there
    assert await told(lab, "after") == ""
    monkeypatch.setattr(connections, "HEARD_SECONDS", 0.0)
    digest = await lab.fleet.wait(lab.call(orchestrator="after"), timeout_seconds=0)
    assert OFFER in digest.text
    assert await told(lab, "after") == ""


async def test_what_a_door_leaves_that_ends_after_the_next_one_has_begun_is_offered_then(lab: Lab) -> None:
    with lab.fleet.connected(lab.call(orchestrator="before").caller):
        await create(lab, "first", "before")
        assert await told(lab, "after") == ""
    assert (await told(lab, "after")).startswith(OFFER)
    assert await told(lab, "after") == ""


async def test_sessions_that_end_one_after_the_other_are_told_of_each_by_itself(lab: Lab) -> None:
    with lab.fleet.connected(lab.call(orchestrator="one").caller):
        await create(lab, "first", "one")
        await create(lab, "second", "gone")
        assert "second works" in await told(lab, "after")
    offer = await told(lab, "after")
    assert offer.startswith(OFFER)
    assert "second" not in offer


async def test_clients_that_are_not_heard_any_more_are_forgotten(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        with lab.fleet.heard(lab.call(orchestrator=name).caller):
            pass
    monkeypatch.setattr(connections, "HEARD_SECONDS", 0.0)
    with lab.fleet.heard(lab.call(orchestrator="three").caller):
        pass
    assert set(lab.context.connections._heard) <= {"three"}
