"""Watches a run: shows its events as lines and its orchestrator's questions, until the run has ended."""

from __future__ import annotations

import queue
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.cli.options import in_path
from orchestrator.cli.render import output
from orchestrator.cli.render.events import live_lines
from orchestrator.cli.verbs.logs import live_events
from orchestrator.domain.duration import format_elapsed
from orchestrator.domain.question import lines_of
from orchestrator.domain.text import choices, labelled, named, one_line
from orchestrator.domain.wait import ANSWERS, NEEDS_ACTION
from orchestrator.errors import FleetError, TimeoutReachedError

if TYPE_CHECKING:
    from orchestrator.cli.http.client import Client
    from orchestrator.fleet.views import AgentView, EventView

_ENDS = frozenset({"turn.complete", "turn.failed", "turn.interrupted", "turn.cancelled", "agent.deleted"})
_OPEN = frozenset({"creating", "queued", "working", "waiting"})


@dataclass
class RunWatch:
    """One watcher of one run; `talks`: a person can type answers."""

    client: Client
    director: AgentView
    talks: bool = False
    began: float = field(default_factory=time.monotonic)
    _asked: threading.Event = field(default_factory=threading.Event)
    _question: str | None = None
    """id of the question shown last; a typed line answers only this one"""

    def until_it_ends(self, since: str, timeout: float | None) -> None:
        """Show events after the cursor until the orchestrator has no open turn left.

        Raises:
            TimeoutReachedError: it still has one; the run continues.
        """
        over = threading.Event()
        events: queue.Queue[EventView | FleetError] = queue.Queue()
        threading.Thread(target=self._read, args=(since, events, over), daemon=True).start()
        if self.talks:
            threading.Thread(target=self._listen, daemon=True).start()
        end = None if timeout is None else self.began + timeout
        try:
            while not self._take(self._next(events, end)):
                pass
        finally:
            over.set()

    def _read(self, since: str, events: queue.Queue[EventView | FleetError], over: threading.Event) -> None:
        """Put every event of the run into the queue; starts the daemon again if it died, as every verb does."""
        from orchestrator.cli.http.client import Client

        try:
            with Client(self.client.target) as client:
                for event in live_events(client, since=since, agent=None, stop=over, revive=True):
                    if event.agent == self.director.id or event.agent.startswith(f"{self.director.id}_child_"):
                        events.put(event)
        except FleetError as error:
            events.put(error)

    def _next(self, events: queue.Queue[EventView | FleetError], end: float | None) -> EventView:
        try:
            found = events.get(timeout=None if end is None else max(0.0, end - time.monotonic()))
        except queue.Empty:
            name = self.director.name
            raise TimeoutReachedError(
                f"{name} did not finish in time and is still running",
                hint=f"fleet wait {name}, or stop it and its agents: fleet interrupt {name}",
            ) from None
        if isinstance(found, FleetError):
            raise found
        return found

    def _take(self, event: EventView) -> bool:
        """Show the event; return whether the run has ended."""
        directs = event.agent == self.director.id
        for text in live_lines(event, directs=directs):
            who = one_line(event.name, 18)
            output.say(f"{format_elapsed(time.monotonic() - self.began):>8}  {who:<18} {text}")
        if not directs:
            return False
        if event.kind == "turn.waiting":
            self._waits(event)
        elif event.kind == "turn.answered":
            self._asked.clear()
        return event.kind in _ENDS and self._now().status not in _OPEN

    def _now(self) -> AgentView:
        from orchestrator.fleet.views import AgentDetail

        return self.client.get(AgentDetail, f"/v1/agents/{in_path(self.director.id)}").agent

    def _waits(self, event: EventView) -> None:
        """Say what a person must do to end the orchestrator's wait; print nothing if it ends by itself."""
        kind = str(event.body.get("kind", ""))
        if kind in ANSWERS:
            question = self._now().question
            if question is None:
                return  # it was answered meanwhile
            if question.kind == "permission":
                wants = f"{self.director.name} wants to use {named(question.tool)}"
                output.say("\n" + "\n".join(labelled(wants, lines_of(question.text))))
            else:
                output.say("\n" + "\n".join(labelled(f"{self.director.name} asks you", question.text)))
            if question.options:
                output.say(f"  options: {choices(question.options)}")
            output.say(f"  -> {output.answer_command(self.director.name, question.kind, question.id)}")
            if self.talks:
                output.say("  or type the answer here:")
            self._question = question.id
            self._asked.set()
        elif kind in NEEDS_ACTION or event.body.get("blocked"):
            remedy, words = self._now().remedy_command, event.body.get("reason", "")
            output.say(one_line(f"{self.director.name} waits: {words}", 300) + (f"\n  -> {remedy}" if remedy else ""))

    def _listen(self) -> None:
        """Send each typed line as the answer to the open question."""
        from orchestrator.cli.http.client import Client
        from orchestrator.fleet.views import Receipt

        for line in sys.stdin:
            if not line.strip():
                continue
            if not self._asked.is_set():
                output.say("  no question is open")
                continue
            try:
                with Client(self.client.target) as client:
                    path = f"/v1/agents/{in_path(self.director.id)}/answer"
                    receipt = client.post(Receipt, path, text=line.strip(), question=self._question)
            except FleetError as error:
                output.say(f"  {one_line(str(error), 300)}")
                continue
            self._asked.clear()
            output.say(one_line(f"  {receipt.name}: {receipt.happened}", 300))
