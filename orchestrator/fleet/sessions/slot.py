"""The slot of one agent in this daemon: its claims, its session while one is open, and why its turn must stop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from orchestrator.domain.event import Ended
from orchestrator.domain.wait import Wait
from orchestrator.fleet.sessions.meter import Meter
from orchestrator.fleet.sessions.processes import OpenedSession
from orchestrator.fleet.sessions.recorder import Recorder
from orchestrator.providers.base import Prompt, Session
from orchestrator.store.turns.turns import Claim

LEFT, DELETED = "left", "deleted"
"""reasons to stop a turn: the next daemon takes it over; its agent is deleted"""


@dataclass(frozen=True, kw_only=True)
class LiveTurn:
    """What a session reports to while it works on one turn."""

    claim: Claim
    recorder: Recorder
    meter: Meter


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Why a running turn must stop."""

    reason: str
    """interrupted, stopped (with the daemon), deleted, left, or the kind of the wait"""
    wait: Wait | None = None
    """what the turn is suspended with; None: it ends, or the next daemon runs it"""


@dataclass(eq=False)
class AgentSlot:
    """One agent as this daemon runs it, from its first claim until its session has rested long enough.

    A session outlives its turns: what it reports belongs to `live` at that moment.
    """

    agent_id: str
    inbox: asyncio.Queue[Claim | None] = field(default_factory=asyncio.Queue[Claim | None])
    """claims to run, in order; None: close the session and leave"""
    opened: OpenedSession | None = None
    live: LiveTurn | None = None
    """the turn that runs, or the last one"""
    claim: Claim | None = None
    """of the turn whose end is not recorded yet"""
    turn_id: str = ""
    """the turn that runs or is about to, or the last one"""
    busy: bool = False
    """a turn runs or is about to"""
    stopping: Stop | None = None
    """why the running turn must stop, if it must"""
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    """set once `stopping` is"""
    steers: list[Prompt] = field(default_factory=list[Prompt])
    """texts to hand to the running turn at its next tool call"""
    handed: set[str] = field(default_factory=set[str])
    """ids of the prompts that were handed to its session"""
    handing: asyncio.Lock = field(default_factory=asyncio.Lock)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    """set once its first session has reported something or never will"""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """set once the session is closed and the slot belongs to no agent any more"""

    @property
    def session(self) -> Session | None:
        """The open session, if there is one."""
        return None if self.opened is None else self.opened.session

    def take(self, claim: Claim) -> None:
        """Queue the claim; its turn counts as running from now on, without a request to stop."""
        self.turn_id = claim.turn_id
        self.busy = True
        self.steers = []
        self.handed = set()
        self.resume()
        self.inbox.put_nowait(claim)

    def stop(self, stop: Stop) -> None:
        """Ask the running turn to stop, in place of any earlier request."""
        self.stopping = stop
        self.stopped.set()

    def suspend(self, wait: Wait) -> None:
        """Ask the running turn to stop and wait; an earlier request to stop takes precedence."""
        if self.busy and self.stopping is None:
            self.stop(Stop(reason=wait.kind, wait=wait))

    def resume(self) -> None:
        """Withdraw the request to stop."""
        self.stopping = None
        self.stopped.clear()

    @property
    def stop_reason(self) -> str:
        """Why the running turn must stop, '' if it need not."""
        return self.stopping.reason if self.stopping else ""

    def has_unread(self, ended: Ended) -> bool:
        """Whether the session has a prompt that its run did not read: it would start another turn."""
        return bool(self.handed - set(ended.steered))
