"""The command `run`: starts an orchestrator that Fleet runs, and watches it until it has reported."""

from __future__ import annotations

import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import AsJson, Cwd, Task, connected, given_text, here, in_path, own_home
from orchestrator.cli.render import output
from orchestrator.cli.verbs.budget import MaxCost, MaxTokens, caps
from orchestrator.domain.text import clean, named, named_path, one_line, quoted, raw
from orchestrator.errors import FleetError, InvalidError

if TYPE_CHECKING:
    from orchestrator.cli.http.client import Client
    from orchestrator.fleet.views import AgentDetail, AgentView, TurnView

PERSONA = "orchestrator"
PersonaName = Annotated[str, typer.Option(help="Persona of the orchestrator; it must have the fleet's tools.")]
Timeout = Annotated[
    float | None,
    typer.Option(
        help="Stop watching after this many seconds, with exit code 4; the run continues.", show_default=False
    ),
]
_SHOWN_NAMES = 12


@dataclass(frozen=True, kw_only=True)
class RunEnd:
    """The result of a run: its orchestrator with its turns, and the agents that remain."""

    detail: AgentDetail
    left: tuple[AgentView, ...]

    @property
    def turn(self) -> TurnView | None:
        """The orchestrator's last turn."""
        return self.detail.turns[-1] if self.detail.turns else None

    @property
    def ok(self) -> bool:
        """Whether the orchestrator's last turn is complete."""
        return self.turn is not None and self.turn.status == "complete"


def run(
    *,
    task: Task,
    persona: PersonaName = PERSONA,
    model: Annotated[str | None, typer.Option(help="Model of the orchestrator (default: the persona's).")] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the orchestrator (default: run-…).", show_default=False)
    ] = None,
    cwd: Cwd = None,
    max_cost_usd: MaxCost = None,
    max_tokens: MaxTokens = None,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Run a task with an orchestrator that Fleet runs.

    The orchestrator creates agents, waits for them without a process, and reports on stdout; events of the fleet go to
    stderr. The budget covers the whole run. Answer its questions here, or with fleet answer. Exit code 1: it failed.
    """
    from orchestrator.cli.verbs.run_watch import RunWatch
    from orchestrator.fleet.views import Created, FleetView

    if timeout is not None and not 0 < timeout < float("inf"):
        raise InvalidError(
            f"--timeout {timeout} is not a positive number of seconds", hint="fleet run TASK --timeout 900"
        )
    _check_persona(persona)
    budget = caps(max_cost_usd, max_tokens, None, None)
    with connected() as client:
        since = client.get(FleetView, "/v1/agents").cursor
        asked = {"name": name or f"run-{secrets.token_hex(2)}", "persona": persona, "model": model, "cwd": cwd}
        created = client.post(Created, "/v1/agents", **asked, task=given_text(task), **budget).agent
        output.say(f"{created.name} ({created.id}) directs the fleet; Ctrl-C leaves it running")
        talks = sys.stdin.isatty() and sys.stderr.isatty() and task != "-"
        watch = RunWatch(client, created, talks=talks)
        try:
            watch.until_it_ends(since, timeout)
        except KeyboardInterrupt:
            _say_what_runs(client, created)
            raise
        ended = _ended(client, created)
    _show(ended, as_json=as_json)
    raise typer.Exit(0 if ended.ok else output.EXIT_FAILED)


def _check_persona(name: str) -> None:
    """Check that the persona can direct agents.

    Raises:
        FleetError: the persona does not exist or has none of the fleet's tools.
    """
    from orchestrator import paths
    from orchestrator.domain.persona import FLEET
    from orchestrator.personas import find_persona

    found = find_persona(name, Path(paths.project_of(here())), own_home())
    if not found.orchestrates:
        which = named(found.name)
        raise InvalidError(
            f"persona {which} ({named_path(found.source)}) has none of the fleet's tools, so it cannot direct agents",
            hint=f"add {FLEET} to its tools, or: fleet create NAME TASK --persona {which} --wait",
        )


def _ended(client: Client, created: AgentView) -> RunEnd:
    """Return the run's result; marks its outcome as read."""
    from orchestrator.cli.verbs.wait import wait_for
    from orchestrator.fleet.views import AgentDetail, FleetView

    detail = client.get(AgentDetail, f"/v1/agents/{in_path(created.id)}")
    if detail.agent.status != "deleted":
        wait_for(client, [created.id], until="all", timeout=0)
    left = [one for one in client.get(FleetView, "/v1/agents").agents if is_below(created, one)]
    return RunEnd(detail=detail, left=tuple(left))


def is_below(director: AgentView, agent: AgentView) -> bool:
    """Whether the director, or one of its descendants, created this agent."""
    return agent.id.startswith(f"{director.id}_child_")


def _say_what_runs(client: Client, created: AgentView) -> None:
    """Print what keeps running after Ctrl-C, and the commands that follow or stop it."""
    from orchestrator.fleet.views import FleetView

    try:
        living = client.get(FleetView, "/v1/agents").agents
    except FleetError as error:
        output.say(f"\ncannot tell what is running: {error}")
        return
    open_now = [one for one in living if one.id == created.id or is_below(created, one)]
    names = [f"{one.name} ({one.status})" for one in open_now if one.status in {"working", "queued", "waiting"}]
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    output.say(one_line(f"still running: {', '.join(names[:_SHOWN_NAMES])}{more}", 600))
    output.say(f"  -> fleet wait {created.name}   then   fleet output {created.name}: read its report")
    output.say(f"  -> fleet interrupt {created.name}: stop it and its agents   (fleet rm {created.name}: delete them)")


def _show(ended: RunEnd, *, as_json: bool) -> None:
    agent, turn = ended.detail.agent, ended.turn
    report = raw(turn.result) if turn is not None else ""
    if as_json:
        shown = turn.model_dump(mode="json", exclude={"task", "result"}) if turn is not None else None
        left = [{"name": one.name, "status": one.status} for one in ended.left]
        agent_fields = {"id": agent.id, "name": agent.name, "status": agent.status, "cost_usd": agent.cost_usd}
        whole = {**agent_fields, "tokens": agent.tokens, "rehearsal": agent.rehearsal, "turn": shown}
        output.document({"ok": ended.ok, "report": report, "orchestrator": whole, "agents_left": left})
    elif report:
        text = clean(report) if sys.stdout.isatty() else report
        print(text.rstrip("\n"), flush=True)
    if not ended.ok:
        output.say(f"{agent.name} did not finish: {agent.status if turn is None else _why(turn)}")
        output.say(f'  -> fleet show {agent.name}   or   fleet command {agent.name} "continue"')
    if ended.left:
        names = ", ".join(f"{one.name} ({one.status})" for one in ended.left[:_SHOWN_NAMES])
        output.say(one_line(f"agents that it left: {names}  -> fleet ps, fleet rm NAME", 600))


def _why(turn: TurnView) -> str:
    why = quoted(turn.detail, 400) if turn.detail else turn.reason
    return f"{turn.status}: {why}" if why else turn.status
