"""The transcripts of all agents as providers keep them: in the store, by agent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from orchestrator.providers.base import TranscriptLine
from orchestrator.store.engine.database import Store
from orchestrator.store.sessions import transcripts


@dataclass(frozen=True)
class Transcripts:
    """A `TranscriptStore` on the fleet's database."""

    store: Store

    async def append(self, agent_id: str, subpath: str, lines: Sequence[TranscriptLine]) -> None:
        """Add the lines; durable when it returns."""
        rows = [transcripts.Line(uuid=line.uuid, body=line.body) for line in lines]
        await self.store.write(transcripts.append, agent_id, subpath, rows)

    async def subpaths(self, agent_id: str) -> Sequence[str]:
        """The conversations that the agent has: '' for its own, and one for each sub-agent."""
        return await self.store.read(partial(transcripts.subpaths, agent_id=agent_id))

    async def lines(self, agent_id: str, subpath: str) -> AsyncGenerator[str]:
        """The lines of one conversation, in order and in constant memory; close it with its consumer."""
        async with aclosing(transcripts.lines_of(self.store, agent_id, subpath)) as lines:
            async for line in lines:
                yield line.body
