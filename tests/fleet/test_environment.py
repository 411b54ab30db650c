"""Which variables reach an agent, by its persona and by who called last."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator import paths
from orchestrator.domain.agent import NewAgent
from orchestrator.domain.tool import CallContext, Caller
from orchestrator.fleet.engine.credentials import Accounts
from tests.fleet.scripted import Lab

pytestmark = pytest.mark.anyio


def listening(path: Path) -> str:
    """A socket that exists, as one of an ssh-agent."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    return str(path)


def with_agent(lab: Lab, path: str) -> Caller:
    return replace(lab.caller, environment={**lab.caller.environment, paths.SSH_AGENT: path})


@pytest.mark.requirement("environment:ssh-agent:of-the-caller")
async def test_an_agent_without_a_shell_gets_no_ssh_agent_and_one_with_a_shell_the_last_that_exists(lab: Lab) -> None:
    first, second = (listening(lab.state / name) for name in ("a.sock", "b.sock"))
    for name, persona in (("looks", "scout"), ("builds", "builder")):
        call = CallContext(caller=with_agent(lab, first))
        await lab.fleet.create(call, NewAgent(name=name, task="look", persona=persona))
    await lab.fleet.greet(with_agent(lab, second))
    await lab.fleet.greet(with_agent(lab, str(lab.state / "gone")))
    await lab.create("later", persona="builder")
    for name in ("looks", "builds", "later"):
        lab.finish(name, "done")
    await lab.wait("looks", "builds", "later")
    environments = {session.spec.agent_name: session.spec.environment for session in lab.provider.sessions}
    assert paths.SSH_AGENT not in environments["looks"]
    assert environments["builds"][paths.SSH_AGENT] in {first, second}
    assert environments["later"][paths.SSH_AGENT] == second


def test_passed_variables_belong_to_their_project_and_a_later_door_renews_their_values() -> None:
    def caller(project: str, **passed: str) -> Caller:
        return Caller(project=project, orchestrator="o", cwd=project, account={"AWS_PROFILE": "a"}, passed=passed)

    accounts = Accounts()
    old = accounts.bring(caller("/a", TOKEN="old"))
    plain = accounts.bring(caller("/a"))
    other = accounts.bring(caller("/b", TOKEN="others"))
    assert len({old.id, plain.id, other.id}) == 3
    assert accounts.bring(caller("/a", TOKEN="new")).id == old.id
    assert [accounts.secrets(one.id) for one in (old, plain, other)] == [{"TOKEN": "new"}, {}, {"TOKEN": "others"}]
    assert "TOKEN" not in {**old.environment, **old.public}
    after_a_restart = Accounts().payable()
    assert (after_a_restart(old.id), after_a_restart(plain.id)) == (False, True)
