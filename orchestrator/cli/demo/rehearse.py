"""The command `rehearse`: play a script as the model, with a state directory and a daemon of its own."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator import paths
from orchestrator.cli.options import AsJson
from orchestrator.cli.render import output
from orchestrator.errors import FleetError, InvalidError, NotFoundError, StoreError

if TYPE_CHECKING:
    from orchestrator.cli.http.client import Client, Target
    from orchestrator.rehearsal import Rehearsal


def rehearse(
    script: Annotated[Path, typer.Argument(help="The script (YAML).", show_default=False)],
    command: Annotated[
        list[str] | None, typer.Argument(help="A program to run inside it, behind --.", show_default=False)
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only validate the script.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep its state directory at the end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Play a script as the model, for nothing.

    Agents, tools and files are real. It has a state directory and a daemon of its own. Without a program behind --
    it prints the variables that put another shell inside, and plays until Ctrl-C.
    """
    if not script.is_file():
        raise NotFoundError(
            f"there is no script {script}", hint=f"one that ships: {paths.asset('examples') / 'scout-plan-build.yaml'}"
        )
    parts = checked_script(script)
    if check:
        if as_json:
            output.document({"script": str(script), "valid": True, "parts": parts})
        else:
            print(f"{script}: valid, {len(parts)} parts: {', '.join(parts)}")
        return
    raise typer.Exit(_play(script, command or [], keep=keep, as_json=as_json))


def checked_script(script: Path) -> list[str]:
    """The names of the script's parts, once it is known to be valid.

    Raises:
        InvalidError: with file, line and what is wrong.
    """
    from orchestrator.rehearsal.script import ScriptError, load

    try:
        return [part.part for part in load(script).script.parts]
    except ScriptError as error:
        raise InvalidError(str(error), hint="correct the script") from error


def _play(script: Path, command: list[str], *, keep: bool, as_json: bool) -> int:
    from orchestrator import rehearsal
    from orchestrator.cli.demo.sandbox import new_root

    root = new_root(None)
    try:
        with rehearsal.start(script, log=root / "rehearsal.jsonl") as playing:
            environment, unset = overlay(os.environ, root=root, url=playing.url, script=script.stem)
            whole = {name: value for name, value in os.environ.items() if name not in unset} | environment
            try:
                if command:
                    return _run(command, whole)
                _announce(playing, environment, unset, as_json=as_json)
                threading.Event().wait()  # until a signal
            finally:
                stop_daemon(whole)
    except rehearsal.RehearsalError as error:
        raise FleetError(f"the rehearsal did not start: {error}", hint="fleet rehearse --check SCRIPT") from error
    finally:
        if keep:
            output.say(f"kept: {root}")
        else:
            shutil.rmtree(root, ignore_errors=True)
    return 0


def overlay(user: Mapping[str, str], *, root: Path, url: str, script: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """The variables that put a program inside the rehearsal, and those of the user's account and fleet that must go.

    The state directory and Claude's configuration directory lie below `root`; the home stays the user's.
    """
    from orchestrator.cli.demo.sandbox import rehearsal_environment

    state, configuration = root / "state", root / "claude"
    for place in (state, configuration):
        place.mkdir(mode=0o700, exist_ok=True)
    home = Path(user.get("HOME") or Path.home())
    wanted = rehearsal_environment(user, home=home, state=state, url=url, script=script)
    wanted |= {"CLAUDE_CONFIG_DIR": str(configuration)}
    changed = {name: value for name, value in wanted.items() if user.get(name) != value}
    foreign = {name for name in user if name in paths.ACCOUNT | {"AGENT_STATE_ROOT"} or name.startswith("FLEET_")}
    return changed, tuple(sorted(foreign - wanted.keys()))


def _announce(playing: Rehearsal, environment: Mapping[str, str], unset: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        output.json_line(
            {"url": playing.url, "pid": playing.pid, "log": str(playing.log_path)}
            | {"environment": dict(environment), "unset": list(unset)}
        )
        return
    for name in unset:
        print(f"unset {name}")
    for name, value in environment.items():
        print(f"export {name}={shlex.quote(value)}", flush=True)
    output.say(
        f"playing at {playing.url}, log {playing.log_path}; use these variables in another shell. Ctrl-C ends it."
    )


def _run(command: list[str], environment: Mapping[str, str]) -> int:
    try:
        child = subprocess.Popen(command, env=dict(environment))
    except OSError as error:
        raise NotFoundError(f"{command[0]} cannot be started: {error.strerror}", hint="check the name") from error
    with _interrupts_left_to(child):
        code = child.wait()
    return code if code >= 0 else 128 - code


@contextlib.contextmanager
def _interrupts_left_to(child: subprocess.Popen[bytes]) -> Generator[None]:
    """Ctrl-C reaches the child by itself; here it only must not end us before the child."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if child.poll() is None:
            child.terminate()
            child.wait()


def stop_daemon(environment: Mapping[str, str]) -> None:
    """End the daemon of this environment, if one runs; its turns are interrupted."""
    from orchestrator.cli.http.client import Client, target

    to = target(environment, "/")
    with Client(to, start=False) as client:
        stop(client, to)


def stop(client: Client, to: Target) -> None:
    """End the daemon that the client talks to and wait for it; harmless if none runs."""
    from orchestrator.cli.verbs.daemon import wait_until_gone

    with contextlib.suppress(StoreError):  # it is gone, or will not answer: nothing to stop
        health = client.health()
        if health is not None:
            client.send("POST", "/v1/shutdown", body=lambda: {"interrupt": True})
            wait_until_gone(to.state, health.pid)
