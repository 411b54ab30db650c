"""The whole demo: the real claude, the plugin, the door, the daemon, real agents, a real repository."""

from __future__ import annotations

import fcntl
import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator import paths, rehearsal
from tests.fixtures.daemon import ROOT, clean_env, wait_until
from tests.fixtures.fleet_command import Command, Ran

pytestmark = pytest.mark.timeout(420)


@dataclass(frozen=True)
class Shown:
    """A demo that has ended: what it reported, and a `fleet` in its working copy."""

    ran: Ran
    report: dict[str, Any]
    fleet: Command

    @property
    def events(self) -> list[dict[str, Any]]:
        """Every event of its agents, from the store."""
        return self.fleet("logs", "--json").lines

    @property
    def scouts(self) -> list[str]:
        """The names of its scouts."""
        return [agent["name"] for agent in self.report["agents"] if agent["persona"] == "scout"]

    def down(self) -> None:
        """End the daemon that reading started."""
        assert self.fleet("down").code == 0


def _shown(place: Path, *options: str, **more: str) -> Shown:
    home = place / "home"
    home.mkdir(exist_ok=True)
    env = clean_env(home, place / "unused", **more)
    del env["FLEET_STATE"]
    ran = Command(place, env)("demo", "--json", "--dir", str(place / "demo"), *options)
    assert ran.out, ran.err
    report = ran.json
    return Shown(ran, report, Command(Path(report["repository"]), {**env, "FLEET_STATE": report["state"]}))


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """One demo, without a key and with an empty home."""
    demo = _shown(tmp_path_factory.mktemp("d"))
    yield demo
    demo.down()


@pytest.mark.requirement(
    "demo:offline:no-key", "demo:plugin:slash-command", "demo:report:everything-shown", "cli:json:everywhere"
)
def test_the_demo_changes_a_real_repository_without_a_key_and_its_tests_stay_green(shown: Shown) -> None:
    report = shown.report
    assert (shown.ran.code, report["ok"], report["problems"]) == (0, True, []), shown.ran.err
    assert report["rehearsal"] == "scout-plan-build"
    assert report["tests"]["before"]["passed"]
    assert report["tests"]["after"]["passed"]
    repository = Path(report["repository"])
    names = subprocess.run(
        ["git", "-c", "safe.directory=*", "diff", "--name-only"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    )
    assert names.stdout.split() == report["changes"]["files"]
    assert len(report["changes"]["files"]) >= 8
    assert report["changes"]["insertions"] >= 12
    assert "+def stock_level(sku, *, client):" in report["changes"]["diff"]
    for alike in ("vendor/acme.py", "inventory/suppliers.py", "inventory/metrics.py"):
        assert (repository / alike).read_text() == (ROOT / "examples" / "inventory" / alike).read_text()


@pytest.mark.requirement(
    "demo:scouts:exact-locations",
    "demo:builder:edits-and-tests",
    "demo:end:reports-and-deletes",
    "demo:report:everything-shown",
    "view:agent:all-fields",
    "workflow:scouts:parallel-own-models",
)
def test_its_agents_worked_in_parallel_and_are_reported_with_their_figures(shown: Shown) -> None:
    agents = {agent["name"]: agent for agent in shown.report["agents"]}
    assert len(shown.scouts) == 4
    assert set(agents) == {*shown.scouts, "planner", "builder"}
    for agent in agents.values():
        assert (agent["status"], agent["last_turn"], agent["rehearsal"]) == ("deleted", "complete", True)
        assert agent["tokens"] > 0
        assert agent["tool_calls"] > 0
    moments = [(event["kind"], event["name"]) for event in shown.events]
    begun = [moments.index(("turn.started", name)) for name in shown.scouts]
    ended = [moments.index(("turn.complete", name)) for name in shown.scouts]
    assert max(begun) < min(ended)
    bash = [event["body"]["summary"] for event in shown.events if event["body"].get("tool") == "Bash"]
    assert any("unittest" in summary for summary in bash)


@pytest.mark.requirement(
    "demo:chain:one-message", "demo:question:answered", "workflow:context:orchestrator-thousand-tokens"
)
def test_the_orchestrator_created_the_chain_in_one_message_and_answered_one_question(shown: Shown) -> None:
    said = shown.report["orchestrator"]
    assert said["model_turns"] <= 4
    assert said["usage"]["output_tokens"] > 0
    assert 0 < said["call_tokens"] + said["result_tokens"] < 2000
    rows = [json.loads(line) for line in Path(said["transcript"]).read_text().splitlines()]
    messages: dict[str, list[str]] = {}
    for row in rows:
        if row.get("type") == "assistant":
            calls = [block["name"] for block in row["message"]["content"] if block["type"] == "tool_use"]
            messages.setdefault(row["message"]["id"], []).extend(calls)
    first = next(calls for calls in messages.values() if calls)
    assert [name.rpartition("__")[2] for name in first] == ["create_agent"] * 6 + ["wait_for_agents"]
    kinds = [event["kind"] for event in shown.events]
    assert kinds.count("turn.waiting") == kinds.count("turn.answered") == 1


@pytest.mark.requirement("demo:report:everything-shown")
def test_what_it_says_to_look_at_next_works(shown: Shown) -> None:
    bin_directory = Path(shown.fleet.env["HOME"]) / "bin"
    bin_directory.mkdir()
    script = bin_directory / "fleet"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m orchestrator "$@"\n')
    script.chmod(0o755)
    env = {**shown.fleet.env, "PATH": f"{bin_directory}:{shown.fleet.env['PATH']}"}
    del env["FLEET_STATE"]
    for command in shown.report["next"]:
        done = subprocess.run(["sh", "-c", command], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stderr)


@pytest.mark.requirement("view:live:events-stream")
def test_it_shows_what_happens_while_it_happens(shown: Shown) -> None:
    lines = shown.ran.err.splitlines()
    order = [
        next(number for number, text in enumerate(lines) if all(word in text for word in words))
        for words in (
            ["orchestrator", f"create_agent {shown.scouts[0]}"],
            [shown.scouts[0], "started"],
            ["planner", "waiting", "question"],
            ["orchestrator", "command_agent planner"],
            ["builder", "runs", "unittest"],
            ["builder", "complete", "files +"],
        )
    ]
    assert order == sorted(order)
    assert "\x1b" not in shown.ran.err


def test_it_leaves_no_daemon_behind_unless_asked_to(tmp_path: Path) -> None:
    demo = _shown(tmp_path, CLAUDE_CODE_PATH="/bin/false")
    assert not _is_held(paths.lock_path(Path(demo.report["state"])))
    (tmp_path / "again").mkdir()
    kept = _shown(tmp_path / "again", "--keep", CLAUDE_CODE_PATH="/bin/false")
    assert _is_held(paths.lock_path(Path(kept.report["state"])))
    kept.down()


def _is_held(lock: Path) -> bool:
    with lock.open() as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.requirement("cli:exit:documented-codes")
def test_ctrl_c_ends_a_demo_with_130_and_everything_that_it_started(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    env = clean_env(tmp_path / "home", tmp_path / "unused")
    running = Command(tmp_path, env).start("demo", "--dir", str(tmp_path / "demo"))
    assert running.stderr is not None
    while "create_agent scout" not in running.stderr.readline():
        assert running.poll() is None
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=120)
    assert running.returncode == 130
    wait_until(lambda: not _alive_in(tmp_path), "the end of every process of the demo")


def _alive_in(place: Path) -> list[str]:
    """The command lines of processes whose working directory or environment lies there."""
    found: list[str] = []
    for process in psutil.process_iter(["cmdline"]):
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and str(place) in " ".join(process.environ().values()):
                found.append(" ".join(process.cmdline()))
    return found


def test_a_demo_that_comes_to_nothing_ends_with_1_and_says_why(tmp_path: Path) -> None:
    demo = _shown(tmp_path, CLAUDE_CODE_PATH="/bin/false")
    assert (demo.ran.code, demo.report["ok"]) == (1, False)
    assert any("exit code 1" in problem for problem in demo.report["problems"])
    assert any("created no agents" in problem for problem in demo.report["problems"])
    assert "no file in the repository was changed" in demo.report["problems"]


def test_a_demo_without_claude_or_room_says_so_and_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    env = clean_env(tmp_path / "home", tmp_path / "unused")
    missing = Command(tmp_path, env)("demo", "--dir", str(tmp_path / "demo"), CLAUDE_CODE_PATH="no-such-claude")
    assert missing.code == 3
    assert "CLAUDE_CODE_PATH" in missing.err
    assert not (tmp_path / "demo").exists()
    full = Command(tmp_path, env)("demo", "--dir", str(tmp_path))
    assert full.code == 2
    assert "not an empty directory" in full.err


@pytest.mark.requirement("demo:phases:one-by-one")
def test_the_variant_works_phase_by_phase(tmp_path: Path) -> None:
    demo = _shown(tmp_path, "--phases")
    assert demo.ran.code == 0, demo.report["problems"]
    moments = [(event["kind"], event["name"]) for event in demo.events]
    scouted = max(moments.index(("turn.complete", name)) for name in demo.scouts)
    planned = moments.index(("turn.complete", "planner"))
    assert scouted < moments.index(("agent.created", "planner"))
    assert planned < moments.index(("agent.created", "builder"))
    demo.down()


@pytest.mark.requirement("run:demo:either-way", "run:orchestrator:no-process-while-waiting")
def test_an_orchestrator_that_fleet_runs_does_the_same_job_and_is_reported_alike(shown: Shown, tmp_path: Path) -> None:
    demo = _shown(tmp_path, "--run")
    assert (demo.ran.code, demo.report["problems"]) == (0, []), demo.ran.err
    assert demo.report["changes"]["diff"] == shown.report["changes"]["diff"]
    assert [agent["name"] for agent in demo.report["agents"]] == [agent["name"] for agent in shown.report["agents"]]
    ours, theirs = demo.report["orchestrator"], shown.report["orchestrator"]
    assert set(ours) == set(theirs)
    assert ours["model_turns"] == theirs["model_turns"] <= 4
    assert ours["fleet_calls"] == theirs["fleet_calls"]
    assert abs(ours["call_tokens"] - theirs["call_tokens"]) <= 5
    assert 0 < ours["call_tokens"] + ours["result_tokens"] < 1500
    assert ours["usage"]["output_tokens"] > 0
    assert Path(ours["transcript"]).is_file()
    assert ours["answer"].splitlines()[0] == theirs["answer"].splitlines()[0]
    assert "sleeps until its agents are done or need it" in demo.ran.err
    demo.down()


def _login(home: Path) -> str:
    token = "sk-ant-oat01-planted-login"
    oauth = {
        "accessToken": token,
        "refreshToken": "sk-ant-ort01-planted",
        "expiresAt": int(time.time() + 86400) * 1000,
        "scopes": ["user:inference", "user:profile"],
        "subscriptionType": "max",
    }
    place = home / ".claude" / ".credentials.json"
    place.parent.mkdir(mode=0o700)
    place.write_text(json.dumps({"claudeAiOauth": oauth}))
    place.chmod(0o600)
    return token


def _token_variable(_: Path) -> dict[str, str]:
    return {"ANTHROPIC_AUTH_TOKEN": "sk-planted-variable"}


def _login_file(home: Path) -> dict[str, str]:
    _login(home)
    return {}


def _script_for_real_runs(place: Path) -> Path:
    """The shipped script, telling agents by their personas' prompts: a real run names them to no model."""
    text = (ROOT / "examples" / "scout-plan-build.yaml").read_text()
    for persona in ("scout", "planner", "builder"):
        assert f"persona: {persona}\n" in text
        text = text.replace(f"      persona: {persona}\n      task", f'      system: "You are a {persona}"\n      task')
    place.write_text(text)
    return place


def test_a_real_run_that_nobody_could_pay_for_is_refused_before_it_begins(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    fleet = Command(tmp_path, clean_env(tmp_path / "home", tmp_path / "unused"))
    for variables in ({}, {"CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-secret"}):
        refused = fleet("demo", "--real", "--dir", str(tmp_path / "demo"), **variables)
        assert refused.code == 1
        assert "log in" in refused.err
        assert "secret" not in refused.err
        assert not (tmp_path / "demo").exists()


@pytest.mark.requirement("demo:account:login-file", "demo:account:token-variable")
@pytest.mark.parametrize(
    ("plant", "token"),
    [(_login_file, "sk-ant-oat01-planted-login"), (_token_variable, "sk-planted-variable")],
)
def test_a_real_run_pays_with_the_users_own_login_or_token(
    plant: Callable[[Path], dict[str, str]], token: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    variables = plant(home)
    with rehearsal.start(_script_for_real_runs(tmp_path / "script.yaml"), log=tmp_path / "model.jsonl") as model:
        demo = _shown(
            tmp_path, "--real", ANTHROPIC_BASE_URL=model.url, CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1", **variables
        )
        calls = [record for record in model.log() if record["path"] == "/v1/messages"]
    assert demo.ran.code == 0, (demo.report["problems"], demo.ran.err[-3000:])
    assert demo.report["rehearsal"] is None
    digest = hashlib.sha256(token.encode()).hexdigest()
    assert {record["agent"] for record in calls} == {""}
    assert {record["part"] for record in calls} == {"orchestrator", "scout", "planner", "builder"}
    assert {record["credential"] for record in calls} == {"bearer"}
    assert all(digest.startswith(str(record["credential_hash"])) for record in calls)
    found = [
        path for path in tmp_path.rglob("*") if path.is_file() and token in path.read_bytes().decode(errors="replace")
    ]
    assert found == [home / ".claude" / ".credentials.json"] * (plant is _login_file)
