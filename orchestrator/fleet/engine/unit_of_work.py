"""Every change of the fleet goes through here: one transaction, then the claims it led to, then the notifier."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from orchestrator.bus.local import Notifier
from orchestrator.domain.tool import Call, Json, Tool, ToolCall
from orchestrator.fleet.engine.credentials import Accounts
from orchestrator.store.agents.admission import Admission, admit
from orchestrator.store.engine.database import Connection, Store
from orchestrator.store.schema.transitions import told_of
from orchestrator.store.turns.turns import Claim

P = ParamSpec("P")
T = TypeVar("T")


CreateChild = Callable[[Claim, Call, Json], Awaitable[str]]
"""creates an agent for the agent that runs; set by the fleet, whose verb it is"""
TellOfChildren = Callable[[str], Awaitable[str]]
FanOut = Callable[[Claim, ToolCall, Mapping[str, Any], Mapping[str, Any]], Awaitable[str]]
"""carries out the plan that a turn ended with, or sends it back; '' or why the turn fails"""


class Orchestrators(Protocol):
    """The fleet's side of the orchestrators that it runs; set by the fleet, whose tools and sleeps they are."""

    def tools(self, agent_id: str, current: Callable[[], Claim | None]) -> tuple[Tool, ...]:
        """All fleet tools, called as this agent in the run that is current then."""
        ...

    def tool_names(self) -> frozenset[str]:
        """The names that a persona may give them."""
        ...

    async def fall_asleep(
        self, claim: Claim, call: ToolCall, asked: Mapping[str, Any], usage: Mapping[str, Any]
    ) -> None:
        """End the run in the middle of its wait for agents; the end of the sleep is what that very call returns.

        Raises:
            StaleOwnerError: the claim is over; nothing is written.
        """
        ...


def _nobody(claims: list[Claim]) -> None:
    """Before the workers are there nothing is admitted."""
    del claims


@dataclass
class UnitOfWork:
    """Runs operations for the fleet of one daemon.

    `bell` rings after every change of a status, about the agents that changed; `feed` also after every event of a
    session.
    """

    store: Store
    accounts: Accounts
    owner: str
    slots: int
    notifier: Notifier = field(default_factory=Notifier)
    clock: Callable[[], float] = time.time
    """what every deadline is held against, in seconds since the epoch"""
    feed: Notifier = field(default_factory=Notifier)
    create_child: CreateChild | None = None
    tell_of_children: TellOfChildren | None = None
    fan_out: FanOut | None = None
    orchestrators: Orchestrators | None = None
    take: Callable[[list[Claim]], None] = _nobody

    async def commit(self, op: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the operation and, in the same transaction, admit what may start now.

        Whatever it raises is raised here, and then nothing was written. A caller that is cancelled takes nothing with
        it: what its commit admitted is started all the same.
        """
        return await asyncio.shield(self._commit(lambda connection: op(connection, *args, **kwargs)))

    async def _commit(self, op: Callable[[Connection], T]) -> T:
        admission = Admission(owner=self.owner, slots=self.slots, payable=self.accounts.payable())

        def both(connection: Connection) -> tuple[T, list[Claim], set[str]]:
            told_of(connection)
            value = op(connection)
            return value, admit(connection, admission, self.clock()), told_of(connection)

        value, claims, names = await self.store.write(both)
        self.take(claims)
        self.notifier.publish(names)
        self.feed.publish()
        return value
