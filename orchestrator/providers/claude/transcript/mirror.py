"""Claude's transcripts in the fleet's store: mirrored as they are written, written back where they are missing.

Measured with Claude Agent SDK 0.2.186 and Claude Code 2.1.329: a `SessionStore` whose `load` gives anything moves the
program into a temporary directory with half a login, which a kill leaves behind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

from claude_agent_sdk import SessionKey, SessionStore, SessionStoreEntry

from orchestrator import untrusted
from orchestrator.providers.base import TranscriptLine, TranscriptStore
from orchestrator.providers.claude.transcript.files import place_of


class Mirror(SessionStore):
    """Appends what the program writes to the agent's transcript; its key is the agent, whatever the directory."""

    def __init__(self, store: TranscriptStore, agent_id: str) -> None:
        self._store = store
        self._agent_id = agent_id

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        """Return once the lines are durable."""
        lines = [line_of(cast("Mapping[str, object]", entry)) for entry in entries]
        await self._store.append(self._agent_id, key.get("subpath") or "", lines)

    async def load(self, key: SessionKey) -> list[SessionStoreEntry] | None:
        """Nothing, always: where it is missing the transcript is written into the agent's own folder instead."""
        del key
        return None


def mirror(store: TranscriptStore, agent_id: str) -> SessionStore:
    """The SDK's view of one agent's transcript."""
    return Mirror(store, agent_id)  # pyright: ignore[reportAbstractUsage] - the SDK's own defaults say "not supported"


def line_of(entry: Mapping[str, object]) -> TranscriptLine:
    """One entry as a line of the transcript."""
    uuid = entry.get("uuid")
    text = json.dumps(entry, ensure_ascii=True, separators=(",", ":"))
    return TranscriptLine(uuid=uuid if isinstance(uuid, str) else None, body=text)


def write_back(folder: Path, cwd: Path, session_id: str, lines: Sequence[tuple[str, str]]) -> str:
    """Write the mirrored transcript (subpath, line) where the program looks for it below the agent's folder.

    Returns the place of the conversation itself.

    Raises:
        OSError: it cannot be written, or a link stands in its way.
    """
    target = place_of(cwd, session_id)
    files: dict[str, list[str]] = {}
    for subpath, body in lines:
        files.setdefault(subpath, []).append(body)
    for subpath, bodies in files.items():
        place = f"{target.removesuffix('.jsonl')}/{subpath}.jsonl" if subpath else target
        with suppress(ValueError):  # no name that an agent's program gave may lead out of the folder
            untrusted.write(folder, place, "".join(f"{body}\n" for body in bodies).encode())
    return target
