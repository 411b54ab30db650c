from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.daemon import wait_until
from tests.fixtures.fleet_command import Command

HEAVY = {"claude_agent_sdk", "anthropic", "sqlalchemy", "sqlmodel", "mcp", "httpx", "httpx2", "starlette", "jinja2"}
STARTERS = {"rm", "wait", "logs", "output", "create", "answer"}
"""commands whose mistake may be seen only with a daemon"""
COMMANDS = (
    "demo", "ps", "show", "logs", "output", "create", "command", "answer", "wait", "interrupt", "rm", "adopt", "up",
    "down", "doctor", "rehearse", "version", "daemon", "mcp",
)  # fmt: skip


@pytest.mark.requirement("cli:help:no-vendor-sdk")
@pytest.mark.parametrize("arguments", [["--help"], ["create", "--help"], ["demo", "--help"], ["version"], []])
def test_help_and_version_import_no_heavy_package(arguments: list[str], fleet: Command) -> None:
    seen = (
        "import sys; from orchestrator.cli import main; code = main(sys.argv[1:]); "
        f"print('LOADED', sorted({HEAVY!r} & sys.modules.keys()), code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", seen, *arguments],
        env=dict(fleet.env),
        cwd=fleet.cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1].startswith("LOADED [] "), done.stdout


def test_help_names_every_command_and_the_exit_codes(fleet: Command) -> None:
    shown = fleet("--help")
    assert shown.code == 0
    listed = [line.split()[0] for line in shown.out.splitlines() if line.startswith("  ") and line[2:3].isalpha()]
    assert set(COMMANDS) <= set(listed)
    assert "130" in shown.out


@pytest.mark.requirement("cli:exit:documented-codes")
@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["create"],
        ["create", "one"],
        ["create", "one", "do it", "--max-turns", "many"],
        ["ps", "--nope"],
        ["rm"],
        ["rm", "one", "--all"],
        ["rm", "one", "--project"],
        ["wait", "--timeout", "-1"],
        ["wait", "--timeout", "nan"],
        ["create", "one", "do it", "--max-cost-usd", "nan"],
        ["budget", "--max-seconds", "inf"],
        ["create", "one", os.fsdecode(b"caf\xe9")],
        ["answer", os.fsdecode(b"caf\xe9"), os.fsdecode(b"caf\xe9")],
        ["logs", "--tail", "-1"],
        ["output", "one", "--offset", "-1"],
        ["output", "one", "--turn", "0"],
        ["output", "one", "--limit", "0"],
        ["demo", "--timeout", "0"],
        ["rehearse"],
    ],
)
def test_bad_usage_ends_with_2_names_what_to_do_and_starts_nothing(
    arguments: list[str], fleet: Command, state: Path
) -> None:
    ran = fleet(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "-> " in ran.err
    assert not (state / "daemon.lock").exists() or arguments[0] in STARTERS
    assert "Traceback" not in ran.err


@pytest.mark.requirement("cli:exit:documented-codes", "cli:json:everywhere")
def test_a_task_on_stdin_that_is_no_text_is_one_document_too(fleet: Command) -> None:
    words = [sys.executable, "-m", "orchestrator", "create", "one", "-", "--json"]
    ran = subprocess.run(words, input=b"caf\xe9", env=dict(fleet.env), capture_output=True, check=False)
    assert ran.returncode == 2
    assert json.loads(ran.stdout)["error"]["kind"] == "InvalidError"
    assert b"Traceback" not in ran.stderr


@pytest.mark.requirement("cli:json:everywhere")
def test_with_json_a_mistake_is_one_document_on_stdout(fleet: Command) -> None:
    ran = fleet("rm", "--json")
    assert ran.code == 2
    assert ran.json["schema"] == 2
    assert ran.json["error"]["kind"] == "InvalidError"
    assert ran.json["error"]["hint"]
    assert fleet("nope", "--json").json["error"]["kind"] == "UsageError"


def test_version_says_which_build_this_is(fleet: Command) -> None:
    assert fleet("version").out.startswith("fleet 0.")
    assert fleet("version", "--json").json["build"] in fleet("version").out


def test_a_state_directory_that_others_can_write_is_refused_with_the_command_that_mends_it(
    fleet: Command, state: Path
) -> None:
    state.chmod(0o777)
    ran = fleet("ps")
    assert ran.code == 1
    assert "chmod go-rwx" in ran.err


def test_a_directory_that_is_gone_is_said_to_be_gone(fleet: Command, project: Path) -> None:
    script = f"rmdir {project}/gone; exec {sys.executable} -m orchestrator ps"
    (project / "gone").mkdir()
    done = subprocess.run(
        ["sh", "-c", script], cwd=project / "gone", env=dict(fleet.env), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no longer exists" in done.stderr


@pytest.mark.requirement("cli:exit:documented-codes")
def test_ctrl_c_ends_with_130(fleet: Command) -> None:
    script = fleet.cwd / "script.yaml"
    script.write_text("name: s\nparts: [{part: p, match: {}, replies: [{say: hello}]}]\n")
    playing = fleet.start("rehearse", str(script))
    assert playing.stdout is not None
    wait_until(lambda: "export" in playing.stdout.readline(), "the exported variables")  # pyright: ignore[reportOptionalMemberAccess] - checked above
    playing.send_signal(signal.SIGINT)
    playing.communicate(timeout=60)
    assert playing.returncode == 130


def test_a_reader_that_leaves_is_no_traceback(fleet: Command) -> None:
    line = f"{sys.executable} -m orchestrator --help | true"
    done = subprocess.run(
        ["sh", "-c", line], cwd=fleet.cwd, env=dict(fleet.env), capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
