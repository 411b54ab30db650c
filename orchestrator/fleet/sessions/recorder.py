"""Turns a session's reports into rows, in batches, without delaying the session."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from orchestrator import log
from orchestrator.domain.activity import WORKING, Activity, ActivityKind, Streak, fingerprint, retrying, stalled
from orchestrator.domain.event import (
    Ended,
    EventKind,
    Opened,
    Retrying,
    Said,
    SessionEvent,
    Spent,
    Stalled,
    ToolEnded,
    ToolStarted,
    Used,
)
from orchestrator.domain.text import one_line, storable
from orchestrator.domain.usage import Usage
from orchestrator.errors import StoreError
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.store.schema.changes import AgentChange
from orchestrator.store.schema.transitions import StaleOwnerError
from orchestrator.store.turns.events import Fact, append
from orchestrator.store.turns.turns import Claim

LOG = log.logger("fleet.recorder")
SAID_CHARACTERS = 4000
LOOP_CHARACTERS = 80
SUMMARY_CHARACTERS = 200


def fact_of(event: SessionEvent, at: float) -> Fact | None:
    """The row that this event becomes; of the end, which finishes the turn, only what its program denied by itself."""
    match event:
        case ToolStarted() | ToolEnded():
            return _tool_fact(event, at)
        case Opened():
            body = {"session_id": event.session_id, "model": event.model}
            return Fact(kind=EventKind.SESSION, at=at, body=body, values=_opened(event), activity=WORKING)
        case Said():
            text = storable(event.text[:SAID_CHARACTERS])
            return Fact(kind=EventKind.SAID, at=at, body={"text": text}, activity=WORKING)
        case Used():
            body = {"context_tokens": event.usage.context_tokens, "total_tokens": event.usage.total_tokens}
            return Fact(kind=EventKind.USED, at=at, body=body, values=_context(event.usage), activity=WORKING)
        case Spent():
            return Fact(kind=None, at=at, body={}, values=_spent(event))
        case Retrying() | Stalled():
            return _trouble_fact(event, at)
        case Ended():
            return Fact(kind=EventKind.DENIED, at=at, body={"tools": list(event.denied)}) if event.denied else None


def _opened(event: Opened) -> AgentChange:
    return {"session_started": True, "model": event.model} if event.model else {"session_started": True}


def _spent(event: Spent) -> AgentChange:
    tokens, cost_usd = event.tokens, event.cost_usd
    return {"live_tokens": tokens} if cost_usd is None else {"live_tokens": tokens, "live_cost_usd": cost_usd}


def _context(usage: Usage) -> AgentChange:
    """Return how full the context is, as far as it is known."""
    values: AgentChange = {}
    if usage.context_tokens:
        values["context_tokens"] = usage.context_tokens
    if usage.context_window_tokens:
        values["context_window_tokens"] = usage.context_window_tokens
    return values


def _trouble_fact(event: Retrying | Stalled, at: float) -> Fact:
    if isinstance(event, Stalled):
        return Fact(kind=EventKind.STALLED, at=at, body={"seconds": event.seconds}, activity=stalled(event.seconds))
    activity = retrying(event.attempt, event.max_attempts, event.delay_seconds)
    body = {"attempt": event.attempt, "status": event.status, "error": one_line(event.error, 200)}
    return Fact(kind=EventKind.RETRYING, at=at, body=body, activity=activity)


def _tool_fact(event: ToolStarted | ToolEnded, at: float) -> Fact:
    summary = one_line(event.summary, SUMMARY_CHARACTERS)
    body: dict[str, object] = {"call_id": event.call_id, "tool": event.tool, "summary": summary}
    if isinstance(event, ToolStarted):
        values: AgentChange = {"last_tool": one_line(f"{event.tool} {summary}", SUMMARY_CHARACTERS)}
        return Fact(kind=EventKind.TOOL, at=at, body=body, values=values, activity=WORKING)
    consumed, produced = [[storable(path) for path in paths] for paths in (event.consumed, event.produced)]
    files = [("consumed", path) for path in consumed] + [("produced", path) for path in produced]
    more = {"ok": event.ok, "consumed": consumed, "produced": produced}
    return Fact(kind=EventKind.TOOL_ENDED, at=at, body=body | more, files=files)


@dataclass
class Recorder:
    """Writes the events of one claim in order; a batch is what arrived while the previous one was being written."""

    work: UnitOfWork
    claim: Claim
    stale: bool = False
    """the agent was deleted or claimed again: nothing more is written"""
    ran: bool = False
    """a session has begun to run: its usage is unknown until it ends"""
    loop_calls: int = 5
    """this many identical calls in a row are a loop"""
    _facts: list[Fact] = field(default_factory=list[Fact])
    _writing: asyncio.Task[None] | None = None
    _streak: Streak = field(default_factory=Streak)
    _loop: Activity | None = None
    """the activity of an agent in a loop, unless a more specific one is known"""

    def note(self, fact: Fact | None) -> None:
        """Queue the fact; it is written soon."""
        if fact is None or self.stale:
            return
        self._facts.append(fact)
        self._begin()

    def _begin(self) -> None:
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write())

    def event(self, event: SessionEvent) -> None:
        """Queue an event of the session with the current time."""
        fact = fact_of(event, self.work.clock())
        if isinstance(event, ToolStarted) and fact is not None:
            fact = self._called(event, fact)
        if fact is not None and self._loop is not None and fact.activity == WORKING:
            fact = replace(fact, activity=self._loop)
        self.note(fact)
        if isinstance(event, ToolStarted) and self._streak.begins_to_loop(self.loop_calls):
            self._tell_of_loop(event)

    def _called(self, event: ToolStarted, fact: Fact) -> Fact:
        """Count the call; in a loop the activity says so until another call comes."""
        self._streak = self._streak.then(fingerprint(event.tool, event.input))
        words = one_line(f"{event.tool} {event.summary}", LOOP_CHARACTERS)
        loops = self._streak.loops(self.loop_calls)
        self._loop = Activity(kind=ActivityKind.LOOPING, detail=words) if loops else None
        return replace(fact, values={**fact.values, "same_calls": self._streak.times})

    def _tell_of_loop(self, event: ToolStarted) -> None:
        LOG.warning("agent_loops", tool=event.tool, times=self._streak.times)
        body = {"tool": event.tool, "summary": one_line(event.summary, SUMMARY_CHARACTERS)}
        self.note(Fact(kind=EventKind.LOOPING, at=self.work.clock(), body={**body, "times": self._streak.times}))

    async def flush(self) -> None:
        """Return once everything taken so far is durable.

        Raises:
            StoreError: the database cannot be written.
        """
        while self._facts or not (self._writing is None or self._writing.done()):
            self._begin()
            if self._writing is not None:
                await asyncio.shield(self._writing)  # the waiter may be cancelled; the write is not

    async def _write(self) -> None:
        while self._facts and not self.stale:
            batch, self._facts = self._facts, []
            try:
                await self.work.store.write(append, self.claim, batch)
            except StaleOwnerError:
                self.stale = True
                self._facts.clear()
            except StoreError:
                self._facts[:0] = batch
                raise
            self.work.feed.publish()
