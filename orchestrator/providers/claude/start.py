"""Starts the `claude` program of a session, resuming the agent's conversation if it has one. Imports the SDK late."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.errors import ProviderError
from orchestrator.providers.base import SessionSpec
from orchestrator.providers.claude.program import START_HINT, ProgramConfig, start_program
from orchestrator.providers.claude.totals import SessionTotals, saved_totals
from orchestrator.providers.claude.transcript import files
from orchestrator.providers.claude.transcript.resume import prepare_resume
from orchestrator.providers.watchdog import SilenceLimits
from orchestrator.supervision.hidden import wait_in_place

if TYPE_CHECKING:
    from orchestrator.providers.claude.session import ClaudeSession

KEPT_STDERR_LINES = 100
"""more than an error quotes, because the last lines may be the program's own farewell"""


async def open_session(spec: SessionSpec, program: ProgramConfig, limits: SilenceLimits) -> ClaudeSession:
    """Start the program and return its session; an existing conversation of the agent is always resumed.

    When it fails or is cancelled, no process of the program is left.

    Raises:
        ProviderError: the program does not start; the message holds its error output.
    """
    stderr: deque[str] = deque(maxlen=KEPT_STDERR_LINES)
    await wait_in_place(program.launch.hidden)
    has_conversation = await prepare_resume(spec, program.transcripts)
    if has_conversation or program.transcripts is not None:  # what is missing in the mirror too has never begun
        # the program refuses to start a conversation that exists and to resume one that does not
        spec = replace(spec, resume=has_conversation)
    totals = await _starting_totals(spec)
    try:
        process = await start_program(spec, program, stderr.append)
    except OSError as error:
        raise ProviderError(f"claude does not start: {error}"[:2_000], hint=START_HINT) from error
    try:
        if spec.on_process is not None:
            spec.on_process(process.pid)
        from orchestrator.providers.claude.connect import connect  # imports the SDK while the program starts up

        return await connect(process, spec, program, limits=limits, totals=totals, stderr=stderr)
    except BaseException:
        await process.close()
        raise


async def _starting_totals(spec: SessionSpec) -> SessionTotals:
    """The totals from which the program continues to count."""
    if not spec.resume:
        return SessionTotals()
    with files.folder_errors(spec.folder):
        saved = await asyncio.to_thread(saved_totals, spec.folder, spec.cwd, spec.session_id)
    return saved or SessionTotals(spec.session_cost_usd)
