"""Notifications inside one process: something was committed, and for which topics; never what.

Subscribe before you read, and read once more after a time-out: then no notification is lost. A waiter narrows its
subscription to the topics it cares about, so a crowd of waiters does not wake for everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(eq=False)
class Subscription:
    """One waiter's subscription."""

    _published: asyncio.Event = field(default_factory=asyncio.Event)

    _names: frozenset[str] | None = None
    """the topics it wakes for; None: all"""
    _about: set[str] = field(default_factory=set[str])
    _about_all: bool = False

    def narrow(self, names: Collection[str] | None) -> None:
        """Wake only for these topics from now on; None: for all."""
        self._names = None if names is None else frozenset(names)

    def note(self, names: Collection[str] | None) -> None:
        """Wake the waiter, now or at its next wait, if it subscribed to one of these topics."""
        if names is None:
            self._about_all = True
        elif self._names is None or not self._names.isdisjoint(names):
            self._about.update(names)
        else:
            return
        self._published.set()

    def take_topics(self) -> set[str] | None:
        """The topics of the notifications since the last call; None: possibly any."""
        about = None if self._about_all else self._about
        self._about, self._about_all = set(), False
        return about

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
    """Publishes to every subscription."""

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

    def publish(self, names: Collection[str] | None = None) -> None:
        """Wake every subscription to one of these topics; without topics, wake all."""
        for subscription in self._subscriptions:
            subscription.note(names)
