"""Prepares a conversation for resumption: its previous program has exited, and its transcript is where claude looks."""

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
from orchestrator.providers.claude.transcript.recall import transcript_state
from orchestrator.providers.claude.transcript.restore import restore
from orchestrator.supervision import leftovers

_PROMPT_MARK = b'"type":"user"'
PROGRAM_EXIT_SECONDS = 20.0
"""more than the shim needs to end its program and everything that it started"""


async def prepare_resume(spec: SessionSpec, transcripts: TranscriptStore | None) -> bool:
    """Put the session's transcript where the program looks for it; return whether there is one to resume.

    A transcript that is missing on disk (another machine, a lost folder) is restored from the mirror.

    Raises:
        ProviderError: a previous program of the session does not exit within 20 s, or the agent's folder is not usable.
    """
    return await _find_or_restore(spec, transcripts) is not None


async def recall(spec: SessionSpec, prompts: Sequence[str], transcripts: TranscriptStore | None) -> TranscriptState:
    """Read from the transcript how far the turn with these prompts has come.

    Raises:
        ProviderError: a previous program of the session does not exit within 20 s, or the agent's folder is not usable.
    """
    transcript = await _find_or_restore(spec, transcripts)
    with files.folder_errors(spec.folder):
        return await asyncio.to_thread(_read_state, spec.folder, transcript, prompts)


async def _find_or_restore(spec: SessionSpec, transcripts: TranscriptStore | None) -> str | None:
    """Where the transcript is in the agent's folder, restored from the mirror if it is missing; None without one."""
    await _wait_previous_program(spec)
    with files.folder_errors(spec.folder):
        local = await asyncio.to_thread(_find_local, spec)
    if local is not None or transcripts is None:
        return local
    return await restore(spec.folder, spec.cwd, spec.session_id, transcripts, spec.agent_id)


def _find_local(spec: SessionSpec) -> str | None:
    """Where the transcript is on disk; a file without a prompt (its program was killed early) is removed.

    The program can neither resume nor restart such a file (Claude Code 2.1.329, measured).
    """
    transcript = files.find_transcript(spec.folder, spec.cwd, spec.session_id)
    if transcript is None:
        return None
    with closing(files.lines(spec.folder, transcript)) as lines:
        if any(_PROMPT_MARK in line for line in lines):
            return transcript
    untrusted.remove(spec.folder, transcript)
    return None


def _read_state(folder: Path, transcript: str | None, prompts: Sequence[str]) -> TranscriptState:
    lines = files.lines(folder, transcript) if transcript is not None else iter(())
    return transcript_state((line.decode("utf-8", "replace") for line in lines), prompts)


async def _wait_previous_program(spec: SessionSpec) -> None:
    if pids := await leftovers.wait_gone(spec.session_id, PROGRAM_EXIT_SECONDS):
        listed = ", ".join(map(str, pids))
        raise ProviderError(
            f"a previous program of this session is still running (pid {listed}); two at once would lose turns",
            hint=f"end it (kill {pids[0]}) and command the agent again",
        )
