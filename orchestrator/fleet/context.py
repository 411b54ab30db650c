"""What every verb stands on: the store, the workers, the accounts, and how an agent is found by what it is called."""

from __future__ import annotations

import difflib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.domain.activity import Patience, patience
from orchestrator.domain.agent import MAX_NAME_CHARACTERS
from orchestrator.domain.durable_wait import MAX_CURSOR_DIGITS
from orchestrator.domain.text import is_plain
from orchestrator.domain.tool import Call, Caller
from orchestrator.errors import ConflictError, InvalidError, NotFoundError
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.fleet.execution.worker import Workers
from orchestrator.fleet.questions.gate import Shown
from orchestrator.providers.base import Provider
from orchestrator.settings import Settings
from orchestrator.store.agents import lifecycle
from orchestrator.store.engine.database import Connection
from orchestrator.store.queries import agents as agent_queries
from orchestrator.store.schema.tables import Agent

SHOWN_NAMES = 12
MIN_PREFIX_CHARACTERS = 5
MAX_REFERENCE_CHARACTERS = 200


def stored_key(call: Call) -> str | None:
    """The call's idempotency key as rows carry it: it means something in the caller's project only."""
    return f"{call.caller.project}\n{call.key}" if call.key else None


def cursor_of(since: str) -> int:
    """The cursor of an earlier answer as a number.

    Raises:
        InvalidError: it is no cursor.
    """
    if not (since.isascii() and since.isdigit() and len(since) <= MAX_CURSOR_DIGITS):
        raise InvalidError(f"since is {since[:40]!a}", hint="give the cursor of an earlier answer, or 0")
    return int(since)


@dataclass(frozen=True, kw_only=True)
class Offer:
    """Outcomes that were handed to an orchestrator and count as delivered with its next call."""

    key: str | None
    outcomes: Mapping[str, int]


@dataclass
class FleetContext:
    """The parts of one fleet, put together in app.py."""

    work: UnitOfWork
    workers: Workers
    providers: Mapping[str, Provider]
    settings: Settings
    state: Path
    build: str
    supervision: str
    """how agents' processes are kept and ended on this machine"""
    address: str = ""
    """where HTTP is served on loopback"""
    started_at: float = field(default_factory=time.time)
    told: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    """sessions (project, orchestrator) that know what others left behind"""
    offers: dict[tuple[str, str], Offer] = field(default_factory=dict[tuple[str, str], Offer])
    shown: Shown = field(default_factory=Shown)

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
        await self.work.store.write(lifecycle.deliver, offer.outcomes)

    def offer(self, call: Call, outcomes: Mapping[str, int]) -> None:
        """Remember what this call hands to its orchestrator, beside what it was handed since its last one."""
        if outcomes:
            who = (call.caller.project, call.caller.orchestrator)
            before = self.offers.get(who, Offer(key=None, outcomes={}))
            self.offers[who] = Offer(key=call.key, outcomes={**before.outcomes, **outcomes})

    async def find(self, caller: Caller, reference: str, *, deleted: bool = False) -> Agent:
        """The caller's agent of this id, unique beginning of an id, or name.

        Raises:
            NotFoundError: there is none in the caller's project; with those that live there.
            ConflictError: it is deleted and only a living one will do, or the beginning fits several.
        """
        return (await self.find_all(caller, [reference], deleted=deleted))[0]

    async def find_all(self, caller: Caller, references: Sequence[str], *, deleted: bool = False) -> list[Agent]:
        """The agents of these references, each once, in their order.

        Raises:
            NotFoundError: one of them is unknown.
        """
        if not references:
            return []
        return await self.work.store.read(lambda connection: find_all(connection, caller, references, deleted))


def find_all(connection: Connection, caller: Caller, references: Sequence[str], deleted: bool = False) -> list[Agent]:
    """The agents of these references in the caller's project, each once, in their order.

    Raises:
        NotFoundError, ConflictError, InvalidError: as `FleetContext.find` tells.
    """
    found = [_find(connection, caller.project, reference, deleted=deleted) for reference in references]
    return list({agent.id: agent for agent in found}.values())


def _find(connection: Connection, project: str, reference: str, *, deleted: bool) -> Agent:
    if not reference.strip():
        raise InvalidError("an agent's name is empty", hint="give its id or name")
    if not is_plain(reference) or len(reference) > MAX_REFERENCE_CHARACTERS:
        raise InvalidError(f"{reference[:80]!a} is no agent's name or id", hint="give its id or name")
    found = agent_queries.by_reference(connection, reference, project)
    if not found:
        raise _unknown(reference, agent_queries.living(connection, project))
    return _chosen(reference, found, deleted=deleted)


def _chosen(reference: str, found: Sequence[Agent], *, deleted: bool) -> Agent:
    exact = [agent for agent in found if reference in {agent.id, agent.name}]
    candidates = exact or (list(found) if len(reference) >= MIN_PREFIX_CHARACTERS else [])
    living = [agent for agent in candidates if agent.deleted_at is None]
    if not candidates:
        raise NotFoundError(f"no agent {reference!r}", hint="give its name, its id, or more of its id")
    if not exact and len(living or candidates) > 1:
        ids = ", ".join(agent.id for agent in candidates[:SHOWN_NAMES])
        raise ConflictError(f"{reference!r} fits several agents: {ids}", hint="give more of the id")
    if living:
        return living[0]
    if deleted:
        return candidates[0]
    raise ConflictError(
        f"{candidates[0].name} ({candidates[0].id}) is deleted",
        hint="its results stay readable with get_agent_output; create a new agent for new work",
    )


def _unknown(reference: str, living: Sequence[Agent]) -> NotFoundError:
    names = [agent.name for agent in living]
    close = difflib.get_close_matches(reference[:MAX_NAME_CHARACTERS], names, 1)
    meant = f"did you mean {close[0]}? " if close else ""
    shown = ", ".join(f"{agent.name} ({agent.status})" for agent in living[:SHOWN_NAMES])
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    hint = f"{meant}agents here: {shown}{more}" if names else "there are no agents in this project: create_agent"
    return NotFoundError(f"no agent {reference[:80]!r}", hint=hint)
