"""Publish and subscribe inside one process: waiters learn that something was committed and for which topics, not what.

Subscribe before you read, and read once more after a time-out: then no notification is lost. A waiter narrows its
subscription to the topics it cares about, so that not every waiter wakes for every commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(eq=False)
class Subscription:
    """One waiter's subscription: remembers the topics published since the waiter last looked."""

    _published: asyncio.Event = field(default_factory=asyncio.Event)

    _topics: frozenset[str] | None = None
    """the topics that wake the waiter; None: all"""
    _pending: set[str] = field(default_factory=set[str])
    _pending_all: bool = False

    def narrow(self, topics: Collection[str] | None) -> None:
        """Wake only for these topics from now on; None: for every topic."""
        self._topics = None if topics is None else frozenset(topics)

    def notify(self, topics: Collection[str] | None) -> None:
        """Wake the waiter, now or at its next wait, if it is subscribed to one of these topics."""
        if topics is None:
            self._pending_all = True
        elif self._topics is None or not self._topics.isdisjoint(topics):
            self._pending.update(topics)
        else:
            return
        self._published.set()

    def take_topics(self) -> set[str] | None:
        """The topics of the notifications since the last call; None: possibly any."""
        pending = None if self._pending_all else self._pending
        self._pending, self._pending_all = set(), False
        return pending

    async def wait(self, seconds: float | None) -> bool:
        """Return True at once if notified since the last wait, else at the next notification; False after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._published.wait()
        except TimeoutError:
            return False
        self._published.clear()
        return True


@dataclass(eq=False)
class Notifier:
    """Wakes subscribed waiters when something was committed."""

    _subscriptions: set[Subscription] = field(default_factory=set[Subscription])

    @contextmanager
    def subscribe(self) -> Generator[Subscription]:
        """A subscription to every notification from now to the end of the context."""
        subscription = Subscription()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def publish(self, topics: Collection[str] | None = None) -> None:
        """Wake every waiter that is subscribed to one of these topics; None: wake all."""
        for subscription in self._subscriptions:
            subscription.notify(topics)
