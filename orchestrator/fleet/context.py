"""What every verb needs: the unit of work, the workers, the providers, and what each caller was last handed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.domain.activity import Patience, patience
from orchestrator.domain.tool import Call, Caller
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.fleet.execution.slots import AgentSlots
from orchestrator.fleet.lookup import find_all
from orchestrator.fleet.questions.shown import ShownQuestions
from orchestrator.providers.base import Provider
from orchestrator.settings import Settings
from orchestrator.store.schema.tables import AgentTable
from orchestrator.store.turns import outcomes


def stored_key(call: Call) -> str | None:
    """The call's idempotency key as rows carry it: it means something in the caller's project only."""
    return f"{call.caller.project}\n{call.key}" if call.key else None


@dataclass(frozen=True, kw_only=True)
class Offer:
    """Outcomes that were handed to an orchestrator and count as delivered with its next call."""

    key: str | None
    turn_ids: frozenset[str]


@dataclass
class FleetContext:
    """The parts of one fleet, put together in app.py."""

    work: UnitOfWork
    slots: AgentSlots
    providers: Mapping[str, Provider]
    fleet_tools: frozenset[str]
    """the names under which a persona may ask for tools of the fleet itself"""
    settings: Settings
    state: Path
    build: str
    supervision: str
    """how agents' processes are kept and ended on this machine"""
    http: str
    """where HTTP is served on loopback, '' if nowhere"""
    started_at: float = field(default_factory=time.time)
    told: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    """sessions (project, orchestrator) that know what others left behind"""
    offers: dict[tuple[str, str], Offer] = field(default_factory=dict[tuple[str, str], Offer])
    shown: ShownQuestions = field(default_factory=ShownQuestions)

    @property
    def patience(self) -> Patience:
        """How old the last sign of an agent at work may be."""
        return patience(self.settings.stall_seconds, self.settings.tool_seconds)

    async def enter(self, call: Call) -> None:
        """Begin a verb: the caller is here again, so what it was handed before has reached it.

        A call that is sent again after a daemon's death has the key of the first one and confirms nothing.
        """
        who = (call.caller.project, call.caller.orchestrator)
        offer = self.offers.get(who)
        if offer is None or (offer.key is not None and offer.key == call.key):
            return
        del self.offers[who]
        await self.work.store.write(outcomes.deliver, offer.turn_ids, self.work.clock())

    def offer(self, call: Call, turn_ids: Iterable[str]) -> None:
        """Remember the turns whose outcomes this call hands to its orchestrator, beside those since its last call."""
        told = frozenset(turn_ids)
        if told:
            who = (call.caller.project, call.caller.orchestrator)
            before = self.offers.get(who, Offer(key=None, turn_ids=frozenset()))
            self.offers[who] = Offer(key=call.key, turn_ids=before.turn_ids | told)

    async def find(self, caller: Caller, reference: str, *, deleted: bool = False) -> AgentTable:
        """The caller's agent of this id, unique beginning of an id, or name.

        Raises:
            NotFoundError: there is none in the caller's project; with those that live there.
            ConflictError: it is deleted and only a living one will do, or the beginning fits several.
        """
        return (await self.find_all(caller, [reference], deleted=deleted))[0]

    async def find_all(self, caller: Caller, references: Sequence[str], *, deleted: bool = False) -> list[AgentTable]:
        """The agents of these references, each once, in their order.

        Raises:
            NotFoundError: one of them is unknown.
        """
        if not references:
            return []
        return await self.work.store.read(lambda connection: find_all(connection, caller, references, deleted))
