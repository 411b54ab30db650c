"""What every verb needs: the unit of work, the slots, the providers, and what each caller has received."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakValueDictionary

from orchestrator.domain.activity import Patience, patience
from orchestrator.domain.tool import CallContext, Caller
from orchestrator.fleet.connections import Connections
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.fleet.execution.slots import AgentSlots
from orchestrator.fleet.lookup import find_all
from orchestrator.fleet.questions.shown import ShownQuestions
from orchestrator.providers.base import Provider
from orchestrator.settings import Settings
from orchestrator.store.schema.rows import AgentRow
from orchestrator.store.turns import outcomes


def stored_key(call: CallContext) -> str | None:
    """The call's idempotency key as rows store it, prefixed with the caller's project."""
    return f"{call.caller.project}\n{call.key}" if call.key else None


@dataclass(frozen=True, kw_only=True)
class Offer:
    """Outcomes handed to each orchestrator; they count as delivered with its next call."""

    key: str | None
    turn_ids: frozenset[str]


@dataclass
class FleetContext:
    """The parts that the verbs share, built in app.py."""

    work: UnitOfWork
    slots: AgentSlots
    providers: Mapping[str, Provider]
    fleet_tools: frozenset[str]
    """the names under which a persona may ask for the fleet's tools"""
    settings: Settings
    state: Path
    build: str
    supervision: str
    """how the processes of agents are contained and ended on this machine"""
    connections: Connections
    http: str
    """address of HTTP on loopback, '' if it is not served"""
    started_at: float = field(default_factory=time.time)
    still_connected: dict[tuple[str, str], frozenset[str]] = field(
        default_factory=dict[tuple[str, str], "frozenset[str]"]
    )
    """per session (project, orchestrator) that was told what ended ones left: those with agents that had not ended"""
    offers: dict[tuple[str, str], Offer] = field(default_factory=dict[tuple[str, str], Offer])
    foreign: dict[tuple[str, str], set[str]] = field(default_factory=dict[tuple[str, str], "set[str]"])
    """ids of the turns that waits have told to sessions (project, orchestrator) to which their agents do not belong"""
    shown: ShownQuestions = field(default_factory=ShownQuestions)
    preparations: WeakValueDictionary[tuple[str, str], asyncio.Lock] = field(default_factory=WeakValueDictionary)
    """locks of orchestrators (project, orchestrator), see `preparing`"""

    @property
    def patience(self) -> Patience:
        """How old the last sign of life of a working agent may be."""
        return patience(self.settings.stall_seconds, self.settings.tool_seconds)

    def preparing(self, call: CallContext) -> asyncio.Lock:
        """The lock to hold while a command of the caller reads personas or judges schemas, which threads do.

        Later calls of the same orchestrator wait for it, so that the calls of one message keep their order.
        """
        return self.preparations.setdefault((call.caller.project, call.caller.orchestrator), asyncio.Lock())

    async def enter(self, call: CallContext) -> None:
        """Begin a verb as soon as the caller's earlier commands are prepared."""
        async with self.preparing(call):
            pass
        await self.confirm(call)

    async def confirm(self, call: CallContext) -> None:
        """Note that the call shows that its caller received the results of its earlier calls.

        A call that is resent after a daemon died has the key of the first one and confirms nothing.
        """
        who = (call.caller.project, call.caller.orchestrator)
        offer = self.offers.get(who)
        if offer is None or (offer.key is not None and offer.key == call.key):
            return
        del self.offers[who]
        await self.work.store.write(outcomes.deliver, offer.turn_ids, self.work.clock())

    def told_of_others(self, call: CallContext) -> set[str]:
        """The turns of other sessions' agents that this session was told; of persons, whose terminals differ, none."""
        if call.person:
            return set()
        return self.foreign.setdefault((call.caller.project, call.caller.orchestrator), set())

    def offer(self, call: CallContext, turn_ids: Iterable[str]) -> None:
        """Remember the turns whose outcomes this call hands out, in addition to earlier unconfirmed ones."""
        told = frozenset(turn_ids)
        if told:
            who = (call.caller.project, call.caller.orchestrator)
            before = self.offers.get(who, Offer(key=None, turn_ids=frozenset()))
            self.offers[who] = Offer(key=call.key, turn_ids=before.turn_ids | told)

    async def find(self, caller: Caller, reference: str, *, deleted: bool = False) -> AgentRow:
        """Find an agent of the caller's project by its id, a unique prefix of its id, or its name.

        Raises:
            NotFoundError: the project has no such agent; the hint lists the living ones.
            ConflictError: it is deleted and `deleted` was not set, or the prefix matches several agents.
            InvalidError: it cannot be a name or id.
        """
        return (await self.find_all(caller, [reference], deleted=deleted))[0]

    async def find_all(self, caller: Caller, references: Sequence[str], *, deleted: bool = False) -> list[AgentRow]:
        """Find the agents of these references, without duplicates, in order.

        Raises:
            NotFoundError, ConflictError, InvalidError: as for `find`, or there are too many.
        """
        if not references:
            return []
        return await self.work.store.read(lambda connection: find_all(connection, caller, references, deleted))
