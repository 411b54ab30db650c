"""The unit of work: one transaction, the claims that it admits, and the notifications about it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from orchestrator.bus.local import Notifier
from orchestrator.fleet.engine.credentials import Accounts
from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.database import Store
from orchestrator.store.scheduling.admission import Admission, admit
from orchestrator.store.schema.transitions import touched_topics
from orchestrator.store.turns.turns import Claim

P = ParamSpec("P")
T = TypeVar("T")


class Claims(Protocol):
    """Where admitted claims go after their commit."""

    def dispatch(self, claims: Sequence[Claim], /) -> None:
        """Take these claims; their turns count as running from now on."""
        ...


@dataclass
class UnitOfWork:
    """Commits operations for the fleet of one daemon.

    `notifier` publishes changes of status under the topics of the agents that changed; `feed` publishes every
    commit, and every event of a session.
    """

    store: Store
    accounts: Accounts
    claims: Claims
    owner: str
    slots: int
    """how many turns may run at once"""
    clock: Callable[[], float] = time.time
    """the clock that deadlines are compared with, in seconds since the epoch"""
    notifier: Notifier = field(default_factory=Notifier)
    feed: Notifier = field(default_factory=Notifier)

    async def commit(self, op: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the operation and, in the same transaction, admit the turns that may start now.

        Whatever the operation raises is raised here, and nothing was written. Cancelling the caller does not undo the
        commit: admitted claims are dispatched in any case.
        """
        return await asyncio.shield(self._commit(lambda connection: op(connection, *args, **kwargs)))

    def stop_admitting(self) -> None:
        """Admit nothing in commits that begin from now on."""
        self.slots = 0

    async def _commit(self, op: Callable[[Connection], T]) -> T:
        admission = Admission(owner=self.owner, slots=self.slots, payable=self.accounts.payable())

        def both(connection: Connection) -> tuple[T, list[Claim], set[str]]:
            touched_topics(connection)
            value = op(connection)
            return value, admit(connection, admission, self.clock()), touched_topics(connection)

        value, claims, names = await self.store.write(both)
        self.claims.dispatch(claims)
        self.notifier.publish(names)
        self.feed.publish()
        return value
