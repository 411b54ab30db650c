"""`fleet trust`: lets a persona file do more than Fleet's own persona of its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import AsJson, connected
from orchestrator.cli.render import output
from orchestrator.domain.text import joined, named, named_path
from orchestrator.errors import InvalidError

if TYPE_CHECKING:
    from orchestrator.fleet.views import TrustedPersona

MAX_MORE_BYTES = 2000


def trust(
    persona: Annotated[str | None, typer.Argument(help="Name of a persona, or the path of its file.")] = None,
    everything: Annotated[bool, typer.Option("--list", help="List the files that are trusted.")] = False,
    revoke: Annotated[bool, typer.Option("--revoke", help="No longer trust it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Trust a persona file, as it is now, to do more than Fleet's own persona of that name.

    Read the file first. Any change to it ends the trust. Agents cannot give it.
    """
    from orchestrator.server.http.schemas import TrustedPersonas

    if (persona is None) != everything or (everything and revoke):
        raise InvalidError("name one persona, or use --list", hint="fleet trust NAME  |  fleet trust --list")
    with connected() as client:
        if everything:
            answer = client.get(TrustedPersonas, "/v1/trust")
        else:
            answer = client.post(TrustedPersonas, "/v1/trust", persona=persona, revoke=revoke)
    if as_json:
        output.document(answer.model_dump(mode="json"))
        return
    said = "no longer trusted" if revoke else "trusted"
    for one in answer.personas:
        print(line_of(one, said))
    if not answer.personas:
        output.say("no persona file is trusted")


def line_of(one: TrustedPersona, said: str) -> str:
    """Return the line about a persona file: whether it is trusted now, and what more it may do if that is known."""
    more = f"; it may do more than Fleet's own: {joined(one.more, MAX_MORE_BYTES)}" if one.more else ""
    return f"{named(one.name)} {said}: {named_path(one.path)} (sha256 {one.digest[:12]}){more}"
