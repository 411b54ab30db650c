"""The command `wait`: blocks until agents are done or need you."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import AsJson, connected
from orchestrator.cli.render import output
from orchestrator.domain.text import clean, one_line
from orchestrator.errors import InvalidError

if TYPE_CHECKING:
    from orchestrator.cli.http.client import Client
    from orchestrator.fleet.digest_views import Digest


def wait(
    agents: Annotated[
        list[str] | None, typer.Argument(help="Names, ids, or unique prefixes (default: all agents that you created).")
    ] = None,
    any_one: Annotated[
        bool, typer.Option("--any", help="Return when the first one ends (default: when all have).")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(help="Give up after this many seconds, with exit code 4 (default: never).", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Wait until agents are done or need you, then print the digest.

    Exit code 5: an agent needs an answer; 1: an agent failed; 4: time-out.
    """
    if timeout is not None and not 0 <= timeout < float("inf"):
        raise InvalidError(
            f"--timeout {timeout} is not a number of seconds from 0", hint="for example: fleet wait --timeout 600"
        )
    with connected() as client:
        digest = wait_for(client, agents or [], until="any" if any_one else "all", timeout=timeout)
    raise typer.Exit(print_digest(digest, as_json=as_json))


def wait_for(client: Client, agents: list[str], *, until: str, timeout: float | None) -> Digest:
    """Return the digest that ends the wait; the time-out keeps running while a restarted daemon is reached again."""
    from orchestrator.cli.http.client import remaining
    from orchestrator.fleet.digest_views import Digest

    deadline = None if timeout is None else time.monotonic() + timeout
    answer = client.send(
        "POST",
        "/v1/wait",
        body=lambda: {"agents": agents or None, "until": until, "timeout_seconds": remaining(deadline)},
    )
    return Digest.model_validate(answer)


def print_digest(digest: Digest, *, as_json: bool) -> int:
    """Print the digest; return the exit code: 5 if one needs an answer, 1 if one failed, 4 for a time-out, else 0."""
    if as_json:
        output.document(digest.model_dump(mode="json"))
    else:
        print(clean(digest.text))
    for name in digest.needs:
        output.say(f"  -> fleet show {one_line(name)}")
    if digest.needs:
        return output.EXIT_NEEDS_ANSWER
    if any(outcome.status == "failed" for outcome in digest.outcomes):
        return output.EXIT_FAILED
    return output.EXIT_TIMEOUT if digest.timed_out else 0
