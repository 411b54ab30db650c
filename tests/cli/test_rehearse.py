from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.fixtures.daemon import ROOT, wait_until
from tests.fixtures.fleet_command import Command

GOOD = "name: greeting\nparts: [{part: all, match: {}, replies: [{say: hello}]}]\n"
ASK = """
import json, os, urllib.request
asked = urllib.request.Request(
    os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages",
    data=json.dumps({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}).encode(),
    headers={"content-type": "application/json", "x-api-key": os.environ["ANTHROPIC_API_KEY"]},
)
said = json.load(urllib.request.urlopen(asked))
names = ("FLEET_STATE", "CLAUDE_CONFIG_DIR", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "HOME", "FLEET_REHEARSAL",
         "CLAUDE_CODE_USE_FOUNDRY", "ANTHROPIC_FOUNDRY_API_KEY", "FLEET_HTTP_PORT")
print(json.dumps({"said": said["content"][0]["text"], **{name: os.environ.get(name) for name in names}}))
raise SystemExit(7)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    place = tmp_path / "script.yaml"
    place.write_text(GOOD)
    return place


@pytest.mark.requirement("cli:rehearse:own-state-directory", "rehearsal:command:before-paying")
def test_a_program_inside_a_rehearsal_has_a_model_and_a_state_directory_of_its_own(
    fleet: Command, script: Path
) -> None:
    real = dict.fromkeys(("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_FOUNDRY_API_KEY"), "real")
    mine = {**real, "CLAUDE_CODE_USE_FOUNDRY": "1", "FLEET_HTTP_PORT": "0"}
    ran = fleet("rehearse", str(script), "--", sys.executable, "-c", ASK, **mine)
    assert ran.code == 7, ran.err
    told = json.loads(ran.out)
    assert told["said"] == "hello"
    assert told["ANTHROPIC_API_KEY"] != "real"
    gone = ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_FOUNDRY_API_KEY", "CLAUDE_CODE_USE_FOUNDRY", "FLEET_HTTP_PORT")
    assert [told[name] for name in gone] == [None] * len(gone)
    assert told["FLEET_REHEARSAL"] == "script"
    assert told["HOME"] == fleet.env["HOME"]
    assert told["FLEET_STATE"] != fleet.env["FLEET_STATE"]
    assert not Path(told["FLEET_STATE"]).exists()


@pytest.mark.requirement("cli:rehearse:own-state-directory")
def test_a_rehearsal_runs_nothing_that_the_project_calls_orchestrator(
    fleet: Command, script: Path, project: Path
) -> None:
    theirs = project / "orchestrator"
    theirs.mkdir()
    (theirs / "__init__.py").write_text("print('theirs')")
    playing = "import sys; from orchestrator import rehearsal; from pathlib import Path\n"
    playing += "with rehearsal.start(Path(sys.argv[1])) as it: print(it.url)"
    words = [sys.executable, "-P", "-c", playing, str(script)]
    ran = subprocess.run(words, cwd=project, env=dict(fleet.env), capture_output=True, text=True, check=False)
    assert ran.stdout.startswith("http://127.0.0.1:"), ran.stderr


@pytest.mark.requirement("cli:rehearse:own-state-directory")
def test_the_environment_of_a_rehearsal_is_printed_and_works_until_it_is_ended(fleet: Command, script: Path) -> None:
    playing = fleet.start("rehearse", str(script), "--json")
    assert playing.stdout is not None
    told = json.loads(playing.stdout.readline())
    assert told["environment"]["ANTHROPIC_BASE_URL"] == told["url"]
    with urllib.request.urlopen(told["url"] + "/rehearsal/health") as answer:
        assert answer.status == 200
    playing.terminate()
    playing.communicate(timeout=60)
    assert playing.returncode == 143
    assert not Path(told["environment"]["FLEET_STATE"]).exists()


@pytest.mark.requirement("cli:rehearse:own-state-directory")
def test_checking_a_script_names_its_parts_or_its_mistakes_with_their_lines(fleet: Command, script: Path) -> None:
    shipped = fleet("rehearse", str(ROOT / "examples" / "scout-plan-build.yaml"), "--check", "--json")
    assert shipped.code == 0, shipped.out
    assert {"scout", "planner", "builder"} <= set(shipped.json["parts"])
    script.write_text(GOOD.replace("replies", "repliez"))
    ran = fleet("rehearse", str(script), "--check")
    assert ran.code == 2
    assert f"{script}:2" in ran.err


def test_a_script_or_program_that_is_not_there_ends_with_3(fleet: Command, script: Path) -> None:
    missing = fleet("rehearse", "none.yaml")
    assert missing.code == 3
    assert "scout-plan-build.yaml" in missing.err
    assert fleet("rehearse", str(script), "--", "no-such-program-here").code == 3


@pytest.mark.requirement("cli:rehearse:own-state-directory")
def test_agents_inside_a_rehearsal_live_in_a_daemon_of_its_own_that_ends_with_it(
    fleet: Command, script: Path, state: Path
) -> None:
    inner = f"{sys.executable} -m orchestrator"
    line = f"{inner} create one hi --wait --json && {inner} up --json"
    ran = fleet("rehearse", str(script), "--", "sh", "-c", line)
    assert ran.code == 0, ran.err
    digest, _, health = ran.out.partition("}\n{")
    assert json.loads(f"{digest}}}")["outcomes"][0]["status"] == "complete"
    told = json.loads("{" + health)
    assert told["rehearsal"]
    assert told["state"] != str(state)
    assert not (state / "daemon.lock").exists()
    wait_until(lambda: _has_ended(told["pid"]), "the end of the rehearsal's daemon")


def _has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
