"""Mirrors transcripts into the fleet's store as they are written.

Measured with Claude Agent SDK 0.2.186 and Claude Code 2.1.329: if `SessionStore.load` returns anything, the program
runs in a temporary directory with half of the login, which remains after a kill.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

from claude_agent_sdk import SessionKey, SessionStore, SessionStoreEntry

from orchestrator.providers.base import TranscriptLine, TranscriptStore


class TranscriptMirror(SessionStore):
    """Appends what the program writes to the agent's transcript in the store, whatever the working directory."""

    def __init__(self, store: TranscriptStore, agent_id: str) -> None:
        self._store = store
        self._agent_id = agent_id

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        """Return once the lines are durable."""
        lines = [transcript_line(cast("Mapping[str, object]", entry)) for entry in entries]
        await self._store.append(self._agent_id, key.get("subpath") or "", lines)

    async def load(self, key: SessionKey) -> list[SessionStoreEntry] | None:
        """Always None: a missing transcript is restored into the agent's own folder instead."""
        del key
        return None


def mirror(store: TranscriptStore, agent_id: str) -> SessionStore:
    """The mirror of one agent, as the SDK expects it."""
    return TranscriptMirror(store, agent_id)  # pyright: ignore[reportAbstractUsage] - the SDK's own defaults say "not supported"


def transcript_line(entry: Mapping[str, object]) -> TranscriptLine:
    """One entry of the SDK as a line of the transcript."""
    uuid = entry.get("uuid")
    text = json.dumps(entry, ensure_ascii=True, separators=(",", ":"))
    return TranscriptLine(uuid=uuid if isinstance(uuid, str) else None, body=text)
