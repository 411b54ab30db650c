"""Claude's transcripts in the fleet's store: mirrored as they are written, written back where they are missing.

Facts are of Claude Agent SDK 0.2.186 with Claude Code 2.1.329, measured: the program names a conversation's folder
after its directory, so that it does not find it from another one; a `SessionStore` whose `load` gives anything moves
the program into a temporary directory with half a login, which a kill leaves behind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from claude_agent_sdk import SessionKey, SessionStore, SessionStoreEntry, project_key_for_directory

from orchestrator.providers.base import TranscriptLine, TranscriptStore
from orchestrator.providers.claude_totals import transcript_of

PRIVATE = 0o700


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


def place_of(config: Path, cwd: Path, session_id: str) -> Path:
    """The file in which the program looks for this conversation when it is started in `cwd`."""
    return config / "projects" / project_key_for_directory(cwd) / f"{session_id}.jsonl"


def move_here(config: Path, cwd: Path, session_id: str) -> bool:
    """Have the agent's own transcript lie where the program looks for it; False if the agent's folder has none."""
    target = place_of(config, cwd, session_id)
    found = target if target.exists() else transcript_of(config, session_id)
    if found is None:
        return False
    if found.parent != target.parent and not _same_long_name(found.parent.name, target.parent.name):
        target.parent.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        found.replace(target)
        if (extra := found.with_suffix("")).is_dir():
            extra.rename(target.with_suffix(""))
    return True


def _same_long_name(found: str, wanted: str) -> bool:
    """Whether both are shortened names of one long path: program and SDK end those with different hashes."""
    return len(wanted) > MAX_KEY and found[:MAX_KEY] == wanted[:MAX_KEY]


MAX_KEY = 200


def write_back(config: Path, cwd: Path, session_id: str, lines: Sequence[tuple[str, str]]) -> None:
    """Write the mirrored transcript (subpath, line) where the program looks for it."""
    target = place_of(config, cwd, session_id)
    files: dict[str, list[str]] = {}
    for subpath, body in lines:
        files.setdefault(subpath, []).append(body)
    for subpath, bodies in files.items():
        path = target.with_suffix("") / f"{subpath}.jsonl" if subpath else target
        if not path.resolve().is_relative_to(target.parent.resolve()):
            continue  # no name that an agent's program gave may lead out of the folder
        path.parent.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text("".join(f"{body}\n" for body in bodies), encoding="utf-8")
        fresh.replace(path)
