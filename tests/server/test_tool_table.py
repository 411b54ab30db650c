"""What a table of tools logs about its calls."""

from __future__ import annotations

import asyncio

import pytest
import structlog.contextvars
from structlog.testing import capture_logs

from orchestrator import log, tool_table
from orchestrator.domain.tool import Tool
from orchestrator.errors import NotFoundError

pytestmark = pytest.mark.anyio


async def _fail() -> str:
    raise NotFoundError("no agent 'x'", hint="list them")


async def test_a_call_is_logged_after_its_answer_with_its_error_and_its_orchestrator() -> None:
    async def call(*_: object) -> str:
        return await _fail()

    tool = Tool(name="lost", description="Find nothing.", schema={}, call=call)
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        with log.bound(orchestrator="host-1"):
            answered = await tool_table.answer(tool, _fail())
        assert answered.is_error
        assert lines == []
        written = asyncio.Event()
        asyncio.get_running_loop().call_later(tool_table.LOG_SECONDS, written.set)  # after the line, which is due first
        await written.wait()
    (line,) = lines
    assert line.pop("ms") >= 0
    assert line == {
        "event": "called",
        "log_level": "info",
        "tool": "lost",
        "error": "no agent 'x' -> list them",
        "orchestrator": "host-1",
    }
