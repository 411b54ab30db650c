"""Paths of a fleet, the project of a directory, the content of a hello, and the environment of a daemon."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import launch, pass_env, paths
from tests.fixtures.daemon import ROOT


def test_the_state_directory_is_the_first_one_named_and_is_made_private(tmp_path: Path) -> None:
    names = {
        "FLEET_STATE": tmp_path / "fleet",
        "AGENT_STATE_ROOT": tmp_path / "agent",
        "XDG_STATE_HOME": tmp_path / "xdg",
        "HOME": tmp_path / "home",
    }
    env = {name: str(place) for name, place in names.items()}
    for name, place_named in names.items():
        place = paths.state_dir(env)
        expected = {"XDG_STATE_HOME": tmp_path / "xdg" / "fleet", "HOME": tmp_path / "home/.local/state/fleet"}
        if sys.platform != "darwin" or name != "HOME":
            assert place == expected.get(name, place_named)
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        if name != "HOME":
            env[name] = ""  # an empty variable counts as not set


def test_a_relative_state_directory_and_one_below_the_home_become_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert paths.state_dir({"FLEET_STATE": "a/../state", "HOME": "/nonexistent"}) == tmp_path / "state"
    assert paths.state_dir({"FLEET_STATE": "~/state", "HOME": str(tmp_path / "h")}) == tmp_path / "h" / "state"


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o1777])
def test_a_state_directory_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(paths.StateError, match=rf"(?s){tmp_path}.*chmod go-rwx.*FLEET_STATE"):
        paths.state_dir({"FLEET_STATE": str(tmp_path)})
    tmp_path.chmod(0o700)


def test_a_file_in_the_place_of_the_state_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "file/below"):
        with pytest.raises(paths.StateError, match=r"cannot be created.*FLEET_STATE"):
            paths.state_dir({"FLEET_STATE": str(tmp_path / name)})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_state_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, -1)
    with pytest.raises(paths.StateError, match=r"belongs to user 65534.*FLEET_STATE"):
        paths.state_dir({"FLEET_STATE": str(tmp_path)})


def test_a_socket_below_a_long_path_can_still_be_bound_and_is_private(tmp_path: Path) -> None:
    state = paths.state_dir({"FLEET_STATE": str(tmp_path / ("long" * 50))})
    path = paths.socket_path(state, "mcp.sock")
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
        assert paths.socket_path(state, "http.sock").parent == path.parent
        assert paths.socket_path(tmp_path / ("other" * 50), "mcp.sock").parent != path.parent
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        path.parent.chmod(0o755)
        with pytest.raises(paths.StateError, match="chmod"):
            paths.socket_path(state, "mcp.sock")
    finally:
        shutil.rmtree(path.parent)
        shutil.rmtree(paths.socket_path(tmp_path / ("other" * 50), "mcp.sock").parent)


def test_a_short_path_keeps_its_socket_in_the_state_directory() -> None:
    assert paths.socket_path(Path("/run/fleet"), "mcp.sock") == Path("/run/fleet/mcp.sock")


def test_a_project_is_the_top_of_its_working_tree_however_it_is_reached(project: Path, tmp_path: Path) -> None:
    (project / "a" / "b").mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(project / "a")
    tree = tmp_path / "linked-tree"
    subprocess.run(["git", "worktree", "add", "-q", str(tree)], cwd=project, check=True)
    (tree / "deep").mkdir()
    for place, expected in (
        (project, project),
        (project / "a" / "b", project),
        (link / "b", project),
        (tree / "deep", tree),
        (tmp_path, tmp_path),
        (tmp_path / "gone", tmp_path / "gone"),
    ):
        assert paths.project_of(place) == str(expected.resolve())
        if place.is_dir() and place != tmp_path:
            top = ["git", "rev-parse", "--show-toplevel"]
            assert subprocess.run(top, cwd=place, capture_output=True, text=True, check=True).stdout.strip() == str(
                expected
            )


def test_a_folder_that_is_only_called_git_makes_no_project(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "a").mkdir()
    assert paths.project_of(tmp_path / "a") == str((tmp_path / "a").resolve())


def test_any_edit_of_the_package_is_another_build_and_a_copy_is_the_same(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "orchestrator", tmp_path / "orchestrator", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(tmp_path, tmp_path / "copy", ignore=shutil.ignore_patterns("copy"))

    def build(place: Path) -> str:
        code = "from orchestrator import paths; print(paths.build())"
        env = {"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
        ran = subprocess.run(
            [sys.executable, "-c", code], env=env, cwd=place, capture_output=True, check=True, text=True
        )
        return ran.stdout.strip()

    first = build(tmp_path)
    assert first.startswith("0.")
    assert build(tmp_path / "copy") == first
    edited = tmp_path / "orchestrator" / "domain" / "agent.py"
    edited.write_text(edited.read_text() + "\n")
    second = build(tmp_path)
    assert second != first
    (tmp_path / "orchestrator" / "new.py").touch()
    assert build(tmp_path) not in {first, second}


HOST = {
    "ANTHROPIC_API_KEY": "key",
    "ANTHROPIC_BASE_URL": "http://127.0.0.1:1",
    "AWS_PROFILE": "work",
    "CLAUDE_CONFIG_DIR": "/c",
    "CLAUDE_CODE_SESSION_ID": "host-1",
    "CLAUDE_CODE_MESSAGING_TOKEN": "token",
    "FLEET_PASS_ENV": "GITHUB_TOKEN,LD_PRELOAD",
    "FLEET_STATE": "/s",
    "AGENT_MAX_CONCURRENT": "3",
    "GITHUB_TOKEN": "token",
    "HOME": "/home/me",
    "HTTPS_PROXY": "http://me:pass@proxy:1",
    "LC_TIME": "C",
    "LD_PRELOAD": "x.so",
    "PATH": "/bin",
    "PYTHONPATH": "/elsewhere",
    "SSH_AUTH_SOCK": "/tmp/agent",
    "https_proxy": "http://proxy:1",
}


def test_a_hello_says_who_pays_and_what_an_agent_may_know_and_nothing_more(project: Path) -> None:
    assert paths.hello(HOST, str(project)) == {
        "build": paths.build(),
        "project": str(project),
        "cwd": str(project),
        "orchestrator": "host-1",
        "wait_seconds": None,
        "account": {
            name: HOST[name] for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "AWS_PROFILE", "CLAUDE_CONFIG_DIR")
        },
        "environment": {
            **{name: HOST[name] for name in ("HOME", "HTTPS_PROXY", "LC_TIME", "PATH", "SSH_AUTH_SOCK", "https_proxy")},
            "FLEET_UMASK": pass_env.umask(),
        },
        "pass_env": "GITHUB_TOKEN,LD_PRELOAD",
        "passed": {"GITHUB_TOKEN": "token"},
    }
    assert paths.hello({}, "/")["orchestrator"] is None
    assert paths.hello({**HOST, "FLEET_SESSION": "my\x1b window"}, "/")["orchestrator"] == "my window"


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("ANTHROPIC_API_KEY", "x", True),
        ("AWS_SESSION_TOKEN", "", True),
        ("HTTPS_PROXY", "http://me:pass@proxy:8080/", True),
        ("https_proxy", "me:pass@proxy:8080", True),
        ("ANTHROPIC_BASE_URL", "https://me:pass@models.example", True),
        ("ANTHROPIC_BASE_URL", "https://models.example/@v1", False),
        ("HTTPS_PROXY", "http://proxy:8080", False),
        ("NO_PROXY", "localhost,.example", False),
        ("USER", "me@work", False),
        ("PATH", "/bin", False),
    ],
)
def test_keys_tokens_and_passwords_in_addresses_are_secrets(name: str, value: str, *, secret: bool) -> None:
    assert paths.is_secret(name, value) is secret


def test_the_daemon_inherits_settings_and_places_and_nobodys_account(tmp_path: Path) -> None:
    env = launch.daemon_environment(tmp_path, HOST)
    assert env == {
        "AGENT_MAX_CONCURRENT": "3",
        "FLEET_PASS_ENV": "GITHUB_TOKEN,LD_PRELOAD",
        "FLEET_STATE": str(tmp_path),
        "HOME": "/home/me",
        "LC_TIME": "C",
        "PATH": "/bin",
        "PYTHONPATH": str(ROOT),
    }
    assert not paths.ACCOUNT & set(env)


def test_an_installed_daemon_loads_no_modules_from_where_its_starter_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "PACKAGE", tmp_path / "site-packages" / "orchestrator")
    assert HOST["PYTHONPATH"]
    assert "PYTHONPATH" not in launch.daemon_environment(tmp_path, HOST)
    assert "PYTHONPATH" not in paths.with_package_path(HOST)
