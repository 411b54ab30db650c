"""The command `demo`: a whole scout-plan-build by the real `claude`, with a scripted or a real model."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import AsJson
from orchestrator.cli.render import output
from orchestrator.errors import FleetError, InvalidError, RefusedError

if TYPE_CHECKING:
    from orchestrator.cli.demo.playback import Performed
    from orchestrator.cli.demo.report import DemoResult
    from orchestrator.cli.demo.sandbox import Stage, TestRun
    from orchestrator.cli.http.client import Client, Target
    from orchestrator.fleet.views import AgentDetail

_REHEARSAL_SECONDS = 600.0
_REAL_SECONDS = 3600.0


@dataclass(frozen=True, kw_only=True)
class DemoTask:
    """What the demo does: an example repository, the task, and how to tell that the task was done."""

    example: str
    script: str
    task: str
    tests: tuple[str, ...]
    look_alikes: tuple[str, ...]
    """files that only share the name and must stay byte for byte"""
    proof: tuple[str, str]
    """a file, and text that it contains once the task is done"""


JOB = DemoTask(
    example="inventory",
    script="scout-plan-build.yaml",
    task=(
        "Migrate inventory.stock.fetch_stock(client, sku) to stock_level(sku, client=client) in the whole repository. "
        "Whatever only shares the name stays. Docs and comments, should anyone ask: update them. "
        "Run the tests with python3 -m unittest"
    ),
    tests=("python3", "-m", "unittest"),
    look_alikes=("vendor/acme.py", "inventory/suppliers.py", "tests/test_suppliers.py"),
    proof=("inventory/stock.py", "def stock_level("),
)


@dataclass(frozen=True, kw_only=True)
class Way:
    """Which orchestrator does the task, and how."""

    run: bool
    """an orchestrator that Fleet runs itself does it"""
    phases: bool


def demo(
    *,
    real: Annotated[bool, typer.Option("--real", help="Use a real model, paid by your key or login.")] = False,
    run: Annotated[
        bool, typer.Option("--run", help="Let Fleet run the orchestrator (fleet run) instead of claude -p.")
    ] = False,
    phases: Annotated[
        bool, typer.Option("--phases", help="Work phase by phase instead of creating the whole chain at once.")
    ] = False,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Work in this new or empty directory.", show_default=False)
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the daemon running afterwards.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option(help="Stop after this many seconds (default: 600; with --real: 3600).", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Watch agents change a real repository.

    The real claude (with --run: an orchestrator that Fleet runs) directs four scouts, a planner and a builder. The
    model is scripted, so the demo is free and works offline, unless you pass --real.
    """
    if timeout is not None and not 0 < timeout < float("inf"):
        raise InvalidError(f"--timeout {timeout} is not a positive number of seconds", hint="fleet demo --timeout 900")
    from orchestrator.cli.demo import report
    from orchestrator.cli.demo.sandbox import new_root
    from orchestrator.cli.programs import claude_program, plugin_root

    claude_program(os.environ)  # report what is missing before creating anything
    plugin_root()
    if real:
        _check_account()
    root = new_root(directory)
    seconds = timeout or (_REAL_SECONDS if real else _REHEARSAL_SECONDS)
    with _staged(root, real=real) as stage:
        finding = _play(stage, Way(run=run, phases=phases), keep=keep, seconds=seconds)
    if as_json:
        output.document(report.document(finding))
    else:
        report.print_report(finding)
    raise typer.Exit(output.EXIT_FAILED if finding.problems else 0)


def _check_account() -> None:
    """Check that agents would have an account to use; without one, the run would start and its agents would fail.

    Raises:
        RefusedError: they would have none.
    """
    from orchestrator.cli.http.account import LOG_IN, payer_of

    payer = payer_of(os.environ)
    if payer.trouble:
        text = ": ".join(filter(None, [payer.text, payer.trouble]))
        raise RefusedError(f"--real needs an account that agents can use ({text})", hint=LOG_IN)
    output.say(f"{payer.text} pays for this run")


@contextlib.contextmanager
def _staged(root: Path, *, real: bool) -> Generator[Stage]:
    """Yield the sandbox, with a rehearsal that plays while the block runs, or with the user's own account."""
    from orchestrator import paths, rehearsal
    from orchestrator.cli.demo import sandbox

    home, state, repository = root / "home", root / "state", root / JOB.example
    for place in (home, state):
        place.mkdir(mode=0o700)
    if real:
        environment = sandbox.real_environment(os.environ, state=state)
        yield sandbox.Stage(root=root, repository=repository, state=state, environment=environment)
        return
    script = paths.asset("examples") / JOB.script
    with _rehearsal_errors(), rehearsal.start(script, log=root / "rehearsal.jsonl") as playing:
        environment = sandbox.rehearsal_environment(
            os.environ, home=home, state=state, url=playing.url, script=script.stem
        )
        yield sandbox.Stage(root=root, repository=repository, state=state, environment=environment)


@contextlib.contextmanager
def _rehearsal_errors() -> Generator[None]:
    from orchestrator.rehearsal import RehearsalError

    try:
        yield
    except RehearsalError as error:
        raise FleetError(f"the rehearsal failed to start: {error}", hint="fleet rehearse --check SCRIPT") from error


def _play(stage: Stage, way: Way, *, keep: bool, seconds: float) -> DemoResult:
    from orchestrator.cli.demo import report
    from orchestrator.cli.demo.rehearse import stop
    from orchestrator.cli.demo.sandbox import copy_repository, run_tests
    from orchestrator.cli.http.client import Client, target

    rehearsal = stage.environment.get("FLEET_REHEARSAL", "")
    copy_repository(JOB.example, stage.repository)
    path = stage.environment["PATH"]
    before = run_tests(stage.repository, JOB.tests, path)
    output.say(f"working copy: {stage.repository} (its tests: {before.summary})")
    output.say(f"state: {stage.state}   model: {f'rehearsal {rehearsal}' if rehearsal else 'your account'}")
    if not before.passed:
        raise FleetError(f"the example's tests fail before any change:\n{before.output[-2000:]}")
    to = target(stage.environment, str(stage.repository))
    with Client(to) as client:
        try:
            client.require_daemon()
            performed = _performed(stage, way, to, seconds)
            agents = tuple(one for one in _agents(client) if one.agent.id != performed.director)
        finally:
            if not keep:
                stop(client, to)
    after = run_tests(stage.repository, JOB.tests, path)
    changed = report.changes_in(stage.repository)
    problems = (*_run_problems(performed, agents), *_work_problems(stage.repository, after, changed.files))
    return report.DemoResult(
        stage=stage,
        rehearsal=rehearsal,
        before=before,
        after=after,
        changed=changed,
        performed=performed,
        agents=agents,
        problems=problems,
    )


def _performed(stage: Stage, way: Way, to: Target, seconds: float) -> Performed:
    from orchestrator.cli.demo.playback import perform, perform_run
    from orchestrator.cli.programs import claude_program, plugin_root

    task = f"{JOB.task}{'. Work phase by phase' if way.phases else ''}"
    if way.run:
        output.say(f"fleet run {task!r}\n")
        return perform_run(stage, task, seconds=seconds)
    prompt = f"/fleet:scout-plan-build {task}"
    output.say(f"claude -p {prompt!r}\n")
    program, plugin = claude_program(stage.environment), plugin_root()
    return perform(stage, program, plugin, prompt, to=to, seconds=seconds)


def _agents(client: Client) -> tuple[AgentDetail, ...]:
    from orchestrator.fleet.views import AgentDetail

    created = [event.agent for event in client.events(since="0", agent=None) if event.kind == "agent.created"]
    return tuple(client.get(AgentDetail, f"/v1/agents/{agent}") for agent in dict.fromkeys(created))


def _run_problems(performed: Performed, agents: tuple[AgentDetail, ...]) -> Iterator[str]:
    said = performed.transcript
    if said.failure or performed.exit_code:
        words = f"; stderr: {performed.stderr}" if performed.stderr else ""
        reason = f"{said.failure or 'no reason given'}{words}"
        yield f"the orchestrator's session failed (exit code {performed.exit_code}): {reason}"
    if not agents:
        servers = ", ".join(f"{name} {status}" for name, status in said.servers.items()) or "none"
        yield f"the orchestrator created no agents (MCP servers: {servers})"
    for detail in agents:
        last = detail.turns[-1] if detail.turns else None
        if last is None or last.status != "complete":
            why = f"{last.status}: {last.detail or last.reason}" if last else "it never ran"
            yield f"agent {detail.agent.name} did not complete ({why})"


def _work_problems(repository: Path, after: TestRun, changed: tuple[str, ...]) -> Iterator[str]:
    path, text = JOB.proof
    if not changed:
        yield "no file in the repository was changed"
    elif text not in (repository / path).read_text(encoding="utf-8", errors="replace"):
        yield f"{path} does not contain {text!r}: the task was not done"
    for path in JOB.look_alikes:
        if path in changed:
            yield f"{path} was changed, although it only shares the name"
    if not after.passed:
        yield f"the repository's tests fail afterwards: {after.summary}"
