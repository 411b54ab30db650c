"""The command `rehearse`: plays a script as the model, with a temporary state directory and daemon."""

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
    script: Annotated[Path, typer.Argument(help="Script to play (YAML).", show_default=False)],
    command: Annotated[
        list[str] | None, typer.Argument(help="Program to run inside the rehearsal, after --.", show_default=False)
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Validate the script and exit.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the state directory afterwards.")] = False,
    as_json: AsJson = False,
) -> None:
    """Play a script as the model, at no cost.

    Agents, tools and files are real; the state directory and the daemon are temporary. Without a program after --,
    prints the variables that put another shell into the rehearsal, and plays until Ctrl-C.
    """
    if not script.is_file():
        raise NotFoundError(
            f"script {script} does not exist",
            hint=f"try an example: {paths.asset('examples') / 'scout-plan-build.yaml'}",
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
    """Validate the script and return the names of its parts.

    Raises:
        InvalidError: the script is not valid; the message has file, line and reason.
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
        raise FleetError(f"the rehearsal failed to start: {error}", hint="fleet rehearse --check SCRIPT") from error
    finally:
        if keep:
            output.say(f"kept: {root}")
        else:
            shutil.rmtree(root, ignore_errors=True)
    return 0


def overlay(user: Mapping[str, str], *, root: Path, url: str, script: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the variables to set so that a program runs in the rehearsal, and those (account, fleet) to unset.

    The state directory and Claude's configuration directory are below `root`; HOME stays the user's.
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
        raise NotFoundError(
            f"{command[0]} could not be started: {error.strerror}", hint="check the name and PATH"
        ) from error
    with _interrupts_left_to(child):
        code = child.wait()
    return code if code >= 0 else 128 - code


@contextlib.contextmanager
def _interrupts_left_to(child: subprocess.Popen[bytes]) -> Generator[None]:
    """Ignore Ctrl-C while the child runs: the terminal sends it to the child as well, and the child ends first."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if child.poll() is None:
            child.terminate()
            child.wait()


def stop_daemon(environment: Mapping[str, str]) -> None:
    """Stop the daemon of this environment, if one runs; its turns are interrupted."""
    from orchestrator.cli.http.client import Client, target

    to = target(environment, "/")
    with Client(to, start=False) as client:
        stop(client, to)


def stop(client: Client, to: Target) -> None:
    """Stop the daemon that the client talks to and wait until it is gone; does nothing if none runs."""
    from orchestrator.cli.verbs.daemon import wait_until_gone

    with contextlib.suppress(StoreError):  # the daemon is gone or does not answer: nothing to stop
        health = client.health()
        if health is not None:
            client.send("POST", "/v1/shutdown", body=lambda: {"interrupt": True})
            wait_until_gone(to.state, health.pid)
