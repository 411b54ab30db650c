"""Durable waits over the wire: the SDK's client behind a real door, a real daemon that dies, real agents."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from orchestrator import rehearsal
from tests.fixtures.door import answer, asked, refused
from tests.fixtures.raw_door import end_daemon
from tests.fixtures.tasks import Tasks, accept, ask, until
from tests.fixtures.tasks_host import Host

pytestmark = pytest.mark.anyio
SCRIPT = Path(__file__).with_name("asking.yaml")


@pytest.fixture(scope="module")
def model() -> Iterator[str]:
    """The address of a scripted model."""
    with rehearsal.start(SCRIPT, log=None) as playing:
        yield playing.url


@pytest.fixture
def host(tmp_path: Path, state: Path, project: Path, model: str) -> Iterator[Host]:
    home = tmp_path / "host-home"
    home.mkdir()
    yield Host(home, state, project, model, "asking")
    end_daemon(state)


async def begin(client: Client, name: str) -> None:
    await asked(client, "create_agent", name=name, task="work", persona="scout")


async def begin_writer(client: Client) -> None:
    await asked(client, "create_agent", name="writer", task="work", persona="careful")


@pytest.mark.requirement("task:wait:durable")
async def test_a_client_that_declares_tasks_sleeps_on_one_and_gets_the_digest(host: Host) -> None:
    tasks = Tasks()
    async with host.client(tasks) as client:
        await begin(client, "quick")
        text = await asked(client, "wait_for_agents")
    assert "| found it" in text
    assert tasks.statuses() == ["working", "completed"]
    first, last = tasks.seen[0], tasks.seen[-1]
    assert first["pollIntervalMs"] <= 500
    assert first["ttlMs"] > 86_400_000
    assert (first["taskId"], first["createdAt"]) == (last["taskId"], last["createdAt"])


@pytest.mark.requirement("task:wait:durable")
@pytest.mark.parametrize(("mode", "declared"), [("auto", False), ("legacy", True), ("legacy", False)])
async def test_everyone_else_blocks_and_hears_the_same(host: Host, mode: str, declared: bool) -> None:
    tasks = Tasks()
    async with host.client(*([tasks] if declared else []), mode=mode) as client:
        await begin(client, "quick")
        text = await asked(client, "wait_for_agents")
    assert "| found it" in text
    assert tasks.seen == []


@pytest.mark.requirement("task:verbs:survive-restarts")
async def test_a_task_survives_the_deaths_of_its_door_and_of_the_daemon(host: Host) -> None:
    first = Tasks()
    async with host.client(first) as client, anyio.create_task_group() as group:
        await begin(client, "asker")
        group.start_soon(answer, client, "wait_for_agents", "toolu_1")
        await until(lambda: "input_required" in first.statuses())
        group.cancel_scope.cancel()
    os.kill(host.daemon.pid, signal.SIGKILL)
    second = Tasks(lambda requests: accept(requests, "sqlite"))
    async with host.client(second) as client:
        text = await asked(client, "wait_for_agents", "toolu_1")
    assert second.ids == first.ids
    assert "I take sqlite." in text


@pytest.mark.requirement("task:verbs:survive-restarts")
async def test_a_daemon_that_dies_under_a_polling_client_is_not_noticed(host: Host) -> None:
    tasks, found = Tasks(), list[tuple[str, bool]]()
    async with host.client(tasks) as client, anyio.create_task_group() as group:
        await begin(client, "asker")

        async def wait() -> None:
            found.append(await answer(client, "wait_for_agents"))

        group.start_soon(wait)
        await until(lambda: "input_required" in tasks.statuses())
        os.kill(host.daemon.pid, signal.SIGKILL)
        polls = len(tasks.seen)
        await until(lambda: len(tasks.seen) >= polls + 2)
        tasks.reply = partial(accept, answer="postgres")
    assert "I take postgres." in found[0][0]
    assert tasks.statuses() == ["working", "input_required", "working", "completed"]


@pytest.mark.requirement("task:input:terminal-form")
async def test_a_question_is_a_form_and_the_reply_reaches_the_very_call_that_asked(host: Host) -> None:
    requests: list[Mapping[str, Any]] = []

    def reply(given: dict[str, Any]) -> dict[str, Any]:
        requests.append(given)
        return accept(given, "postgres")

    tasks = Tasks(reply)
    async with host.client(tasks) as client:
        await begin(client, "asker")
        assert "I take postgres." in await asked(client, "wait_for_agents")
    (form,) = requests[0].values()
    assert form["method"] == "elicitation/create"
    assert form["params"]["mode"] == "form"
    assert form["params"]["message"] == "asker asks: which database?"
    assert form["params"]["requestedSchema"]["properties"]["answer"]["enum"] == ["sqlite", "postgres"]


PERMISSION = {
    "allow": ({"answer": "allow"}, "| first it ran", "allow"),
    "always": ({"answer": "always"}, "| first it ran", "always"),
    "deny with a reason": ({"answer": "deny", "why": "not today"}, "denied: not today", "deny: not today"),
    "deny with none": (
        {"answer": "deny"},
        "denied: the person said no and gave no reason",
        "deny: the person said no and gave no reason",
    ),
    "a reason of blanks": (
        {"answer": "deny", "why": "  "},
        "denied: the person said no and gave no reason",
        "deny: the person said no and gave no reason",
    ),
}


@pytest.mark.requirement(
    "task:input:terminal-form", "permission:gate:allow-deny-always", "permission:route:orchestrator-or-form"
)
@pytest.mark.parametrize("case", PERMISSION)
async def test_a_permission_is_a_form_and_the_persons_decision_reaches_the_very_call(host: Host, case: str) -> None:
    content, told, stored = PERMISSION[case]
    requests: list[Mapping[str, Any]] = []

    def reply(given: dict[str, Any]) -> dict[str, Any]:
        requests.append(given)
        return {key: {"action": "accept", "content": content} for key in given}

    async with host.client(Tasks(reply)) as client:
        await begin_writer(client)
        assert told in await asked(client, "wait_for_agents")
    (form,) = requests[0].values()
    assert form["params"]["message"].startswith('writer wants to use Bash: "echo ran >> ran.txt')
    fields = form["params"]["requestedSchema"]
    assert fields["properties"]["answer"]["enum"] == ["allow", "always", "deny"]
    assert (set(fields["properties"]), fields["required"]) == ({"answer", "why"}, ["answer"])
    assert (host.project / "ran.txt").exists() == ("first it ran" in told)
    assert host.answered("writer") == [("permission", stored, "person")]


@pytest.mark.requirement("task:input:terminal-form", "permission:gate:allow-deny-always")
@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_permissions_form_that_is_declined_wakes_the_orchestrator_who_decides(host: Host, action: str) -> None:
    tasks = Tasks(lambda given: {key: {"action": action} for key in given})
    async with host.client(tasks) as client:
        await begin_writer(client)
        assert 'NEEDS YOU writer wants to use Bash: "echo ran' in await asked(client, "wait_for_agents")
        assert not (host.project / "ran.txt").exists()
        assert host.answered("writer") == [("permission", None, None)]
        await asked(client, "command_agent", agent="writer", task="allow")
        assert "| first it ran" in await asked(client, "wait_for_agents")
    assert host.answered("writer") == [("permission", "allow", "orchestrator")]


@pytest.mark.requirement("task:input:terminal-form", "permission:gate:allow-deny-always")
async def test_a_permissions_form_filled_in_wrongly_is_refused_and_stays_open(host: Host) -> None:
    wrong: list[dict[str, object]] = [{}, {"answer": ""}, {"answer": 1}, {"answer": "yes"}, {"why": "no answer"}]
    tasks = Tasks()
    async with host.client(tasks) as client, anyio.create_task_group() as group:
        await begin_writer(client)
        group.start_soon(answer, client, "wait_for_agents")
        await until(lambda: "input_required" in tasks.statuses())
        (key,) = tasks.seen[-1]["inputRequests"]
        for content in wrong:
            replies = {key: {"action": "accept", "content": content}}
            with pytest.raises(MCPError) as caught:
                await ask(client.session, "tasks/update", tasks.ids[0], inputResponses=replies)
            assert caught.value.code == -32602, content
        assert (await ask(client.session, "tasks/get", tasks.ids[0]))["status"] == "input_required"
        group.cancel_scope.cancel()
    assert host.answered("writer") == [("permission", None, None)]
    assert not (host.project / "ran.txt").exists()


@pytest.mark.requirement("task:verbs:survive-restarts")
async def test_wrong_words_about_tasks_get_the_codes_of_the_extension(host: Host) -> None:
    async with host.client(Tasks()) as declared, host.client() as other, host.client(Tasks(), mode="legacy") as old:
        codes: dict[str, int] = {}
        for name, client in (("unknown", declared), ("undeclared", other), ("old", old)):
            with pytest.raises(MCPError) as caught:
                await ask(client.session, "tasks/get", "sl_0")
            codes[name] = caught.value.code
        assert codes == {"unknown": -32602, "undeclared": -32021, "old": -32601}


@pytest.mark.requirement("task:verbs:survive-restarts")
async def test_another_orchestrator_can_neither_read_nor_cancel_a_task(host: Host) -> None:
    tasks = Tasks()
    async with host.client(tasks) as client, anyio.create_task_group() as group:
        await begin(client, "asker")
        group.start_soon(answer, client, "wait_for_agents")
        await until(lambda: tasks.ids)
        async with host.client(Tasks(), session="host-2") as stranger:
            for method in ("tasks/get", "tasks/cancel", "tasks/update"):
                with pytest.raises(MCPError) as caught:
                    await ask(stranger.session, method, tasks.ids[0])
                assert caught.value.code == -32602
        group.cancel_scope.cancel()
    async with host.client(Tasks()) as client:
        assert (await ask(client.session, "tasks/cancel", tasks.ids[0]))["resultType"] == "complete"
        assert (await ask(client.session, "tasks/get", tasks.ids[0]))["status"] == "cancelled"
        assert "asker" in await asked(client, "get_agent_status"), "its agents work on"


@pytest.mark.requirement("task:wait:durable")
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_host_that_lets_no_call_wait_long_is_answered_in_slices(host: Host, mode: str) -> None:
    async with host.client(mode=mode, FLEET_WAIT_SECONDS="0.3") as client:
        await begin(client, "asker")
        text = await asked(client, "wait_for_agents")
        while "your time-out came first: wait again" in text:
            text = await asked(client, "wait_for_agents")
    assert "NEEDS YOU asker asks" in text


@pytest.mark.requirement("handshake:settings:named")
@pytest.mark.parametrize("value", ["soon", "-1", "0", "inf", "nan", "1e400", "\udcff"])
async def test_a_bad_slice_names_its_variable_and_the_other_tools_work(host: Host, value: str) -> None:
    async with host.client(FLEET_WAIT_SECONDS=value) as client:
        text = await refused(client, "wait_for_agents")
        assert text.startswith(f"FLEET_WAIT_SECONDS is {value!a}, which is not a number of seconds above 0 -> correct")
        assert "no living agents" in await asked(client, "get_agent_status")
