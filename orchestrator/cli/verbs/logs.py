"""The command `logs`: events as lines, live with -f; follows its cursor across restarts of the daemon."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import AsJson, connected
from orchestrator.cli.render import output
from orchestrator.cli.render.events import event_text
from orchestrator.errors import InvalidError, StoreError

if TYPE_CHECKING:
    from orchestrator.cli.http.client import Client
    from orchestrator.fleet.views import EventView

_RECONNECT_SECONDS = 0.3


def logs(
    agent: Annotated[
        str | None,
        typer.Argument(help="Agent's name, id, or unique prefix (default: all in this project).", show_default=False),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing new events until Ctrl-C.")] = False,
    tail: Annotated[
        int | None,
        typer.Option("--tail", "-n", help="Print only the last N events (default: all).", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the events of an agent or of the project, one per line."""
    if tail is not None and tail < 0:
        raise InvalidError(f"--tail {tail} is below 0", hint="use 0 or more, e.g. fleet logs --tail 20")
    with connected() as client:
        cursor = "0"
        stored = client.events(since=cursor, agent=agent)
        for event in stored if tail is None else _last(stored, tail):
            print_event(event, as_json=as_json, named=agent is None)
            cursor = event.cursor
        if follow:
            for event in live_events(client, since=cursor, agent=agent):
                print_event(event, as_json=as_json, named=agent is None)
                if agent is not None and event.kind == "agent.deleted":
                    return


def _last(events: Iterator[EventView], count: int) -> list[EventView]:
    return list(deque(events, maxlen=count))


def live_events(
    client: Client, *, since: str, agent: str | None, stop: threading.Event | None = None, revive: bool = False
) -> Iterator[EventView]:
    """Yield every event after the cursor once, across restarts of the daemon, until `stop` is set.

    If the daemon ends, wait for the next one, because it may have been stopped on purpose; with `revive`, start one.
    """
    import httpx

    pause = stop or threading.Event()
    told = False
    while not pause.is_set():
        try:
            with client.stream(since=since, agent=agent) as events:
                if told:
                    output.say("the daemon is running again")
                    told = False
                for event in events:
                    since = event.cursor
                    yield event
        except httpx.TransportError:
            pass
        if pause.wait(_RECONNECT_SECONDS):
            return
        if revive:
            client.revive()
        elif not told and not _answers(client):
            output.say("the daemon went away; waiting for the next one (fleet up starts it, Ctrl-C ends this)")
            told = True


def _answers(client: Client) -> bool:
    try:
        return client.health() is not None
    except StoreError:  # it is stopping or being replaced
        return False


def print_event(event: EventView, *, as_json: bool, named: bool) -> None:
    """Print an event as one line: time, agent (if `named`), kind and text; or as one line of JSON."""
    if as_json:
        output.json_line(event.model_dump(mode="json"))
        return
    who = f"{event.name}  " if named else ""
    print(
        f"{output.shown_clock(event.at)}  {who}{event.kind:<16} {event_text(event)}".rstrip(),
        flush=True,
    )
