"""The HTTP API on its unix socket: the verbs as JSON, and one format for all errors."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.fleet.digest_views import Digest
from orchestrator.fleet.views import AgentDetail, Created, Deleted, FleetView, Health, Registry
from orchestrator.server.http.problems import Problem
from tests.fixtures.daemon import Daemon, clean_env, running_daemon, wait_until


@pytest.fixture(scope="module")
def api_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for these tests: each works in a project of its own."""
    home, state = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("s")
    state.chmod(0o700)
    with running_daemon(state, clean_env(home, state)) as daemon:
        yield daemon


@pytest.fixture
def client(api_daemon: Daemon, project: Path, silent_model: str) -> Generator[httpx.Client]:
    account = {"ANTHROPIC_BASE_URL": silent_model, "ANTHROPIC_API_KEY": "sk-test-not-a-key"}
    with api_daemon.http(project, account=account, environment=dict(api_daemon.env)) as client:
        yield client
        client.delete("/v1/agents").raise_for_status()


def create(client: httpx.Client, name: str, **more: object) -> Created:
    response = client.post("/v1/agents", json={"name": name, "task": "work", **more})
    assert response.status_code == 201, response.text
    return Created.model_validate(response.json())


def error(response: httpx.Response, status: int, kind: str) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate(response.json(), extra="forbid")
    assert (problem.type, problem.status) == (f"urn:fleet:problem:{kind}", status)
    assert problem.title
    return f"{problem.detail} -> {problem.hint}"


def test_health_needs_no_hello(api_daemon: Daemon) -> None:
    with api_daemon.http() as client:
        health = Health.model_validate(client.get("/v1/health").json())
    assert (health.pid, health.state) == (api_daemon.pid, str(api_daemon.state))


def test_the_life_of_an_agent_over_http(client: httpx.Client) -> None:
    created = create(client, "a-1")
    assert created.agent.name == "a-1"
    assert not created.existed
    view = FleetView.model_validate(client.get("/v1/agents").json())
    assert [agent.name for agent in view.agents] == ["a-1"]
    detail = AgentDetail.model_validate(client.get("/v1/agents/a-1").json())
    assert detail.task == "work"
    assert client.post("/v1/agents/a-1/turns", json={"task": "more"}).json()["name"] == "a-1"
    assert "queued" in client.post("/v1/agents/a-1/turns", json={"task": "more"}).json()["happened"]
    interrupted = client.post("/v1/agents/a-1/interrupt")
    assert interrupted.status_code == 200
    deleted = Deleted.model_validate(client.delete("/v1/agents/a-1").json())
    assert deleted.agent == created.agent.id
    assert FleetView.model_validate(client.get("/v1/agents").json()).agents == ()


def test_agents_are_named_by_repeating_the_query(client: httpx.Client) -> None:
    for name in ("q-1", "q-2", "q-3"):
        create(client, name)
    view = FleetView.model_validate(client.get("/v1/agents", params={"agent": ["q-3", "q-1"]}).json())
    assert [agent.name for agent in view.agents] == ["q-3", "q-1"]


@pytest.mark.requirement("agent:create:idempotency-key", "guarantee:idempotency:never-runs-twice")
def test_the_same_idempotency_key_gives_the_same_agent(client: httpx.Client) -> None:
    body, headers = {"name": "same", "task": "work"}, {"idempotency-key": "k-1"}
    first = Created.model_validate(client.post("/v1/agents", json=body, headers=headers).json())
    again = Created.model_validate(client.post("/v1/agents", json=body, headers=headers).json())
    assert (again.agent.id, first.existed, again.existed) == (first.agent.id, False, True)
    assert "same" in error(client.post("/v1/agents", json=body), 409, "ConflictError")


def test_a_wait_comes_back_at_its_time_out_and_says_so(client: httpx.Client) -> None:
    create(client, "w-1")
    digest = Digest.model_validate(client.post("/v1/wait", json={"timeout_seconds": 0.1}).json())
    assert digest.timed_out
    assert digest.working == ("w-1",)


def test_a_wait_whose_client_leaves_is_over(client: httpx.Client, api_daemon: Daemon) -> None:
    create(client, "w-2")
    with pytest.raises(httpx.ReadTimeout):
        client.post("/v1/wait", json={}, timeout=0.5)
    assert client.get("/v1/agents").status_code == 200
    assert "a request broke" not in api_daemon.events()


def test_the_registry_names_the_personas(client: httpx.Client) -> None:
    registry = Registry.model_validate(client.get("/v1/registry").json())
    assert {"scout", "planner", "builder"} <= {persona.name for persona in registry.personas}


def test_events_are_read_page_by_page(client: httpx.Client) -> None:
    create(client, "e-1")
    page = client.get("/v1/events", params={"since": "0", "agent": "e-1", "limit": 1}).json()
    assert [event["kind"] for event in page["events"]] == ["agent.created"]
    rest = client.get("/v1/events", params={"since": page["cursor"], "agent": "e-1"}).json()
    assert all(int(event["cursor"]) > int(page["cursor"]) for event in rest["events"])


@pytest.mark.requirement("view:live:events-stream")
def test_the_stream_tells_what_happens_and_goes_on_where_it_was_left(client: httpx.Client) -> None:
    create(client, "s-1")
    with client.stream("GET", "/v1/stream", params={"since": "0", "agent": "s-1"}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        first = next(sse(response))
    assert (first["event"], first["data"]["kind"], first["data"]["name"]) == ("agent.created", "agent.created", "s-1")
    with client.stream("GET", "/v1/stream?agent=s-1", headers={"last-event-id": first["id"]}) as response:
        second = next(sse(response))
    assert int(second["id"]) > int(first["id"])


def test_the_history_alone_ends_with_a_mark_and_is_what_the_pages_hold(client: httpx.Client) -> None:
    create(client, "h-1")
    with client.stream("GET", "/v1/stream", params={"agent": "h-1", "history": "1"}) as response:
        streamed = list(sse(response))
    assert streamed[-1]["event"] == "end"
    paged = client.get("/v1/events", params={"agent": "h-1"}).json()["events"]
    assert [one["data"] for one in streamed[:-1]] == paged[: len(streamed) - 1]
    assert len(streamed) > 1


@pytest.mark.requirement("store:backup:one-moment")
def test_a_backup_over_http_tells_its_progress_and_its_end(
    api_daemon: Daemon, client: httpx.Client, tmp_path: Path
) -> None:
    create(client, "b-1")
    copy = tmp_path / "copy.db"
    with client.stream("POST", "/v1/backup", json={"file": str(copy)}) as response:
        assert response.status_code == 200
        *steps, end = [json.loads(line) for line in response.iter_lines()]
    assert steps[-1]["pages_done"] == steps[-1]["pages"]
    assert end == {"file": str(copy), "bytes": copy.stat().st_size}
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM agent WHERE name = 'b-1'").fetchone() == (1,)
    assert "--force" in error(client.post("/v1/backup", json={"file": str(copy)}), 409, "ConflictError")
    assert "absolute" in error(client.post("/v1/backup", json={"file": "copy.db"}), 422, "InvalidError")
    database = {"file": str(api_daemon.state / "fleet.db"), "overwrite": True}
    assert "the database itself" in error(client.post("/v1/backup", json=database), 422, "InvalidError")


def test_the_stream_without_a_cursor_begins_now(client: httpx.Client) -> None:
    create(client, "old")
    with client.stream("GET", "/v1/stream") as response:
        late = threading.Thread(target=client.delete, args=("/v1/agents/old",))
        late.start()
        kinds: list[str] = []
        for event in sse(response):
            kinds.append(event["event"])
            if event["event"] == "agent.deleted":
                break
        late.join()
    assert "agent.created" not in kinds


def sse(response: httpx.Response) -> Iterator[dict[str, Any]]:
    fields: dict[str, Any] = {}
    for line in response.iter_lines():
        name, _, value = line.partition(": ")
        if not line and fields:
            yield {**fields, "data": json.loads(fields["data"])}
            fields = {}
        elif name in {"id", "event", "data"}:
            fields[name] = value


def test_verbs_need_a_hello_and_say_so(api_daemon: Daemon) -> None:
    with api_daemon.http() as client:
        said = error(client.get("/v1/agents"), 422, "InvalidError")
        assert "x-fleet-hello" in said
        for header in ("{", "[]", '{"project": 1}', '{"project": "relative"}'):
            assert "hello" in error(client.get("/v1/agents", headers={"x-fleet-hello": header}), 422, "InvalidError")


@pytest.mark.requirement("http:api:problems")
def test_unknown_paths_and_methods_are_named(client: httpx.Client) -> None:
    assert "/v2/agents" in error(client.get("/v2/agents"), 404, "NotFoundError")
    assert "PATCH" in error(client.patch("/v1/agents"), 405, "InvalidError")


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b"nonsense"])
def test_a_body_that_is_no_json_is_a_bad_request(client: httpx.Client, body: bytes) -> None:
    assert "not JSON" in error(client.post("/v1/agents", content=body), 400, "InvalidError")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"name": "x"}, "task"),
        ({"name": "x", "task": "t", "colour": "red"}, "colour"),
        ({"name": 5, "task": "t"}, "name"),
        ({"name": "x", "task": "t", "max_turns": -1}, "max_turns"),
        ({"name": "x", "task": "t", "max_turns": "3"}, "max_turns"),
        ({"name": "x", "task": "t", "inputs": "scout"}, "inputs"),
        (["x", "t"], "body"),
        ({"name": "x", "task": ""}, "task is empty"),
        ({"name": "x y", "task": "t"}, "agent name"),
        ({"name": "x", "task": "a\x00b"}, "NUL"),
        ({"name": "x", "task": "y" * 1_000_000}, "bytes"),
        ({"name": "x", "task": "t", "provider": "nobody"}, "nobody"),
        ({"name": "x", "task": "t", "cwd": "/nowhere/at/all"}, "/nowhere/at/all"),
    ],
)
def test_a_body_that_cannot_mean_anything_is_refused_with_the_field(
    client: httpx.Client, body: object, expected: str
) -> None:
    response = client.post("/v1/agents", content=json.dumps(body))
    assert response.status_code in {404, 422}
    assert expected in json.dumps(response.json())
    assert FleetView.model_validate(client.get("/v1/agents").json()).agents == ()


@pytest.mark.requirement("http:api:problems")
def test_every_mistake_of_a_body_or_query_is_told_at_once_with_its_place(client: httpx.Client) -> None:
    body: dict[str, object] = {
        "name": 5,
        "max_turns": 0,
        "inputs": ["a", 7],
        "checks": [[]],
        "colour/s": "red",
        "max_cost_usd": "much",
    }
    problem = client.post("/v1/agents", json=body).json()
    told = [(one["pointer"], one["detail"]) for one in problem["errors"]]
    assert {place for place, _ in told} == {
        "#/name",
        "#/task",
        "#/max_turns",
        "#/inputs/1",
        "#/checks/0",
        "#/colour~1s",
        "#/max_cost_usd",
    }
    assert all(detail for _, detail in told)
    assert "and 5 more" in problem["detail"]
    query = client.get("/v1/events", params={"limit": 0, "colour": "red"}).json()
    assert {one["parameter"] for one in query["errors"]} == {"limit", "colour"}


def test_half_a_character_is_refused(client: httpx.Client) -> None:
    response = client.post("/v1/agents", content=b'{"name": "x", "task": "half \\ud800"}')
    assert error(response, 422, "InvalidError")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/agents/nobody", 404),
        ("/v1/agents/nobody/output", 404),
        ("/v1/agents?colour=red", 422),
        ("/v1/agents?everyone=perhaps", 422),
        ("/v1/agents/nobody/output?limit=-1", 422),
        ("/v1/agents/nobody/output?limit=99999999999999999999999", 422),
        ("/v1/events?limit=0", 422),
        ("/v1/events?since=tomorrow", 422),
        ("/v1/events?since=1&since=2", 422),
        ("/v1/stream?since=tomorrow", 422),
        ("/v1/stream?agent=nobody", 404),
        ("/v1/registry?status=happy", 422),
    ],
)
def test_what_is_asked_for_wrongly_is_answered_with_what_is_valid(client: httpx.Client, path: str, status: int) -> None:
    said = error(client.get(path), status, "NotFoundError" if status == 404 else "InvalidError")
    assert not said.endswith("-> ")


def test_an_output_that_is_not_there_yet_is_named_as_such(client: httpx.Client) -> None:
    create(client, "o-1")
    assert "wait_for_agents" in error(client.get("/v1/agents/o-1/output"), 404, "NotFoundError")


def test_a_body_larger_than_any_task_is_refused(client: httpx.Client) -> None:
    huge = b'{"name": "x", "task": "' + b"y" * (17 << 20) + b'"}'
    try:
        response = client.post("/v1/agents", content=huge)
    except httpx.TransportError:  # it hung up before it had read all
        response = None
    if response is not None:
        error(response, 413, "InvalidError")
    wait_until(lambda: client.get("/v1/health").status_code == 200, "the daemon, alive")
