"""An agent's conversation before a session opens: its former program gone, its transcript where the program looks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from orchestrator import untrusted
from orchestrator.domain.transcript_state import TranscriptState
from orchestrator.errors import ProviderError
from orchestrator.providers.base import SessionSpec, TranscriptStore
from orchestrator.providers.claude.transcript import files
from orchestrator.providers.claude.transcript.mirror import write_back
from orchestrator.providers.claude.transcript.recall import standing
from orchestrator.supervision import leftovers

_PROMPT = b'"type":"user"'
GONE_SECONDS = 20.0
"""above what the shim takes at most to end its program and all that it started"""


async def ready_past(spec: SessionSpec, transcripts: TranscriptStore | None) -> bool:
    """Whether the session has a conversation to resume; it then lies where the program looks for it.

    One that is missing here (another machine, a lost folder) is written back from the mirror.

    Raises:
        ProviderError: a former program of the session does not end within 20 s, or the agent's folder cannot be used.
    """
    return await _past(spec, transcripts) is not None


async def recall(spec: SessionSpec, prompts: Sequence[str], transcripts: TranscriptStore | None) -> TranscriptState:
    """Where the turn with these prompts stands in the conversation.

    Raises:
        ProviderError: a former program of the session does not end within 20 s, or the agent's folder cannot be used.
    """
    place = await _past(spec, transcripts)
    with files.agents_own(spec.folder):
        return await asyncio.to_thread(_standing, spec.folder, place, prompts)


async def _past(spec: SessionSpec, transcripts: TranscriptStore | None) -> str | None:
    """Where the conversation lies below the agent's folder; None if there is none."""
    await _former_gone(spec)
    with files.agents_own(spec.folder):
        found = await asyncio.to_thread(_begun, spec)
    if found is not None or transcripts is None:
        return found
    mirrored = await transcripts.lines(spec.agent_id)
    if not any(not subpath for subpath, _ in mirrored):
        return None
    with files.agents_own(spec.folder):
        spec.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return await asyncio.to_thread(write_back, spec.folder, spec.cwd, spec.session_id, mirrored)


def _begun(spec: SessionSpec) -> str | None:
    """Where a conversation lies here; a file without a prompt (its program was killed early) is taken away.

    Such a file the program can neither resume nor begin anew (Claude Code 2.1.329, measured).
    """
    place = files.found_place(spec.folder, spec.cwd, spec.session_id)
    if place is None:
        return None
    with closing(files.lines(spec.folder, place)) as lines:
        if any(_PROMPT in line for line in lines):
            return place
    untrusted.remove(spec.folder, place)
    return None


def _standing(folder: Path, place: str | None, prompts: Sequence[str]) -> TranscriptState:
    lines = files.lines(folder, place) if place is not None else iter(())
    return standing((line.decode("utf-8", "replace") for line in lines), prompts)


async def _former_gone(spec: SessionSpec) -> None:
    if left := await leftovers.wait_gone(spec.session_id, GONE_SECONDS):
        pids = ", ".join(map(str, left))
        raise ProviderError(
            f"a former program of this session is still alive (pid {pids}); two at once would lose turns",
            hint=f"end it (kill {left[0]}) and command the agent again",
        )
