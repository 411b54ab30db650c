"""`fleet adopt`: gives agents whose session has ended to another session, and follows a project that was moved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import AsJson, connected
from orchestrator.cli.render import output
from orchestrator.domain.text import listed, named, named_path
from orchestrator.errors import InvalidError

if TYPE_CHECKING:
    from orchestrator.fleet.views import Adopted, Orphan, Orphans

MAX_SESSIONS = 12


def adopt(
    agents: Annotated[list[str] | None, typer.Argument(help="Names or ids; without any, list what is left.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Adopt all agents here whose sessions have ended.")] = False,
    to: Annotated[
        str | None,
        typer.Option(help="Session that gets them (default: the one that is connected, else this terminal)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Give agents whose session has ended to another one; those of a moved project are bound to this directory."""
    from orchestrator.fleet.views import Orphans
    from orchestrator.server.http.schemas import AdoptedAgents

    if everything and agents:
        raise InvalidError("name the agents to adopt, or use --all", hint="fleet adopt NAME…  |  fleet adopt --all")
    with connected() as client:
        if not everything and not agents:
            _show_orphans(client.get(Orphans, "/v1/orphans"), as_json=as_json)
            return
        body = {"agents": agents or [], "everything": everything, "to": to}
        answer = client.post(AdoptedAgents, "/v1/adoptions", **body)
    if as_json:
        output.document(answer.model_dump(mode="json"))
        return
    for one in answer.adopted:
        print(_adopted_line(one))
    if not answer.adopted:
        output.say("no agents to adopt")


def _show_orphans(found: Orphans, *, as_json: bool) -> None:
    if as_json:
        output.document(found.model_dump(mode="json"))
        return
    for one in found.agents:
        print(_orphan_line(one))
    sessions = listed(found.sessions, MAX_SESSIONS) or "none"
    more = "adopt them with: fleet adopt --all, or by name or id; " if found.agents else "no agents to adopt; "
    output.say(f"{more}sessions connected here: {sessions}")


def _orphan_line(one: Orphan) -> str:
    if one.is_moved:
        return f"{one.name} {one.agent} {one.status}: its project {named_path(one.project)} no longer exists"
    return f"{one.name} {one.agent[:11]} {one.status}: left by {named(one.orchestrator)}"


def _adopted_line(one: Adopted) -> str:
    return f"{one.name} {one.agent}: now belongs to {named(one.orchestrator)}, before to {named(one.was)}"
