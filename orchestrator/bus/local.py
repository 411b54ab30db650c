"""The bell inside one process: it says that something was committed, and about whom, never what.

Listen before you read, read once more after a time-out: then no ring is lost. Who sleeps on a few tunes its ear to
them, so that a crowd of sleepers is not woken by everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(eq=False)
class Subscription:
    """One sleeper's subscription."""

    _published: asyncio.Event = field(default_factory=asyncio.Event)

    _names: frozenset[str] | None = None
    """whom it is tuned to; None: everyone"""
    _about: set[str] = field(default_factory=set[str])
    _about_all: bool = False

    def narrow(self, names: Collection[str] | None) -> None:
        """Hear from now on only rings about these names; None: all rings."""
        self._names = None if names is None else frozenset(names)

    def note(self, names: Collection[str] | None) -> None:
        """Wake the sleeper, now or at its next wait, if the ring is about somebody whom it is tuned to."""
        if names is None:
            self._about_all = True
        elif self._names is None or not self._names.isdisjoint(names):
            self._about.update(names)
        else:
            return
        self._published.set()

    def take_topics(self) -> set[str] | None:
        """Whom the rings were about that it heard since it was last asked; None: perhaps anybody."""
        about = None if self._about_all else self._about
        self._about, self._about_all = set(), False
        return about

    async def wait(self, seconds: float | None) -> bool:
        """Return True at once if the bell rang since the last wait, else at the next ring; False after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._published.wait()
        except TimeoutError:
            return False
        self._published.clear()
        return True


@dataclass(eq=False)
class Notifier:
    """Rings for everyone who listens."""

    _subscriptions: set[Subscription] = field(default_factory=set[Subscription])

    @contextmanager
    def subscribe(self) -> Generator[Subscription]:
        """An ear that hears every ring from now to the end of the context."""
        subscription = Subscription()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def publish(self, names: Collection[str] | None = None) -> None:
        """Wake every subscription whom it concerns; without names it concerns everyone."""
        for subscription in self._subscriptions:
            subscription.note(names)
