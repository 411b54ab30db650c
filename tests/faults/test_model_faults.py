"""Whatever the model's API or the agent's program does, a turn ends typed, with a reason, in bounded time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from orchestrator.supervision import leftovers
from tests.faults.places import KEY, Place, placed
from tests.fixtures.daemon import clean_env, running_daemon, wait_until

SCRIPT = Path(__file__).parent / "faults.yaml"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    settings = {"FLEET_MAX_RETRIES": "1", "FLEET_TURN_RETRIES": "0", "FLEET_MAX_RESUMES": "0"}
    settings |= {"FLEET_STALL_SECONDS": "1", "FLEET_SILENCE_SECONDS": "6"}
    with placed(tmp_path_factory.mktemp("faults"), SCRIPT, **settings) as (there, _):
        yield there


@pytest.mark.requirement(
    "error:model-api:401",
    "error:model-api:500",
    "error:model-api:529",
    "error:model-api:stream-cut",
    "error:model-api:silence",
)
@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("auth", "401"),
        ("overloaded-500", "500"),
        ("overloaded", "529"),
        ("cut", ""),
        ("silence", "nothing came"),
    ],
)
def test_a_fault_of_the_models_api_ends_the_turn_as_failed_with_its_reason(
    reason: str, words: str, place: Place
) -> None:
    place.create(reason)
    turn = place.outcome(reason)

    assert turn["status"] == "failed"
    assert turn["reason"] == {"cut": "api", "overloaded-500": "overloaded"}.get(reason, reason)
    assert words in turn["detail"]
    view = place.ask("GET", f"/v1/agents?agent={reason}")["agents"][0]
    assert (view["status"], view["reason"]) == ("failed", turn["reason"])
    assert view["cost_usd"] is None or view["cost_usd"] >= 0


@pytest.mark.requirement("error:model-api:401")
def test_a_refused_key_fails_at_once_and_says_what_to_do(place: Place) -> None:
    place.create("auth-again")
    place.outcome("auth-again")
    events = place.ask("GET", "/v1/events?since=0&agent=auth-again")["events"]

    assert [event["kind"] for event in events].count("turn.failed") == 1
    assert [event["body"]["attempt"] for event in events if event["kind"] == "session.retrying"] in ([], [1])
    digest = place.ask("POST", "/v1/wait", {"agents": ["auth-again"], "since": "0"})
    assert "->" in digest["text"]


@pytest.mark.requirement("error:model-api:connection-refused")
def test_a_refused_connection_ends_the_turn_as_failed(place: Place) -> None:
    elsewhere = Place(
        place.daemon, place.project, {**place.account, "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}, place.environment
    )
    elsewhere.create("nobody-there")
    turn = elsewhere.outcome("nobody-there")
    assert (turn["status"], turn["reason"]) == ("failed", "api")


@pytest.mark.requirement("error:program:killed")
def test_a_killed_program_fails_its_turn_at_once_with_what_is_known(place: Place) -> None:
    place.create("killed", cwd=str(place.project))
    began = place.project / "began"
    wait_until(began.exists, "the agent's shell")
    session = place.ask("GET", "/v1/agents/killed")["session_id"]
    (claude,) = [one for one in map(psutil.Process, leftovers.find_processes(session)) if one.name() == "claude"]
    claude.kill()  # by the id that it has here: within a pid namespace it knows itself by another

    turn = place.outcome("killed")
    assert (turn["status"], turn["reason"]) == ("failed", "process")
    assert turn["detail"]


@pytest.mark.requirement("turn:max-turns:fails-with-reason")
def test_an_agent_at_its_limit_of_turns_fails_with_that_reason(place: Place) -> None:
    place.create("limited", max_turns=2)
    turn = place.outcome("limited")
    assert (turn["status"], turn["reason"]) == ("failed", "max_turns")


def test_a_fault_that_passes_is_shown_as_retrying_and_the_turn_completes(place: Place) -> None:
    place.create("recovers")
    turn = place.outcome("recovers")
    assert (turn["status"], turn["result"]) == ("complete", "fine in the end")
    events = place.ask("GET", "/v1/events?since=0&agent=recovers")["events"]
    assert any(event["kind"] == "session.retrying" for event in events)


@pytest.mark.requirement("error:program:missing")
def test_a_missing_program_fails_the_turn_with_its_path_and_what_to_do(tmp_path: Path, place: Place) -> None:
    home, state = tmp_path / "home", tmp_path / "state"
    home.mkdir()
    state.mkdir(mode=0o700)
    with running_daemon(state, clean_env(home, state, CLAUDE_CODE_PATH="/nowhere/claude")) as daemon:
        there = Place(daemon, place.project, place.account, place.environment)
        there.create("homeless")
        turn = there.outcome("homeless")
        assert turn["status"] == "failed"
        assert "/nowhere/claude" in turn["detail"]
        digest = there.ask("POST", "/v1/wait", {"agents": ["homeless"], "since": "0"})
        assert "CLAUDE_CODE_PATH" in digest["text"]


@pytest.mark.requirement("handshake:secrets:never-stored")
def test_after_all_this_no_key_is_in_the_state_directory(place: Place) -> None:
    files = [path for path in place.daemon.state.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
