"""An agent's conversation before a session opens: its former program gone, its transcript where the program looks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from orchestrator.domain.standing import Standing
from orchestrator.errors import ProviderError
from orchestrator.providers.base import SessionSpec, TranscriptStore
from orchestrator.providers.claude_mirror import move_here, place_of, write_back
from orchestrator.providers.claude_options import CONFIG
from orchestrator.providers.claude_recall import standing
from orchestrator.providers.claude_totals import transcript_of
from orchestrator.supervision import remains

_PROMPT = b'"type":"user"'
GONE_SECONDS = 20.0
"""above what the shim takes at most to end its program and all that it started"""


async def ready_past(spec: SessionSpec, transcripts: TranscriptStore | None) -> bool:
    """Whether the session has a conversation to resume; it then lies where the program looks for it.

    One that is missing here (another machine, a lost folder) is written back from the mirror.

    Raises:
        ProviderError: a former program of the session does not end within 20 s.
    """
    await _former_gone(spec)
    config = spec.folder / CONFIG
    if await asyncio.to_thread(_has_begun, config, spec):
        return True
    if transcripts is None:
        return False
    lines = await transcripts.lines(spec.agent_id)
    if not any(not subpath for subpath, _ in lines):
        return False
    await asyncio.to_thread(write_back, config, spec.cwd, spec.session_id, lines)
    return True


def _has_begun(config: Path, spec: SessionSpec) -> bool:
    """Whether a conversation lies here; a file without a prompt (its program was killed early) is taken away.

    Such a file the program can neither resume nor begin anew (Claude Code 2.1.329, measured).
    """
    if not move_here(config, spec.cwd, spec.session_id):
        return False
    path = transcript_of(config, spec.session_id)
    if path is None:
        return False
    with path.open("rb") as lines:
        if any(_PROMPT in line for line in lines):
            return True
    path.unlink()
    return False


async def recall(spec: SessionSpec, prompts: Sequence[str], transcripts: TranscriptStore | None) -> Standing:
    """Where the turn with these prompts stands in the conversation.

    Raises:
        ProviderError: a former program of the session does not end within 20 s.
    """
    await ready_past(spec, transcripts)
    config = spec.folder / CONFIG
    path = place_of(config, spec.cwd, spec.session_id)
    found = path if path.exists() else transcript_of(config, spec.session_id)
    if found is None:
        return standing([], prompts)
    text = await asyncio.to_thread(found.read_text, "utf-8", "replace")
    return await asyncio.to_thread(standing, text.split("\n"), prompts)


async def _former_gone(spec: SessionSpec) -> None:
    if left := await remains.wait_gone(spec.session_id, GONE_SECONDS):
        pids = ", ".join(map(str, left))
        raise ProviderError(
            f"a former program of this session is still alive (pid {pids}); two at once would lose turns",
            hint=f"end it (kill {left[0]}) and command the agent again",
        )
