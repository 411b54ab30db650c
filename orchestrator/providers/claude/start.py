"""Starts the real `claude` program for a session."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace

from claude_agent_sdk import ClaudeSDKClient, ClaudeSDKError

from orchestrator.errors import ProviderError, SessionDiedError
from orchestrator.providers.base import SessionSpec
from orchestrator.providers.claude.gate import Gate
from orchestrator.providers.claude.options import Program, session_options
from orchestrator.providers.claude.outcome import STDERR_LINES, was_killed
from orchestrator.providers.claude.session import ClaudeSession
from orchestrator.providers.claude.totals import SessionTotals, saved_totals
from orchestrator.providers.claude.transcript import files
from orchestrator.providers.claude.transcript.resume import ready_past
from orchestrator.providers.watchdog import SilenceLimits


async def open_session(spec: SessionSpec, program: Program, limits: SilenceLimits) -> ClaudeSession:
    """Start the program and return its session; a conversation that stands in the agent's folder is always resumed.

    Raises:
        ProviderError: it does not start; with its own words.
    """
    stderr: deque[str] = deque(maxlen=STDERR_LINES * 5)
    gate = Gate(spec.decide)
    has_past = await ready_past(spec, program.transcripts)
    if has_past or program.transcripts is not None:  # what the mirror does not know has never begun
        spec = replace(spec, resume=has_past)  # the program refuses an id that is in use, and one that it cannot find
    totals = await _totals(spec)
    try:
        client = ClaudeSDKClient(session_options(spec, program, gate, stderr.append))
        await client.connect()
    except (ClaudeSDKError, OSError) as error:
        raise _cannot_start(error, stderr) from error
    except ProviderError:
        raise
    except Exception as error:  # the SDK raises plain Exception when initialize fails or takes over 60 s
        raise _cannot_start(error, stderr) from error
    _tell_process(client, spec)
    return ClaudeSession(client, spec, gate, stderr, limits=limits, totals=totals)


def _tell_process(client: ClaudeSDKClient, spec: SessionSpec) -> None:
    """Tell the fleet the id of the program's process, which the SDK keeps to itself (0.2.186; a test watches it)."""
    process = getattr(getattr(client, "_transport", None), "_process", None)
    if spec.on_process is not None and isinstance(pid := getattr(process, "pid", None), int):
        spec.on_process(pid)


async def _totals(spec: SessionSpec) -> SessionTotals:
    """What the program will start its count from."""
    if not spec.resume:
        return SessionTotals()
    with files.agents_own(spec.folder):
        saved = await asyncio.to_thread(saved_totals, spec.folder, spec.cwd, spec.session_id)
    return saved or SessionTotals(spec.session_cost_usd)


def _cannot_start(error: Exception, stderr: deque[str]) -> ProviderError:
    words = "\n".join(list(stderr)[-STDERR_LINES:])
    kind = SessionDiedError if was_killed(error, words) else ProviderError
    return kind(
        f"claude does not start: {words or error}"[:2_000],
        hint="`claude --version` and `fleet doctor` tell more; the path is CLAUDE_CODE_PATH or the bundled one",
    )
