"""Commands that change agents: create, command, answer, interrupt, rm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.http.json_shape import as_list
from orchestrator.cli.options import Agent, AsJson, Cwd, Inputs, Task, connected, given_text, in_path
from orchestrator.cli.render import output
from orchestrator.cli.verbs.budget import MaxCost, MaxSeconds, MaxTokens, MaxTotalTurns, caps
from orchestrator.cli.verbs.check_options import (
    CheckRetries,
    Checks,
    CheckTimeout,
    MustExist,
    NoChecks,
    ResultSchema,
    asked_checks,
)
from orchestrator.domain.text import named, one_line, raw
from orchestrator.errors import InvalidError

if TYPE_CHECKING:
    from orchestrator.fleet.views import Created, Deleted, Receipt


PersonaName = Annotated[str | None, typer.Option(help="Persona: scout, planner, builder… (default: builder).")]
ModelName = Annotated[str | None, typer.Option(help="Model, or a provider's alias for one (default: the persona's).")]
BriefText = Annotated[
    str | None, typer.Option(help="What its whole chain must know (-: read stdin), or @NAME of an agent that has it.")
]
NextTask = Annotated[
    str, typer.Argument(help="What to do (-: read stdin); omit it to change only the budget.", show_default=False)
]
Steer = Annotated[bool, typer.Option("--steer", help="Add the task to the running turn, at its next tool call.")]


def create(
    *,
    name: Annotated[str, typer.Argument(help="Name, unique among living agents.", show_default=False)],
    task: Task,
    persona: PersonaName = None,
    model: ModelName = None,
    brief: BriefText = None,
    inputs: Inputs = None,
    cwd: Cwd = None,
    max_turns: Annotated[int | None, typer.Option(help="Maximum model calls per turn.")] = None,
    max_cost_usd: MaxCost = None,
    max_tokens: MaxTokens = None,
    max_total_turns: MaxTotalTurns = None,
    max_seconds: MaxSeconds = None,
    priority: Annotated[int | None, typer.Option(help="-100 to 100; the highest starts first.")] = None,
    check: Checks = None,
    check_timeout: CheckTimeout = None,
    must_exist: MustExist = None,
    result_schema: ResultSchema = None,
    check_retries: CheckRetries = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is done and print the digest.")] = False,
    as_json: AsJson = False,
) -> None:
    """Create an agent.

    It starts once its inputs are complete and a slot and its checkout are free.
    """
    from orchestrator.fleet.views import Created

    body: dict[str, object] = {"name": name, "persona": persona, "model": model, "inputs": inputs or None, "cwd": cwd}
    body |= {"brief": brief and given_text(brief)}
    body |= caps(max_cost_usd, max_tokens, max_total_turns, max_seconds) | {"max_turns": max_turns}
    body |= asked_checks(check, check_timeout, must_exist, result_schema, check_retries) | {"priority": priority}
    with connected() as client:
        created = client.post(Created, "/v1/agents", task=given_text(task), **body)
        if not wait:
            _show_created(created, as_json=as_json)
            return
        from orchestrator.cli.verbs.wait import print_digest, wait_for

        output.say(_created_line(created))
        code = print_digest(wait_for(client, [created.agent.id], until="all", timeout=None), as_json=as_json)
    raise typer.Exit(code)


def _show_created(created: Created, *, as_json: bool) -> None:
    if as_json:
        output.document(created.model_dump(mode="json"))
        return
    print(_created_line(created))
    output.say(f"  -> fleet wait {created.agent.name}   or   fleet logs -f {created.agent.name}")


def _created_line(created: Created) -> str:
    agent = created.agent
    model = f"{agent.provider}/{named(agent.model)}" if agent.model else agent.provider
    reason = f" ({agent.reason})" if agent.reason else ""
    existed = ", existed" if created.existed else ""
    origin = f" (persona of {named(agent.persona_origin)})" if raw(agent.persona_origin) else ""
    return one_line(
        f"{agent.name} {agent.id} {named(agent.persona)}{origin} {model} {agent.status}{reason}{existed}", 400
    )


def command(
    *,
    agent: Agent,
    task: NextTask = "",
    interrupt_first: Annotated[
        bool, typer.Option("--interrupt", help="Interrupt the running turn first (default: queue after it).")
    ] = False,
    steer: Steer = False,
    inputs: Inputs = None,
    max_cost_usd: MaxCost = None,
    max_tokens: MaxTokens = None,
    check: Checks = None,
    check_timeout: CheckTimeout = None,
    must_exist: MustExist = None,
    result_schema: ResultSchema = None,
    check_retries: CheckRetries = None,
    no_checks: NoChecks = False,
    as_json: AsJson = False,
) -> None:
    """Give an agent its next task; it keeps its context and checks."""
    from orchestrator.fleet.views import Receipt

    if interrupt_first and steer:
        raise InvalidError("--interrupt and --steer cannot be combined", hint="use one of them")
    checks = asked_checks(check, check_timeout, must_exist, result_schema, check_retries)
    if no_checks and checks["checks"]:
        raise InvalidError("--no-checks cannot be combined with checks", hint="omit it: new checks replace old ones")
    with connected() as client:
        receipt = client.post(
            Receipt,
            f"/v1/agents/{in_path(agent)}/turns",
            task=given_text(task),
            mode="interrupt" if interrupt_first else "steer" if steer else None,
            inputs=inputs or None,
            **caps(max_cost_usd, max_tokens, None, None),
            **(checks | {"checks": []} if no_checks else checks),
        )
    _show_receipt(receipt, as_json=as_json)


def answer(
    agent: Agent,
    text: Annotated[
        str,
        typer.Argument(
            help="Answer; for a permission: allow, always, or deny: WHY (-: read stdin).", show_default=False
        ),
    ],
    question: Annotated[
        str | None,
        typer.Option(help="Answer only this question (default: the one you were shown last).", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Answer the question or permission that an agent waits for."""
    from orchestrator.fleet.views import Receipt

    with connected() as client:
        path = f"/v1/agents/{in_path(agent)}/answer"
        receipt = client.post(Receipt, path, text=given_text(text), question=question)
    _show_receipt(receipt, as_json=as_json)


def interrupt(agent: Agent, as_json: AsJson = False) -> None:
    """Interrupt an agent's running turn; queued turns are kept."""
    from orchestrator.fleet.views import Receipt

    with connected() as client:
        receipt = client.post(Receipt, f"/v1/agents/{in_path(agent)}/interrupt")
    _show_receipt(receipt, as_json=as_json)


def _show_receipt(receipt: Receipt, *, as_json: bool) -> None:
    if as_json:
        output.document(receipt.model_dump(mode="json"))
    else:
        print(one_line(f"{receipt.name}: {receipt.happened}", 400))


def rm(
    agents: Annotated[list[str] | None, typer.Argument(help="Names, ids, or unique prefixes of ids.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Delete all agents that you created.")] = False,
    project: Annotated[
        bool, typer.Option("--project", help="With --all: delete the agents of all orchestrators in this project.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Delete agents; their results and work are kept."""
    if everything == bool(agents) or (project and not everything):
        raise InvalidError(
            "name the agents to delete, or use --all", hint="fleet rm NAME…  |  fleet rm --all [--project]"
        )
    with connected() as client:
        if everything:
            scope = "project" if project else "mine"
            answer = client.send("DELETE", "/v1/agents", query={"scope": scope})
            deleted = [_deleted(one) for one in as_list(answer.get("deleted"))]
        else:
            deleted = [_deleted(client.send("DELETE", f"/v1/agents/{in_path(name)}")) for name in agents or []]
    if as_json:
        output.document({"deleted": [one.model_dump(mode="json") for one in deleted]})
        return
    for one in deleted:
        print(_deleted_line(one))
    if not deleted:
        output.say("no agents to delete")


def _deleted_line(one: Deleted) -> str:
    work = f"; {one.work}" if one.work else ""
    return f"{one.name} {one.agent}: deleted, was {one.was}; results stay readable{work}"


def _deleted(value: object) -> Deleted:
    from orchestrator.fleet.views import Deleted

    return Deleted.model_validate(value)
