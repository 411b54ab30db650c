"""The fallback server, run as the launcher runs it: alone, isolated, by a plain Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from mcp import Client, StdioServerParameters

from tests.fixtures.daemon import DEADLINE_SECONDS, ROOT

TEXT = 'Line one: "quoted", ünïcode,\nline two.'
COMMAND = ["-I", str(ROOT / "orchestrator" / "fallback_server.py"), "fleet_missing", TEXT]
PLAIN = str(Path(sys.base_prefix) / "bin" / "python3")


@pytest.mark.anyio
@pytest.mark.parametrize(("mode", "version"), [("auto", "2026-07-28"), ("legacy", "2025-11-25")])
async def test_the_sdks_own_client_is_told_why_in_both_eras(mode: str, version: str) -> None:
    with anyio.fail_after(DEADLINE_SECONDS):
        async with Client(StdioServerParameters(command=PLAIN, args=COMMAND), mode=mode) as client:
            assert client.protocol_version == version
            assert client.instructions == TEXT
            (tool,) = (await client.list_tools()).tools
            result = await client.call_tool("whatever", {"a": 1})
    assert (tool.name, tool.description) == ("fleet_missing", TEXT)
    assert result.is_error
    (block,) = result.content
    assert block.type == "text"
    assert block.text == TEXT


def test_it_answers_what_it_cannot_read_and_ends_with_its_input() -> None:
    lines = b'{\n\n{"jsonrpc":"2.0","method":"notifications/initialized"}\n{"jsonrpc":"2.0","id":"a","method":"x/y"}'
    ran = subprocess.run([PLAIN, *COMMAND], input=lines, capture_output=True, check=True, timeout=DEADLINE_SECONDS)
    first, second = ran.stdout.splitlines()
    assert b"-32700" in first
    assert b'"id": "a"' in second
    assert b"-32601" in second
    assert ran.stderr == b""
