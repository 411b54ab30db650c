"""Starts the `claude` program of a session, resuming the agent's conversation if it has one."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace

from claude_agent_sdk import ClaudeSDKClient, ClaudeSDKError

from orchestrator.errors import ProviderError, SessionDiedError
from orchestrator.providers.base import SessionSpec
from orchestrator.providers.claude.gate import Gate
from orchestrator.providers.claude.options import ProgramConfig, session_options
from orchestrator.providers.claude.outcome import STDERR_LINES, was_killed
from orchestrator.providers.claude.session import ClaudeSession
from orchestrator.providers.claude.totals import SessionTotals, saved_totals
from orchestrator.providers.claude.transcript import files
from orchestrator.providers.claude.transcript.resume import prepare_resume
from orchestrator.providers.watchdog import SilenceLimits

CHECK_SECONDS = 0.005


async def open_session(spec: SessionSpec, program: ProgramConfig, limits: SilenceLimits) -> ClaudeSession:
    """Start the program and return its session; an existing conversation of the agent is always resumed.

    Raises:
        ProviderError: the program does not start; the message holds its error output.
    """
    stderr: deque[str] = deque(maxlen=STDERR_LINES * 5)
    gate = Gate(spec.decide)
    has_conversation = await prepare_resume(spec, program.transcripts)
    if has_conversation or program.transcripts is not None:  # what is missing in the mirror too has never begun
        # the program refuses to start a conversation that exists and to resume one that does not
        spec = replace(spec, resume=has_conversation)
    totals = await _starting_totals(spec)
    try:
        client = ClaudeSDKClient(session_options(spec, program, gate, stderr.append))
        await _connect(client)
    except (ClaudeSDKError, OSError) as error:
        raise _start_error(error, stderr) from error
    except ProviderError:
        raise
    except Exception as error:  # the SDK raises plain Exception when initialize fails or takes over 60 s
        raise _start_error(error, stderr) from error
    _report_process(client, spec)
    return ClaudeSession(client, spec, gate, stderr, limits=limits, totals=totals)


async def _connect(client: ClaudeSDKClient) -> None:
    """Start the program; when cancelled meanwhile, return only when no process of it is left."""
    connecting = asyncio.create_task(client.connect())
    try:
        await asyncio.shield(connecting)
    except asyncio.CancelledError:
        await asyncio.shield(asyncio.create_task(_give_up(client, connecting)))
        raise


async def _give_up(client: ClaudeSDKClient, connecting: asyncio.Task[None]) -> None:
    """Cancel the start as soon as its process is known: earlier, asyncio would lose the process (see `spawn`)."""
    while not connecting.done() and _process_id(client) is None:  # noqa: ASYNC110 - the SDK has no event for it
        await asyncio.sleep(CHECK_SECONDS)
    connecting.cancel()
    await asyncio.wait({connecting})
    if not connecting.cancelled() and connecting.exception() is None:  # it was ready before it could be cancelled
        await client.disconnect()


def _process_id(client: ClaudeSDKClient) -> int | None:
    """The id of the program's process, which the SDK does not publish (0.2.186; a test watches it)."""
    process = getattr(getattr(client, "_transport", None), "_process", None)
    return pid if isinstance(pid := getattr(process, "pid", None), int) else None


def _report_process(client: ClaudeSDKClient, spec: SessionSpec) -> None:
    pid = _process_id(client)
    if spec.on_process is not None and pid is not None:
        spec.on_process(pid)


async def _starting_totals(spec: SessionSpec) -> SessionTotals:
    """The totals from which the program continues to count."""
    if not spec.resume:
        return SessionTotals()
    with files.folder_errors(spec.folder):
        saved = await asyncio.to_thread(saved_totals, spec.folder, spec.cwd, spec.session_id)
    return saved or SessionTotals(spec.session_cost_usd)


def _start_error(error: Exception, stderr: deque[str]) -> ProviderError:
    error_output = "\n".join(list(stderr)[-STDERR_LINES:])
    kind = SessionDiedError if was_killed(error, error_output) else ProviderError
    return kind(
        f"claude does not start: {error_output or error}"[:2_000],
        hint="run `claude --version` and `fleet doctor`; the program is CLAUDE_CODE_PATH or the bundled one",
    )
