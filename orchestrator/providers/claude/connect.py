"""Connects the SDK to a program that was started, and returns its session."""

from __future__ import annotations

from collections import deque

from claude_agent_sdk import ClaudeSDKClient

from orchestrator.errors import ProviderError, SessionDiedError
from orchestrator.providers.base import SessionSpec
from orchestrator.providers.claude.gate import Gate
from orchestrator.providers.claude.options import session_options
from orchestrator.providers.claude.outcome import STDERR_LINES, was_killed
from orchestrator.providers.claude.program import START_HINT, ProgramConfig
from orchestrator.providers.claude.session import ClaudeSession
from orchestrator.providers.claude.totals import SessionTotals
from orchestrator.providers.claude.transport import ProcessTransport
from orchestrator.providers.watchdog import SilenceLimits
from orchestrator.supervision.stdio import StdioProcess


async def connect(
    process: StdioProcess,
    spec: SessionSpec,
    program: ProgramConfig,
    *,
    limits: SilenceLimits,
    totals: SessionTotals,
    stderr: deque[str],
) -> ClaudeSession:
    """The session of this program, once it is ready.

    Raises:
        ProviderError: the program ended or did not become ready within 60 s; the message holds its error output.
    """
    gate = Gate(spec.decide)
    client = ClaudeSDKClient(session_options(spec, program, gate), ProcessTransport(process))
    try:
        await client.connect()
    except Exception as error:  # the SDK raises plain Exception when initialize fails or takes over 60 s
        await process.close()  # its error output is complete then
        raise _start_error(error, stderr) from error
    return ClaudeSession(client, spec, gate, stderr, limits=limits, totals=totals)


def _start_error(error: Exception, stderr: deque[str]) -> ProviderError:
    error_output = "\n".join(list(stderr)[-STDERR_LINES:])
    kind = SessionDiedError if was_killed(error, error_output) else ProviderError
    return kind(
        f"claude does not start: {error_output or error}"[:2_000],
        hint=START_HINT,
    )
