"""The checks of `fleet doctor`: each inspects one thing and reports ok, warn or fail, and what to do.

A check leaves no process behind and never prints a secret. It creates the state directory if it does not exist.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from orchestrator import pass_env, paths, untrusted
from orchestrator.cli.doctor.persona_probe import personas
from orchestrator.cli.doctor.result import FAIL, OK, WARN, ProbeResult
from orchestrator.cli.render import output
from orchestrator.domain.text import listed, named, named_path
from orchestrator.errors import FleetError

if TYPE_CHECKING:
    from orchestrator.fleet.views import Health
    from orchestrator.settings import Settings

_SAFE_SQLITE = (3, 51, 3)
_GIB = 1 << 30
_PROGRAM_SECONDS = 20.0
_COPY_BYTES = 64 * 2**20


Environment = Mapping[str, str]


def all_checks(environment: Environment) -> Iterator[ProbeResult]:
    """Run all checks, in the order in which to fix them; a check that raises counts as failed.

    If the settings are invalid, each check that needs them is a warning that says so.
    """
    from orchestrator.settings import read_settings

    checks = {name: partial(look, environment) for name, look in _CHECKS.items()}
    try:
        settings = read_settings(environment)
    except FleetError as error:
        yield _failed("settings", error)
        unchecked = [ProbeResult(name, WARN, "not checked: settings are invalid") for name in _SETTINGS_RESULTS]
    else:
        unchecked = []
        checks |= {name: partial(look, environment, settings) for name, look in _SETTINGS_CHECKS.items()}
    for name, check in checks.items():
        try:
            yield from check()
        except (FleetError, OSError, subprocess.SubprocessError, ValueError) as error:
            yield _failed(name, error)
    yield from unchecked


def _failed(name: str, error: Exception) -> ProbeResult:
    message, hint = (error.message, error.hint) if isinstance(error, FleetError) else (str(error), "")
    return ProbeResult(name, FAIL, message, hint or "fix this first")


def _python(_: Environment) -> Iterator[ProbeResult]:
    level = OK if sys.version_info >= (3, 11) else FAIL
    yield ProbeResult(
        "python",
        level,
        f"{platform.python_version()} at {named_path(sys.executable)}",
        "" if level == OK else "use Python 3.11 or newer",
    )


def _sqlite(_: Environment) -> Iterator[ProbeResult]:
    found = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info >= _SAFE_SQLITE:
        yield ProbeResult("sqlite", OK, found)
    else:
        wanted = ".".join(map(str, _SAFE_SQLITE))
        text = f"{found} has the WAL-reset bug, which can, rarely, damage a database that several processes write to"
        yield ProbeResult(
            "sqlite",
            WARN,
            text,
            f"use a Python with SQLite {wanted} or newer; Fleet itself writes from one process only",
        )


def _git(environment: Environment) -> Iterator[ProbeResult]:
    from orchestrator.supervision import programs

    program = programs.find("git", environment.get("PATH"))
    if program is None:
        yield ProbeResult(
            "git",
            FAIL,
            "not found on PATH outside of projects",
            "install git: projects, changes and diffs come from it",
        )
    else:
        yield ProbeResult(
            "git", OK, f"{named(_said(program, environment).removeprefix('git version '))} at {named_path(program)}"
        )


def _claude(environment: Environment) -> Iterator[ProbeResult]:
    from orchestrator.cli.programs import claude_program

    program = claude_program(environment)
    version = _said(str(program), environment).removesuffix(" (Claude Code)")
    source = "CLAUDE_CODE_PATH" if environment.get("CLAUDE_CODE_PATH") else "bundled"
    yield ProbeResult("claude", OK, f"{named(version)} ({source}) at {named_path(program)}")


def _said(program: str, environment: Environment) -> str:
    """Return the first line that `program --version` prints.

    Raises:
        OSError, SubprocessError: the program could not be run or failed.
    """
    kept = {name: value for name, value in environment.items() if name in {"PATH", "HOME", "LANG", "TMPDIR"}}
    done = subprocess.run(
        [program, "--version"],
        env=kept,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_PROGRAM_SECONDS,
        check=True,
    )
    return done.stdout.decode(errors="replace").strip().partition("\n")[0]


def _account(environment: Environment) -> Iterator[ProbeResult]:
    from orchestrator.cli.http.account import LOG_IN, payer_of

    payer = payer_of(environment)
    endpoint = environment.get("ANTHROPIC_BASE_URL", "")
    host = urlsplit(endpoint).hostname
    at = f", at {named(host) if host else 'an unreadable address'} (ANTHROPIC_BASE_URL)" if endpoint else ""
    if not payer.trouble:
        yield ProbeResult("account", OK, f"{payer.text} would pay{at}")
    else:
        text = ": ".join(filter(None, [payer.text, payer.trouble]))
        yield ProbeResult("account", WARN, f"{text}{at}", f"{LOG_IN} (fleet demo needs none)")


def _agent_environment(environment: Environment) -> Iterator[ProbeResult]:
    """Report what of this shell's environment its agents get besides the account, without any value."""
    socket = environment.get(paths.SSH_AGENT)
    if not socket:
        yield ProbeResult("ssh-agent", OK, "none here (SSH_AUTH_SOCK is not set)")
    elif Path(socket).is_socket():
        yield ProbeResult("ssh-agent", OK, f"{named_path(socket)}, passed to agents that have a shell")
    else:
        text = f"SSH_AUTH_SOCK is {named_path(socket)}, which is not a socket: agents cannot sign or push with it"
        yield ProbeResult("ssh-agent", WARN, text, "start ssh-agent, or unset SSH_AUTH_SOCK")
    asked = environment.get(pass_env.VARIABLE)
    if wrong := pass_env.problem(asked):
        yield ProbeResult("variables", FAIL, wrong, f"correct {pass_env.VARIABLE}: with it no agent can be created")
    elif names := pass_env.names(asked):
        passed = pass_env.passed(environment)
        missing = [name for name in names if name not in passed]
        text = f"{pass_env.VARIABLE} passes {', '.join(passed) or 'nothing'} to agents"
        text += f"; not set here: {', '.join(missing)}" if missing else ""
        yield ProbeResult("variables", WARN if missing else OK, text, "set them, or remove them" if missing else "")
    else:
        yield ProbeResult(
            "variables", OK, f"only those of docs/reference.md pass to agents ({pass_env.VARIABLE} is not set)"
        )


def _state(environment: Environment) -> Iterator[ProbeResult]:
    from orchestrator import launch

    try:
        state = paths.state_dir(environment)
        sockets = [paths.socket_path(state, name).parent for name in (launch.MCP_SOCKET, launch.HTTP_SOCKET)]
    except paths.StateError as error:
        yield ProbeResult("state", FAIL, str(error))
        return
    free = shutil.disk_usage(state).free
    level, hint = OK, ""
    if free < _GIB:
        level, hint = (
            (FAIL if free < _GIB // 16 else WARN),
            "free some space, or set FLEET_STATE to a directory on a larger disk",
        )
    text = f"{named_path(state)} (mode {state.stat().st_mode & 0o7777:04o}, {free / _GIB:.1f} GiB free)"
    if sockets[0] != state:
        text += f"; its path is too long for sockets, so they are in {named_path(sockets[0])}"
    yield ProbeResult("state", level, text, hint)
    if moved := paths.moved_note(state):
        advice = (
            f"fleet down, move that one back to {named_path(state)}, fleet up; "
            f"to keep this one: rm {named_path(paths.moved_note_path(state))}"
        )
        yield ProbeResult("moved", WARN, output.moved_words(moved), advice)


def _daemon(environment: Environment) -> Iterator[ProbeResult]:
    from orchestrator.cli.http.client import Client, target

    try:
        state = paths.state_dir(environment)
    except paths.StateError:
        yield ProbeResult(
            "daemon", WARN, "unknown, because the state directory is not usable", "fix the state directory"
        )
        return
    with Client(target(environment, str(state)), start=False) as client:
        health = client.health()
    log = paths.log_path(state)
    if health is None:
        yield ProbeResult("daemon", OK, f"not running; the next command starts it (log: {named_path(log)})")
        return
    text = f"pid {health.pid}, build {health.build}, {health.working} working, {health.waiting} waiting"
    text += f", log {named_path(log)}"
    text += f"; HTTP at {health.http} (MCP at {health.http}/mcp)" if health.http else ""
    if health.lost_events:
        lost = f"{health.lost_events} events were lost: the database was damaged or replaced while no daemon ran"
        yield ProbeResult("history", WARN, lost, "agents may show an older status: check them with fleet ps")
    if health.build == paths.build():
        yield ProbeResult("daemon", OK, text)
    else:
        yield ProbeResult("daemon", WARN, f"{text}; this command is build {paths.build()}", "fleet down && fleet up")


def _supervision(environment: Environment, settings: Settings) -> Iterator[ProbeResult]:
    from orchestrator.supervision.tiers import choose_tier

    found = choose_tier(settings.supervision, environment.get("PATH"))
    text = f"tier {found}" + ("" if found.hides else "; agents can read, change and move Fleet's state")
    if found.limitation:
        text += f" ({found.limitation})"
    if found.hides:
        text += "; it does not contain what an agent starts through Docker, ssh localhost, crontab or login files"
    text += _tracing()
    restart = "fleet down && fleet up"
    if settings.supervision:
        yield ProbeResult("supervision", OK, f"{text}, set by FLEET_SUPERVISION")
    else:
        advice = f"for tier A: {found.advice}; then {restart}" if found.letter in "BC" else found.advice
        yield ProbeResult("supervision", WARN if found.limitation else OK, text, advice if found.limitation else "")
    health = _health(environment)
    if health is not None and not health.supervision.startswith(found.letter):
        yield ProbeResult("supervision", WARN, f"the running daemon has tier {health.supervision}", restart)
    tiers = {found.letter, health.supervision[:1] if health is not None else found.letter}
    has_port = settings.http_port is not None or (health is not None and bool(health.http))
    yield from _port(environment, has_port, "".join(sorted(tiers - {"A"})))


def _tracing() -> str:
    """What Linux lets an agent's own programs do to its `claude`; '' if it lets them do nothing."""
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    if sys.platform != "linux" or (scope.exists() and scope.read_text().strip() != "0"):
        return ""
    return "; what an agent starts can trace the agent's own claude (kernel.yama.ptrace_scope is 0 or missing)"


def _port(environment: Environment, is_open: bool, seeing: str) -> Iterator[ProbeResult]:
    """Warn if agents can read the token of the HTTP port: over TCP, Fleet cannot see that the caller is an agent."""
    try:
        token = paths.token_path(paths.state_dir(environment))
    except paths.StateError:
        return
    if seeing and (is_open or token.exists()):
        text = f"agents of tier {' or '.join(seeing)} can read {named_path(token)} and command the fleet that runs "
        text += "them over "
        text += "the HTTP port" if is_open else "an HTTP port, as soon as one is open"
        yield ProbeResult(
            "http", WARN, text, "use tier A; or unset FLEET_HTTP_PORT, remove the token, and run fleet down"
        )
    elif is_open and (copies := _copies(environment, token)):
        text = f"{' and '.join(copies)} contains the token of the HTTP port, so agents of tier A can read it, too, and "
        text += "command the fleet that runs them"
        advice = f"refer to a variable there instead (${{FLEET_TOKEN}}), remove {named_path(token)}, and run fleet down"
        yield ProbeResult("http", WARN, text, advice)


def _copies(environment: Environment, token: Path) -> list[str]:
    """Return the configuration files of Claude Code, as a host, that contain the token."""
    home = environment.get("CLAUDE_CONFIG_DIR") or environment.get("HOME") or ""
    places = [Path(home, ".claude.json"), Path(paths.project_of(Path.cwd()), ".mcp.json")]
    found: list[str] = []
    with suppress(OSError):
        word = token.read_bytes().strip()
        for place in places:
            with suppress(OSError):
                found += [named_path(place)] if word and word in untrusted.head(place, _COPY_BYTES) else []
    return found


def _health(environment: Environment) -> Health | None:
    """Return what the running daemon reports, or None if none runs."""
    from orchestrator.cli.http.client import Client, target

    try:
        state = paths.state_dir(environment)
    except paths.StateError:
        return None
    with Client(target(environment, str(state)), start=False) as client:
        return client.health()


def _plugin(_: Environment) -> Iterator[ProbeResult]:
    from orchestrator.cli.http.json_shape import as_list, as_object
    from orchestrator.cli.programs import plugin_root

    root = plugin_root()
    manifest = as_object(json.loads((root / ".claude-plugin" / "plugin.json").read_text(encoding="utf-8")))
    files = [str(item) for key in ("commands", "agents") for item in as_list(manifest.get(key))]
    files += [value for key in ("mcpServers", "hooks") if isinstance(value := manifest.get(key), str)]
    missing = [name for name in [*files, "bin/fleet-mcp"] if not (root / name).is_file()]
    if missing:
        yield ProbeResult(
            "plugin", FAIL, f"{named_path(root)} lacks {listed(missing, len(missing))}", "reinstall agent-fleet"
        )
    else:
        yield ProbeResult(
            "plugin",
            OK,
            f"{named_path(root)} ({len(files)} files); use it with: claude --plugin-dir {named_path(root)}",
        )


def _slots(_: Environment, settings: Settings) -> Iterator[ProbeResult]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    chosen = "AGENT_MAX_CONCURRENT" if "slots" in settings.model_fields_set else "from cores and memory"
    yield ProbeResult(
        "slots", OK, f"{settings.slots} agents may work at once ({chosen}; {os.cpu_count()} cores, {memory:.1f} GiB)"
    )


_CHECKS: dict[str, Callable[[Environment], Iterator[ProbeResult]]] = {
    "python": _python,
    "sqlite": _sqlite,
    "git": _git,
    "claude": _claude,
    "account": _account,
    "variables": _agent_environment,
    "state": _state,
    "daemon": _daemon,
    "plugin": _plugin,
    "personas": personas,
}
_SETTINGS_CHECKS: dict[str, Callable[[Environment, Settings], Iterator[ProbeResult]]] = {
    "supervision": _supervision,
    "slots": _slots,
}
_SETTINGS_RESULTS = ("supervision", "http", "slots")
"""what the checks that need settings report on"""
