"""The transcripts of all agents as providers keep them: in the store, by agent."""

from __future__ import annotations

from collections.abc import Sequence
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

    async def lines(self, agent_id: str) -> Sequence[tuple[str, str]]:
        """All lines of the agent with their subpath, in order."""
        return await self.store.read(partial(transcripts.lines_of, agent_id=agent_id))
