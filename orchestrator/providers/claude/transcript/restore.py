"""Restores transcripts from the fleet's store where they are missing on disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import BinaryIO

from orchestrator import untrusted
from orchestrator.providers.base import TranscriptStore
from orchestrator.providers.claude.transcript.files import folder_errors, transcript_place

CHUNK_BYTES = 256 * 2**10
"""how much of a transcript is collected before it is written"""


async def restore(folder: Path, cwd: Path, session_id: str, store: TranscriptStore, agent_id: str) -> str | None:
    """Write the agent's mirrored transcripts where the program looks for them, in chunks in constant memory.

    Returns the path of the conversation's own transcript, relative to the agent's folder; None if the store has none.
    It is the last to appear, so it is there only if those of the sub-agents are. Errors of the store are passed on.

    Raises:
        ProviderError: the folder cannot be written to, or a link is in the way.
    """
    target = transcript_place(cwd, session_id)
    subpaths = await store.subpaths(agent_id)
    if "" not in subpaths:
        return None
    with folder_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for subpath in sorted(subpaths, reverse=True):
        place = f"{target.removesuffix('.jsonl')}/{subpath}.jsonl" if subpath else target
        with ExitStack() as stack:
            try:
                with folder_errors(folder):
                    file = stack.enter_context(untrusted.replacing(folder, place))
            except ValueError:
                if not subpath:
                    raise
                continue  # no subpath may lead out of the folder
            await _copy(store.lines(agent_id, subpath), file, folder)
            with folder_errors(folder):
                stack.close()  # the file gets its name
    return target


async def _copy(lines: AsyncGenerator[str], file: BinaryIO, folder: Path) -> None:
    chunk = bytearray()
    async with aclosing(lines):
        async for line in lines:
            chunk += f"{line}\n".encode()
            if len(chunk) >= CHUNK_BYTES:
                await _write(file, chunk, folder)
                chunk.clear()
    await _write(file, chunk, folder)


async def _write(file: BinaryIO, chunk: bytearray, folder: Path) -> None:
    with folder_errors(folder):
        await asyncio.to_thread(file.write, chunk)
