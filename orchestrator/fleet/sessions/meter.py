"""Watches what a running turn uses, and stops it at its cap before the next model call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from orchestrator.domain.budget import UNPRICED, Headroom, Unit, shortage
from orchestrator.domain.event import Ended, Opened, SessionEvent, Spent, ToolStarted
from orchestrator.domain.tool import ToolCall
from orchestrator.domain.wait import Wait
from orchestrator.errors import StoreError
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.store.engine.connection import Connection
from orchestrator.store.families import budgets
from orchestrator.store.turns.turns import Claim

TOLD_SECONDS = 1.0
"""a tool call may be asked for at most this long before the model's message with it has been read"""
LOOK_SECONDS = 2.0
STORE_AGAIN_SECONDS = 0.5


@dataclass(eq=False)
class Meter:
    """The meter of one run: it counts events, and calls `stop` with the wait once a cap is reached."""

    work: UnitOfWork
    claim: Claim
    flush: Callable[[], Awaitable[None]]
    stop: Callable[[Wait], None]
    prompt_received: bool = False
    """the session has shown that it received its prompt"""
    _price_unknown: bool = False
    _calls: set[str] = field(default_factory=set[str])
    _called: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, event: SessionEvent) -> None:
        """Count an event of the session."""
        self.prompt_received = self.prompt_received or not isinstance(event, Opened | Ended)
        match event:
            case Spent():
                self._price_unknown = self._price_unknown or event.cost_usd is None
                self._news.set()
            case ToolStarted():
                self._calls.add(event.call_id)
                self._called.set()
            case _:
                return

    async def watch(self) -> None:
        """Check the caps after each model call, and when the time may be up, until one is reached."""
        while True:
            self._news.clear()  # before reading: what arrives meanwhile is checked next
            try:
                rooms = await self._rooms()
            except StoreError:  # reported elsewhere; the gate allows no tool meanwhile
                await asyncio.sleep(STORE_AGAIN_SECONDS)
                continue
            if (wait := self._wait(rooms)) is not None:
                self.stop(wait)
                return
            try:
                async with asyncio.timeout(_nap(rooms)):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def reached(self) -> Wait | None:
        """The wait at the cap that allows no further model call; None if none is reached."""
        return self._wait(await self._rooms())

    async def allows(self, call: ToolCall) -> bool:
        """Whether a tool may run, once the model call that asked for it is counted."""
        if not await self._rooms():
            return True
        await self._told(call.id)
        wait = self._wait(await self._rooms())
        if wait is not None:
            self.stop(wait)
        return wait is None

    async def _told(self, call_id: str) -> None:
        try:
            async with asyncio.timeout(TOLD_SECONDS):
                while call_id not in self._calls:
                    self._called.clear()
                    await self._called.wait()
        except TimeoutError:
            return

    async def _rooms(self) -> list[Headroom]:
        await self.flush()

        def rooms(connection: Connection) -> list[Headroom]:
            return budgets.rooms(connection, self.claim.agent_id, self.work.clock())

        return await self.work.store.read(rooms)

    def _wait(self, rooms: list[Headroom]) -> Wait | None:
        if self._price_unknown and any(room.unit is Unit.USD for room in rooms):
            return UNPRICED
        short = shortage(rooms, starts_turn=False)
        return None if short is None else short.wait(self.claim.agent_id)


def _nap(rooms: list[Headroom]) -> float | None:
    """Seconds until a cap on seconds may be reached; others of the family use it too, so check it again then."""
    left = [room.left for room in rooms if room.unit is Unit.SECONDS]
    return max(0.01, min([LOOK_SECONDS, *left])) if left else None
