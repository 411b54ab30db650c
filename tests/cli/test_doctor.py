from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.fixtures.daemon import Daemon, running_daemon
from tests.fixtures.fleet_command import Command, Ran
from tests.fixtures.leavers import tier_or_skip

SECRET = "sk-ant-very-secret-0123456789"


def _level(ran: Ran, name: str) -> str:
    (level,) = {check["level"] for check in ran.json["checks"] if check["name"] == name}
    return level


def _text(ran: Ran, name: str) -> str:
    return " ".join(f"{check['text']} {check['hint']}" for check in ran.json["checks"] if check["name"] == name)


@pytest.mark.requirement("cli:doctor:what-to-do")
def test_doctor_passes_on_a_sound_installation_and_starts_no_daemon(fleet: Command, state: Path) -> None:
    ran = fleet("doctor", "--json")
    assert ran.code == 0, ran.out
    assert {_level(ran, name) for name in ("python", "git", "claude", "state", "daemon", "plugin", "slots")} == {"ok"}
    assert "bundled" in _text(ran, "claude")
    assert not (state / "daemon.lock").exists()
    is_safe = sqlite3.sqlite_version_info >= (3, 51, 3)
    assert _level(ran, "sqlite") == ("ok" if is_safe else "warn")


@pytest.mark.requirement("cli:doctor:what-to-do")
def test_doctor_says_who_would_pay_and_never_the_secret(fleet: Command) -> None:
    nobody = fleet("doctor", "--json")
    assert _level(nobody, "account") == "warn"
    assert "log in" in _text(nobody, "account")
    key = fleet(
        "doctor", "--json", ANTHROPIC_API_KEY=SECRET, ANTHROPIC_BASE_URL=f"http://me:{SECRET}@models.example/v1"
    )
    assert "ANTHROPIC_API_KEY" in _text(key, "account")
    assert "models.example" in _text(key, "account")
    assert SECRET not in key.out + key.err
    login = Path(fleet.env["HOME"]) / ".claude" / ".credentials.json"
    login.parent.mkdir()
    login.write_text("{}")
    assert str(login) in _text(fleet("doctor", "--json"), "account")


@pytest.mark.requirement("cli:doctor:what-to-do")
def test_doctor_fails_with_1_and_says_what_to_do(fleet: Command, state: Path, tmp_path: Path) -> None:
    state.chmod(0o770)
    ran = fleet(
        "doctor", "--json", CLAUDE_CODE_PATH=str(tmp_path / "none"), PATH=str(tmp_path), AGENT_MAX_CONCURRENT="x"
    )
    assert ran.code == 1
    assert not ran.json["ok"]
    assert {_level(ran, name) for name in ("git", "claude", "state", "settings")} == {"fail"}
    assert "chmod go-rwx" in _text(ran, "state")
    assert "CLAUDE_CODE_PATH" in _text(ran, "claude")
    assert "AGENT_MAX_CONCURRENT" in _text(ran, "settings")
    for name in ("supervision", "http", "slots"):
        assert (_level(ran, name), _text(ran, name).strip()) == ("warn", "not checked: settings are invalid")
    plain = fleet("doctor", PATH=str(tmp_path))
    assert plain.code == 1
    assert "\x1b" not in plain.out
    assert "install git" in plain.out


def test_doctor_shows_a_setting_that_is_invalid_and_its_hint_once(fleet: Command) -> None:
    ran = fleet("doctor", AGENT_MAX_CONCURRENT="x")
    (at,) = [number for number, line in enumerate(ran.out.splitlines()) if " settings " in f" {line.split(':')[0]} "]
    shown, hint, *_ = ran.out.splitlines()[at:]
    assert shown.split()[:3] == ["fail", "settings", "AGENT_MAX_CONCURRENT='x':"]
    assert "->" not in shown
    assert hint.strip().startswith("-> correct the environment")


def test_doctor_colours_only_when_asked_to(fleet: Command) -> None:
    assert "\x1b[32mok" in fleet("doctor", FORCE_COLOR="1").out
    assert "\x1b" not in fleet("doctor", FORCE_COLOR="1", NO_COLOR="1").out


def test_doctor_names_the_daemon_that_runs(fleet: Command, daemon: Daemon) -> None:
    ran = fleet("doctor", "--json")
    assert f"pid {daemon.pid}" in _text(ran, "daemon")
    assert _level(ran, "daemon") == "ok"


@pytest.mark.requirement("process:tier:shown")
def test_doctor_shows_the_supervision_tier_and_how_to_get_a_better_one(fleet: Command, tmp_path: Path) -> None:
    tier_or_skip("A")
    best = fleet("doctor", "--json")
    assert _level(best, "supervision") == "ok"
    assert "tier A: pid namespace (bubblewrap)" in _text(best, "supervision")
    chosen = fleet("doctor", "--json", FLEET_SUPERVISION="C")
    assert _level(chosen, "supervision") == "ok"
    assert "set by FLEET_SUPERVISION" in _text(chosen, "supervision")
    assert "agents can read, change and move Fleet's state" in _text(chosen, "supervision")
    assert "agents can read" not in _text(best, "supervision")

    bare = tmp_path / "bin"
    bare.mkdir()
    for name in ("git", "sh"):
        (bare / name).symlink_to(str(shutil.which(name)))
    less = fleet("doctor", "--json", PATH=str(bare))
    assert less.code == 0
    assert _level(less, "supervision") == "warn"
    assert "bubblewrap is not installed" in _text(less, "supervision")
    assert "apt install bubblewrap" in _text(less, "supervision")

    impossible = fleet("doctor", "--json", PATH=str(bare), FLEET_SUPERVISION="A")
    assert (impossible.code, _level(impossible, "supervision")) == (1, "fail")
    assert "FLEET_SUPERVISION=A: bubblewrap is not installed" in _text(impossible, "supervision")


@pytest.mark.requirement("process:tier:shown")
def test_a_daemon_says_its_tier_and_doctor_when_it_should_be_started_again(fleet: Command, state: Path) -> None:
    tier_or_skip("A")
    with running_daemon(state, {**fleet.env, "FLEET_SUPERVISION": "C"}) as daemon:
        with daemon.http() as client:
            assert client.get("/v1/health").json()["supervision"].startswith("C: shim")
        assert "supervision C: shim" in fleet("up").out
        assert fleet("ps", "--json").json["totals"]["tier"] == "C"
        ran = fleet("doctor", "--json")
    found = [check for check in ran.json["checks"] if check["name"] == "supervision"]
    assert [check["level"] for check in found] == ["ok", "warn"]
    assert "the running daemon has tier C" in found[1]["text"]
    assert found[1]["hint"] == "fleet down && fleet up"


@pytest.mark.requirement("agent:self:never-own-orchestrator")
def test_doctor_warns_where_agents_can_read_the_token_of_the_http_port(fleet: Command, state: Path) -> None:
    def warned(**settings: str) -> str:
        return _text(fleet("doctor", "--json", **settings), "http")

    assert warned(FLEET_SUPERVISION="C") == ""
    port = warned(FLEET_SUPERVISION="C", FLEET_HTTP_PORT="0")
    assert "agents of tier C can read" in port
    assert "command the fleet that runs them over the HTTP port" in port
    assert "use tier A" in port
    (state / "http.token").touch()
    assert "as soon as one is open" in warned(FLEET_SUPERVISION="C")
    tier_or_skip("A")
    (state / "http.token").write_text("a-token\n")
    assert warned(FLEET_HTTP_PORT="0") == ""
    stored = Path(fleet.env["HOME"]) / ".claude.json"
    stored.write_text('{"headers": {"Authorization": "Bearer ${FLEET_TOKEN}"}}')
    assert warned(FLEET_HTTP_PORT="0") == ""
    stored.write_text('{"headers": {"Authorization": "Bearer a-token"}}')
    copied = warned(FLEET_HTTP_PORT="0")
    assert f"{stored} contains the token" in copied
    assert "a-token" not in copied
    stored.unlink()
    (state / "http.token").unlink()
    with running_daemon(state, {**fleet.env, "FLEET_SUPERVISION": "C", "FLEET_HTTP_PORT": "0"}):
        assert "agents of tier C can read" in warned()


@pytest.mark.requirement("process:tier:shown")
def test_a_daemon_that_cannot_keep_the_wished_tier_does_not_start(fleet: Command, tmp_path: Path) -> None:
    ran = fleet("up", FLEET_SUPERVISION="A", PATH=str(tmp_path))
    assert ran.code == 1
    assert "FLEET_SUPERVISION=A: bubblewrap is not installed" in ran.err


@pytest.mark.requirement("persona:files:as-claude-code")
def test_doctor_names_every_persona_file_that_cannot_be_used_and_what_was_left_out(fleet: Command) -> None:
    folder = fleet.cwd / ".claude" / "agents"
    folder.mkdir(parents=True)
    for name, line in {
        "a": "deny: Bsah",
        "b": "hooks: {PreToolUse: []}",
        "c": "verdict: maybe",
        "d": "x: &y z",
    }.items():
        (folder / f"{name}.md").write_text(f"---\nname: {name}\ndescription: d\n{line}\n---\nx\n")
    (folder / "README.md").write_text("# About these\n")
    text = _text(fleet("doctor", "--json"), "personas")
    assert "6 can be used here, 3 cannot" in text
    for told in ("did you mean Bash?", "Fleet runs no hooks", "leaves out verdict", "has an anchor"):
        assert told in text
    assert "README" not in text
