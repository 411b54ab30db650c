"""The command `budget`, and the cap options that other commands share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import AsJson, connected, in_path
from orchestrator.cli.render import output
from orchestrator.domain.text import one_line
from orchestrator.errors import InvalidError

if TYPE_CHECKING:
    from orchestrator.fleet.state_views import BudgetsView

MaxCost = Annotated[
    float | None, typer.Option(help="Cap in dollars; an agent that reaches it is suspended until the cap is raised.")
]
MaxTokens = Annotated[int | None, typer.Option(help="Cap in tokens, including cached ones.")]
MaxTotalTurns = Annotated[int | None, typer.Option(help="Cap on the number of turns.")]
MaxSeconds = Annotated[float | None, typer.Option(help="Cap on the seconds that its sessions work.")]


def budget(
    *,
    agent: Annotated[
        str | None,
        typer.Argument(help="Agent whose budget to show or set (default: the whole fleet's).", show_default=False),
    ] = None,
    subtree: Annotated[bool, typer.Option("--subtree", help="Include all descendants of the agent.")] = False,
    max_cost_usd: MaxCost = None,
    max_tokens: MaxTokens = None,
    max_total_turns: MaxTotalTurns = None,
    max_seconds: MaxSeconds = None,
    as_json: AsJson = False,
) -> None:
    """Show a budget, or set it; agents suspended at a cap resume when it is raised."""
    from orchestrator.fleet.state_views import BudgetsView

    if subtree and agent is None:
        raise InvalidError("--subtree needs an agent", hint="name one: fleet budget AGENT --subtree …")
    path = "/v1/budget" if agent is None else f"/v1/agents/{in_path(agent)}/budget"
    given: dict[str, object] = dict(caps(max_cost_usd, max_tokens, max_total_turns, max_seconds))
    with connected() as client:
        if given and agent is not None:
            given["subtree"] = subtree
        answer = client.send("PUT" if given else "GET", path, body=(lambda: given) if given else None)
        shown = BudgetsView.model_validate(answer)
    _show(shown, as_json=as_json)


def caps(
    max_cost_usd: float | None, max_tokens: int | None, max_total_turns: int | None, max_seconds: float | None
) -> dict[str, float]:
    """Return the given caps by their names in the API.

    Raises:
        InvalidError: a cap is not a finite number.
    """
    named = {
        "max_cost_usd": max_cost_usd,
        "max_tokens": max_tokens,
        "max_total_turns": max_total_turns,
        "max_seconds": max_seconds,
    }
    given = {name: cap for name, cap in named.items() if cap is not None}
    for name, cap in given.items():
        if not math.isfinite(cap):
            raise InvalidError(f"--{name.replace('_', '-')} {cap} is not a valid cap", hint="give a finite number")
    return given


def _show(shown: BudgetsView, *, as_json: bool) -> None:
    from orchestrator.domain.budget import Unit, format_cap, format_used  # 5 ms that `fleet --help` need not wait for

    if as_json:
        output.document(shown.model_dump(mode="json"))
        return
    for one in shown.budgets:
        unit = Unit(one.unit)
        scope = "" if one.scope in {one.of, "agent"} else f" ({one.scope})"
        print(one_line(f"{one.of}{scope}: {format_used(unit, one.used)} of {format_cap(unit, one.cap)}", 200))
    if not shown.budgets:
        output.say("no budget is set")
