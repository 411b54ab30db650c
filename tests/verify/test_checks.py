"""A turn is complete when its checks pass, not when its session says so; with the real `claude` and real commands."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from orchestrator import paths
from tests.faults.test_recovery import Scene, staged
from tests.fixtures.daemon import clean_env, wait_until
from tests.fixtures.fleet_command import Command
from tests.fixtures.leavers import Leavers, tier_or_skip
from tests.fixtures.raw_door import open_process, text_of

SCRIPT = Path(__file__).with_name("verify.yaml")
pytestmark = pytest.mark.timeout(240)
CHECK_SECONDS = 10
"""of a check that is ended: seven leavers live within it, also on a machine that is busy"""
MISSING = "test -s proof.txt || { echo the proof is missing; exit 3; }"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One fleet for the tests that harm no daemon."""
    with staged(tmp_path_factory.mktemp("verify"), SCRIPT, DAEMON_ONLY="secret of the daemon") as scene:
        yield scene


def create(scene: Scene, name: str, *checks: object, **more: object) -> dict[str, Any]:
    return scene.place.ask("POST", "/v1/agents", {"name": name, "task": "do it", "checks": list(checks), **more})


def shown(scene: Scene, name: str) -> tuple[str, str]:
    view = scene.place.ask("GET", f"/v1/agents?agent={name}")["agents"][0]
    return view["status"], view["reason"]


def verdicts(turn: Mapping[str, Any]) -> list[list[tuple[str, bool, str]]]:
    return [[(one["check"], one["passed"], one["said"]) for one in made["checks"]] for made in turn["checked"]]


@pytest.mark.requirement(
    "check:run:after-the-turn", "check:receipt:digest-show-json-rest", "check:verdict:decides-outcome"
)
def test_a_turn_whose_checks_pass_is_complete_and_the_digest_says_so(shared: Scene) -> None:
    (shared.project / "README.md").write_text("read me\n")
    create(shared, "good", "test -s README.md", {"exists": "README.md"})
    digest = shared.place.ask("POST", "/v1/wait", {"agents": ["good"], "timeout_seconds": 60})
    turn = shared.place.outcome("good")

    assert (turn["status"], turn["result"]) == ("complete", "done by good")
    assert turn["checks"] == ["test -s README.md", "README.md exists"]
    assert verdicts(turn) == [[("test -s README.md", True, "exit 0"), ("README.md exists", True, "it does")]]
    assert turn["checked"][0]["checks"][0]["exit_code"] == 0
    assert "[good complete" in digest["text"]
    assert 'checks: "test -s README.md" ok; "README.md exists" ok' in digest["text"]
    assert digest["outcomes"][0]["checks"][0]["exit_code"] == 0
    asked = str(shared.calls("good")[0]["task"])
    assert asked.startswith("do it\n\nWhen you end your turn Fleet checks it")
    assert "turn.checked" in shared.kinds("good")
    shared.ended_once("good")


@pytest.mark.requirement("check:retry:back-to-agent", "check:verdict:decides-outcome")
def test_a_failed_check_goes_back_to_the_agent_which_mends_it_in_the_same_turn(shared: Scene) -> None:
    create(shared, "mender", MISSING)
    turn = shared.place.outcome("mender")

    assert turn["status"] == "complete"
    assert turn["turn"] == 1
    assert turn["result"] == "mended after exit 3   | the proof is missing"
    assert [made["passed"] for made in turn["checked"]] == [False, True]
    failed = turn["checked"][0]["checks"][0]
    assert (failed["exit_code"], failed["said"], failed["tail"]) == (3, "exit 3", "the proof is missing")
    assert turn["model_calls"] == len(shared.calls("mender")) == 3
    assert turn["cost_usd"] > 0
    shared.ended_once("mender")


@pytest.mark.requirement("check:retry:back-to-agent")
def test_checks_that_fail_too_often_end_the_turn_as_failed_with_the_receipts_of_every_attempt(shared: Scene) -> None:
    create(shared, "stubborn", "echo not yet; exit 4", "true", check_retries=1)
    digest = shared.place.ask("POST", "/v1/wait", {"agents": ["stubborn"], "timeout_seconds": 60})
    turn = shared.place.outcome("stubborn")

    assert (turn["status"], turn["reason"]) == ("failed", "checks")
    assert turn["detail"] == "echo not yet; exit 4: exit 4 (tried 2 times)"
    assert verdicts(turn) == [[("echo not yet; exit 4", False, "exit 4"), ("true", True, "exit 0")]] * 2
    assert all(made["checks"][0]["tail"] == "not yet" for made in turn["checked"])
    assert turn["result"] == "done by stubborn", "what it said is kept"
    assert turn["model_calls"] == 2
    assert "[stubborn failed (checks) · " in digest["text"]
    assert 'checks: "echo not yet; exit 4" exit 4 "not yet"; true ok' in digest["text"]
    assert len(digest["text"].encode()) <= 1600
    shared.ended_once("stubborn")


def test_the_checks_of_an_agent_hold_for_its_next_turns_until_they_are_replaced(shared: Scene) -> None:
    create(shared, "lasting", "test -e lasting.ok", check_retries=0)
    assert shared.place.outcome("lasting")["reason"] == "checks"
    (shared.project / "lasting.ok").touch()
    shared.place.ask("POST", "/v1/agents/lasting/turns", {"task": "once more"})
    again = shared.place.outcome("lasting")
    assert (again["turn"], again["status"], len(again["checked"])) == (2, "complete", 1)
    shared.place.ask("POST", "/v1/agents/lasting/turns", {"task": "and without", "checks": []})
    without = shared.place.outcome("lasting")
    assert (without["turn"], without["status"], without["checked"]) == (3, "complete", [])


@pytest.mark.requirement("check:run:after-the-turn", "check:schema:output")
def test_a_result_that_violates_its_schema_goes_back_with_the_sentence_of_the_validator(shared: Scene) -> None:
    schema = {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}
    create(shared, "counter", {"schema": schema})
    turn = shared.place.outcome("counter")

    assert turn["status"] == "complete"
    receipts = [made["checks"][0] for made in turn["checked"]]
    assert [one["said"] for one in receipts] == ["the result does not fit"] * 2 + ["the result fits"]
    assert receipts[0]["tail"].startswith("the result is not JSON: ")
    assert receipts[1]["tail"] == "$.count: 'three' is not of type 'integer'"
    assert json.loads(turn["result"].split("```json")[1].strip("`\n")) == {"count": 3}


@pytest.mark.requirement("check:run:after-the-turn")
def test_a_check_sees_the_environment_of_its_agent_and_nothing_of_the_daemons(shared: Scene) -> None:
    create(shared, "curious", "env -0 > seen.env; ls -A ../state > seen.state", "cat; test -t 0 && exit 1; exit 0")
    assert shared.place.outcome("curious")["status"] == "complete"
    seen = dict(pair.split("=", 1) for pair in (shared.project / "seen.env").read_text().split("\0") if pair)

    given = {**shared.place.environment, **shared.place.account}
    assert {name: seen[name] for name in given} == given
    shells = {"PWD", "OLDPWD", "SHLVL", "_"}
    assert set(seen) - set(given) - shells == {"FLEET_PROCESS", "ANTHROPIC_CUSTOM_HEADERS"}
    assert "DAEMON_ONLY" not in seen
    assert shared.place.ask("GET", "/v1/health")["supervision"][0] != "A" or (
        "fleet.db" not in (shared.project / "seen.state").read_text()
    )


@pytest.mark.requirement("check:status:stoppable")
@pytest.mark.parametrize("end", ["interrupt", "delete"])
def test_the_status_says_what_is_checked_and_a_stop_ends_the_check(end: str, shared: Scene) -> None:
    name = f"slow-{end}"
    command = f"echo $$ > {name}.pid; sleep 300 & sleep 300"
    agent = create(shared, name, command)["agent"]["id"]
    wait_until((shared.project / f"{name}.pid").exists, "the check")
    wait_until(lambda: shown(shared, name)[1].startswith("checking: "), "the reason")
    assert shown(shared, name) == ("working", f'checking: "{command}"')
    assert shared.place.ask("GET", f"/v1/agents?agent={name}")["agents"][0]["age_seconds"] >= 0
    pid, ended_at = last_process(shared, agent)
    assert ended_at is None
    assert psutil.pid_exists(pid)
    if end == "delete":
        shared.place.ask("DELETE", f"/v1/agents/{name}")
    else:
        shared.place.ask("POST", f"/v1/agents/{name}/interrupt", {})
        assert shared.place.outcome(name)["status"] == "interrupted"
    assert last_process(shared, agent)[1] is not None, "nothing was left when the answer came"
    assert not psutil.pid_exists(pid)
    shared.ended_once(agent)


def last_process(scene: Scene, agent: str) -> tuple[int, float | None]:
    """Of what was started last for the agent: its process id, and when it was written down that nothing is left."""
    connection = sqlite3.connect(f"file:{paths.database_path(scene.state)}?mode=ro", uri=True)
    try:
        query = "SELECT pid, ended_at FROM process WHERE agent_id = ? ORDER BY intended_at DESC LIMIT 1"
        return connection.execute(query, (agent,)).fetchone()
    finally:
        connection.close()


@pytest.mark.requirement("check:run:after-the-turn", "process:leavers:seven-kinds-die")
@pytest.mark.parametrize("tier", ["A", "C"])
def test_a_check_that_takes_too_long_is_ended_with_all_that_it_started(
    tier: str, tmp_path: Path, leavers: Leavers
) -> None:
    tier_or_skip(tier)
    with staged(tmp_path, SCRIPT, FLEET_SUPERVISION=tier) as scene:
        create(
            scene, "late", {"run": f"{leavers.command}; sleep 600", "timeout_seconds": CHECK_SECONDS}, check_retries=0
        )
        leavers.wait_all()
        turn = scene.place.outcome("late")
        receipt = turn["checked"][0]["checks"][0]

        assert (turn["status"], turn["reason"]) == ("failed", "checks")
        assert receipt["exit_code"] is None
        assert receipt["said"] == f"no end within {CHECK_SECONDS}s: it was ended with all that it had started"
        assert not leavers.alive()


@pytest.mark.requirement("check:recovery:daemon-killed", "guarantee:session:one-live-per-agent")
@pytest.mark.parametrize("tier", ["A", "C"])
def test_a_daemon_that_is_killed_in_the_middle_of_a_check_loses_nothing(
    tier: str, tmp_path: Path, leavers: Leavers
) -> None:
    tier_or_skip(tier)
    with staged(tmp_path, SCRIPT, FLEET_SUPERVISION=tier) as scene:
        create(scene, "steady", f"echo run >> runs; test -e go && exit 0; {leavers.command}; sleep 600")
        leavers.wait_all()
        scene.daemon.stop(signal.SIGKILL)
        leavers.wait_gone()
        (scene.project / "go").touch()
        scene.start()
        turn = scene.place.outcome("steady")

        assert (turn["status"], turn["result"]) == ("complete", "done by steady")
        assert [made["passed"] for made in turn["checked"]] == [True]
        assert (scene.project / "runs").read_text().split() == ["run", "run"]
        assert len(scene.calls("steady")) == 1, "the answer stood in the transcript"
        assert scene.kinds("steady").count("turn.lost") == 1
        scene.ended_once("steady")


@pytest.mark.requirement("check:recovery:daemon-killed")
def test_a_failed_check_reaches_its_agent_though_the_daemon_dies_on_the_way(tmp_path: Path) -> None:
    with staged(tmp_path, SCRIPT) as scene:
        create(scene, "mender", f"touch began; test -e hold && sleep 600; {MISSING}")
        wait_until(lambda: "turn.checked" in scene.kinds("mender"), "the receipts")
        scene.murder()
        turn = scene.place.outcome("mender")

        assert turn["status"] == "complete"
        assert turn["result"].startswith("mended after exit 3")
        assert turn["checked"][-1]["passed"] is True
        scene.ended_once("mender")


@pytest.mark.requirement("check:recovery:daemon-killed")
def test_a_failed_check_reaches_its_agent_though_its_program_is_killed_meanwhile(tmp_path: Path) -> None:
    with staged(tmp_path, SCRIPT) as scene:
        create(scene, "mender", f"touch began; until test -e go; do sleep 0.05; done; {MISSING}")
        wait_until((scene.project / "began").exists, "the check")
        programs = scene.programs("mender")
        assert programs, "the session is open while its work is checked"
        for pid in programs:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        (scene.project / "go").touch()
        turn = scene.place.outcome("mender")

        assert turn["status"] == "complete"
        assert turn["result"].startswith("mended after exit 3")
        assert [made["passed"] for made in turn["checked"]] == [False, True]
        assert scene.kinds("mender").count("turn.lost") == 1
        scene.ended_once("mender")


@pytest.mark.requirement("check:verdict:gates-dependents", "check:verdict:decides-outcome")
def test_behind_a_reviewer_that_passes_the_next_agent_starts(shared: Scene) -> None:
    create(shared, "kind", persona="reviewer")
    create(shared, "ship-kind", persona="shipper", inputs=["kind"])
    shipped = shared.place.outcome("ship-kind")

    assert shipped["status"] == "complete"
    assert verdicts(shared.place.outcome("kind")) == [[("verdict", True, "pass")]]
    assert "VERDICT: pass" in json.dumps(shared.place.ask("GET", "/v1/agents/kind")["turns"][-1]["result"])


@pytest.mark.requirement("check:verdict:gates-dependents", "check:receipt:digest-show-json-rest")
def test_a_reviewer_that_wants_changes_fails_and_holds_back_what_is_behind_it_until_it_passes(shared: Scene) -> None:
    create(shared, "strict", persona="reviewer")
    create(shared, "ship-strict", persona="shipper", inputs=["strict"])
    asked = {"agents": ["strict", "ship-strict"], "timeout_seconds": 60}
    digest = shared.place.ask("POST", "/v1/wait", asked)

    assert digest["needs"] == ["ship-strict"]
    assert "NEEDS YOU ship-strict cannot start: its input strict failed (verdict)" in digest["text"]
    assert "[strict failed (verdict)" in digest["text"]
    assert "checks: verdict changes" in digest["text"]
    turn = shared.place.ask("GET", "/v1/agents/strict")["turns"][-1]
    assert (turn["status"], turn["reason"], len(turn["checked"])) == ("failed", "verdict", 1)
    assert "orders.py:3 is wrong" in turn["result"]
    assert shown(shared, "ship-strict") == ("queued", "its input strict failed (verdict)")

    create(shared, "fixer", inputs=["strict"])
    assert shared.place.outcome("fixer")["status"] == "complete", "who is told to, gets the findings"
    shared.place.ask("POST", "/v1/agents/strict/turns", {"task": "look again"})
    assert shared.place.outcome("ship-strict")["status"] == "complete"


@pytest.mark.requirement("check:verdict:gates-dependents")
def test_a_reviewer_that_gives_no_verdict_is_asked_for_it(shared: Scene) -> None:
    create(shared, "silent", persona="reviewer")
    turn = shared.place.outcome("silent")

    assert turn["status"] == "complete"
    assert [made["passed"] for made in turn["checked"]] == [False, True]
    assert "VERDICT: pass" in turn["checked"][0]["checks"][0]["said"]


@pytest.mark.requirement("check:create:every-way")
def test_an_orchestrator_gives_checks_with_the_tool_and_reads_the_receipts(shared: Scene) -> None:
    environment = {**clean_env(shared.root / "home", shared.state, **shared.settings), **shared.place.account}
    door = open_process((sys.executable, "-m", "orchestrator", "mcp"), environment, shared.project)
    try:
        made = {"name": "by-tool", "task": "do it", "checks": ["echo why not; exit 5", {"exists": "by-tool.txt"}]}
        door.tool("create_agent", made)
        digest = door.tool("wait_for_agents", {"agents": ["by-tool"]})
        page = door.tool("get_agent_output", {"agent": "by-tool"})
        (shared.project / "by-tool.txt").touch()
        door.tool("command_agent", {"agent": "by-tool", "task": "once more", "checks": [{"exists": "by-tool.txt"}]})
        second = door.tool("wait_for_agents", {"agents": ["by-tool"]})
        wrong = door.answer(door.post_tool("create_agent", {"name": "w", "task": "t", "checks": [{"glob": "*"}]}))
    finally:
        door.kill()

    assert 'checks: "echo why not; exit 5" exit 5 "why not"; "by-tool.txt exists" it does not' in digest
    assert 'check "echo why not; exit 5": FAILED, exit 5; it says last:\n```\nwhy not\n```' in page
    assert 'checks: "by-tool.txt exists" ok' in second
    assert "is not a valid check" in text_of(wrong)
    assert wrong["result"]["isError"] is True


@pytest.mark.requirement("check:create:every-way")
def test_the_command_line_gives_checks_and_shows_their_receipts(shared: Scene) -> None:
    environment = {**clean_env(shared.root / "home", shared.state, **shared.settings), **shared.place.account}
    fleet = Command(shared.project, environment)
    schema = shared.project / "result.schema.json"
    schema.write_text('{"type": "string"}')
    given = ("--check", "echo almost; exit 6", "--check-timeout", "30", "--must-exist", "nowhere/file")
    made = fleet("create", "by-hand", "do it", *given, "--result-schema", str(schema), "--check-retries", "0", "--wait")
    assert made.code == 1, made.err
    assert '"echo almost; exit 6" exit 6 "almost"' in made.out

    told = fleet("show", "by-hand").out
    assert "checks, attempt 1: failed" in told
    assert 'FAILED "echo almost; exit 6": exit 6, ' in told
    assert "| almost" in told
    assert 'FAILED "nowhere/file exists": it does not' in told
    assert 'FAILED "result schema": the result does not fit' in told
    assert "| the result is not JSON" in told
    document = fleet("show", "by-hand", "--json").json
    assert document["turns"][0]["checked"][0]["checks"][0]["exit_code"] == 6
    assert 'attempt 1: FAILED "echo almost; exit 6": exit 6' in " ".join(fleet("logs", "by-hand").out.split())

    again = fleet("command", "by-hand", "once more", "--no-checks")
    assert again.code == 0, again.err
    assert shared.place.outcome("by-hand")["status"] == "complete"


BAD: list[tuple[list[object], str]] = [
    ([""], "command is empty"),
    (["x" * 5000], "cannot be run"),
    ([{"run": "true", "timeout_seconds": 0}], "timeout_seconds"),
    ([{"exists": "/etc/passwd"}], "outside"),
    ([{"exists": "a/../../b"}], "outside"),
    ([{"schema": {"type": "nonsense"}}], "no JSON schema"),
    ([{"schema": {"$ref": "http://127.0.0.1:1/schema"}}], "nothing is fetched"),
    ([{"schema": {}}, {"schema": {"type": "object"}}], "two schemas"),
    ([{"run": "true", "exists": "a"}], "is not a valid check"),
    ([f"true {number}" for number in range(21)], "at most 20"),
]


@pytest.mark.requirement("check:create:every-way")
@pytest.mark.parametrize(("checks", "words"), BAD)
def test_a_check_that_cannot_be_kept_is_refused_before_anything_is_created(
    checks: list[object], words: str, shared: Scene
) -> None:
    place = shared.place
    with place.daemon.http(place.project, account=dict(place.account)) as client:
        answer: httpx.Response = client.post("/v1/agents", json={"name": "bad", "task": "t", "checks": checks})
    assert answer.status_code == 422, answer.text
    assert words in answer.json()["detail"]
