"""All agents that run in this daemon: claims arrive here, and verbs reach running turns through here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from orchestrator import log
from orchestrator.fleet.sessions import steering
from orchestrator.fleet.sessions.slot import LEFT, AgentSlot, Stop
from orchestrator.providers.base import Prompt
from orchestrator.store.turns.turns import Claim

LOG = log.logger("fleet.slots")
STOP_SECONDS = 10.0
"""how long an interrupted session may take to end before it is closed"""


@dataclass
class AgentSlots:
    """The slots of this daemon, by agent. A claim gets its slot at once; a worker follows."""

    _slots: dict[str, AgentSlot] = field(default_factory=dict[str, AgentSlot])
    _unserved: asyncio.Queue[AgentSlot] = field(default_factory=asyncio.Queue[AgentSlot])
    _interrupts: bool = False

    def dispatch(self, claims: Sequence[Claim]) -> None:
        """Hand these claims to the slots of their agents; an idle session is reused."""
        for claim in claims:
            slot = self._slots.get(claim.agent_id)
            if slot is None:
                slot = AgentSlot(claim.agent_id)
                self._slots[claim.agent_id] = slot
                self._unserved.put_nowait(slot)
            slot.take(claim)

    async def next_unserved(self) -> AgentSlot:
        """Wait for the next slot that needs a worker."""
        return await self._unserved.get()

    def release(self, slot: AgentSlot) -> None:
        """Remove the slot; claims that arrived while its session closed get a new slot, which inherits a stop."""
        del self._slots[slot.agent_id]
        late = [slot.inbox.get_nowait() for _ in range(slot.inbox.qsize())]
        self.dispatch(claims := [claim for claim in late if claim is not None])
        if claims and slot.stopping:
            self._slots[slot.agent_id].stop(slot.stopping)
        slot.started.set()
        slot.left.set()

    async def wait_started(self, seconds: float) -> None:
        """Return once every agent that is here is at work or never will be, at the latest after `seconds`.

        What blocks the event loop meanwhile, such as the first import of a provider's SDK, makes it later.
        """
        waits = [asyncio.create_task(slot.started.wait()) for slot in self._slots.values()]
        if waits:
            _, late = await asyncio.wait(waits, timeout=seconds)
            for task in late:
                task.cancel()

    def owns(self, agent_id: str) -> bool:
        """Whether a turn of the agent runs here or is about to."""
        slot = self._slots.get(agent_id)
        return slot is not None and (slot.busy or slot.claim is not None)

    def session_count(self) -> int:
        """How many sessions are open, including idle ones."""
        return sum(slot.opened is not None for slot in self._slots.values())

    def interrupt(self, agent_id: str, reason: str, turn_id: str | None = None) -> None:
        """Interrupt the agent's running turn, if it is this one and runs here."""
        slot = self._slots.get(agent_id)
        if slot is not None and slot.busy and turn_id in {None, slot.turn_id}:
            slot.stop(Stop(reason=reason))

    async def steer(self, agent_id: str, turn_id: str, text: str) -> str:
        """Hand the text of this queued turn to the running one; returns what happened, '' if that is still open."""
        slot = self._slots.get(agent_id)
        if slot is None or not slot.busy or slot.turn_id == turn_id:
            return ""
        return await steering.steer(slot, Prompt(id=steering.steer_id(turn_id), text=text))

    async def stop(self, agent_id: str, reason: str) -> None:
        """Interrupt the running turn and return once the agent has no open session here."""
        while (slot := self._slots.get(agent_id)) is not None:
            self.interrupt(agent_id, reason)
            slot.inbox.put_nowait(None)
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS + 5):
                    await slot.left.wait()
            if not slot.left.is_set():
                LOG.error("session_does_not_end", agent=agent_id)
                return

    def interrupt_at_end(self) -> None:
        """Make `stop_all` interrupt running turns instead of leaving them to the next daemon."""
        self._interrupts = True

    async def stop_all(self) -> None:
        """Close every session; running turns are left to the next daemon, or interrupted if asked for."""
        reason = "stopped" if self._interrupts else LEFT
        await asyncio.gather(*[self.stop(agent_id, reason) for agent_id in list(self._slots)])
