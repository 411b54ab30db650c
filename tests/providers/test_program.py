"""How the `claude` program is started is what the SDK itself would do, and what it says reaches the SDK unharmed."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import (
    ClaudeAgentOptions,
    CLIConnectionError,
    CLIJSONDecodeError,
    ProcessError,
    project_key_for_directory,
)
from claude_agent_sdk._internal.transport.subprocess_cli import SubprocessCLITransport

from orchestrator.domain.tool import Tool
from orchestrator.providers.base import SessionSpec
from orchestrator.providers.claude import program
from orchestrator.providers.claude.gate import Gate
from orchestrator.providers.claude.options import session_options
from orchestrator.providers.claude.transcript.files import project_key
from orchestrator.providers.claude.transport import ProcessTransport
from orchestrator.supervision import stdio
from orchestrator.supervision.command import CommandSpec, LaunchConfig
from orchestrator.supervision.stdio import StdioProcess
from tests.providers.lab import Crew

pytestmark = pytest.mark.anyio


class Nowhere:
    """A store of transcripts that nobody reads."""

    async def append(self, agent_id: str, subpath: str, lines: object) -> None:
        """Keep nothing."""

    async def subpaths(self, agent_id: str) -> list[str]:
        """None."""
        del agent_id
        return []

    async def lines(self, agent_id: str, subpath: str) -> AsyncGenerator[str]:
        """None."""
        del agent_id, subpath
        for line in list[str]():
            yield line


def spec_of(place: Path, **changes: Any) -> SessionSpec:
    crew = Crew()
    plain = SessionSpec(
        agent_id="ag_1",
        agent_name="worker",
        persona="builder",
        session_id="4ff3cc9f-7b2f-4dc5-9a3e-3f8e5a7a3b11",
        resume=False,
        cwd=place,
        folder=place / "agent",
        system_prompt="You are a test.",
        environment={"PATH": "/usr/bin:/bin"},
        decide=crew.decide,
        model=None,
        tools=None,
    )
    return replace(plain, **changes)


def sdk_arguments(spec: SessionSpec, config: program.ProgramConfig) -> list[str]:
    """What the SDK would start the program with, asked for the same session."""
    options = replace(
        session_options(spec, config, Gate(spec.decide)),
        cli_path="claude",
        tools=list(program.tools_of(spec)),
        model=None if spec.model == "default" else spec.model,
        system_prompt={"type": "file", "path": str(spec.folder / program.SYSTEM_PROMPT_FILE)},
        session_id=None if spec.resume else spec.session_id,
        resume=spec.session_id if spec.resume else None,
        max_turns=spec.max_turns,
        strict_mcp_config=True,
        setting_sources=[],
        permission_mode="default",
        permission_prompt_tool_name="stdio",  # as the client sets it for `can_use_tool`
    )
    assert isinstance(options, ClaudeAgentOptions)
    return SubprocessCLITransport(prompt="", options=options)._build_command()[1:]  # pyright: ignore[reportPrivateUsage] - the SDK tells its arguments to nobody


CREW = tuple(Crew().tools())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"resume": True, "model": "claude-haiku-4-5", "max_turns": 7},
        {"model": "default", "tools": ("Bash", "Read"), "crew": CREW},
        {"tools": (), "crew": CREW, "fleet": CREW},
    ],
)
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_program_gets_the_arguments_that_the_sdk_would_give_it(
    tmp_path: Path, changes: dict[str, Any], mirrored: bool
) -> None:
    spec = spec_of(tmp_path, **changes)
    config = program.ProgramConfig(
        launch=LaunchConfig(folder=tmp_path / "launchers"), transcripts=Nowhere() if mirrored else None
    )
    assert list(program.arguments(spec, config)) == sdk_arguments(spec, config)


def test_transcripts_are_looked_for_where_the_sdk_does(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "späße & Co")
    long = tmp_path / ("deep/" * 60)
    for place in (Path("/"), tmp_path / "plain", tmp_path / "a_b.c d", tmp_path / "cafe\u0301", link, long):
        assert project_key(place) == project_key_for_directory(place)


async def started(place: Path, code: str, errors: list[str], line_bytes: int = 1 << 20) -> StdioProcess:
    place.joinpath("agent").mkdir()
    command = CommandSpec(
        program=Path(sys.executable), arguments=("-c", code), cwd=place, folder=place / "agent", environment={}
    )
    launch = LaunchConfig(folder=place / "launchers")
    return await stdio.start(launch, command, place.name, on_stderr=errors.append, line_bytes=line_bytes)


async def messages(process: StdioProcess) -> list[dict[str, Any]]:
    return [message async for message in ProcessTransport(process).read_messages()]


async def test_messages_are_read_line_by_line_and_debug_output_is_skipped(tmp_path: Path) -> None:
    big = "x" * 300_000
    code = f"print('{{\"a\": 1}}'); print('[debug] hello'); print(); print('{{\"b\": \"' + 'x' * {len(big)} + '\"}}')"
    assert await messages(await started(tmp_path, code, [])) == [{"a": 1}, {"b": big}]


async def test_a_message_that_a_killed_program_left_half_written_is_dropped(tmp_path: Path) -> None:
    code = "print('{\"a\": 1}', flush=True); print('{\"b\": ', end='')"
    assert await messages(await started(tmp_path, code, [])) == [{"a": 1}]


async def test_a_broken_message_and_one_that_is_too_long_are_errors(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    broken = await started(tmp_path / "one", "print('{\"a\": }')", [])
    with pytest.raises(CLIJSONDecodeError, match=r'\{"a": \}'):
        await messages(broken)
    await broken.close()
    long = await started(tmp_path / "two", "print('{' + 'x' * 100_000); input()", [], line_bytes=10_000)
    with pytest.raises(CLIConnectionError, match="longer than 10,000 bytes"):
        await messages(long)
    await long.close()


async def test_an_exit_code_and_the_last_error_output_are_told(tmp_path: Path) -> None:
    errors: list[str] = []
    code = "import sys; print('first', file=sys.stderr); sys.stderr.write('last'); sys.exit(7)"
    process = await started(tmp_path, code, errors)
    with pytest.raises(ProcessError) as failure:
        await messages(process)
    await process.close()
    assert failure.value.exit_code == 7
    assert errors == ["first", "last"]


async def test_what_is_written_to_a_program_that_has_ended_is_an_error(tmp_path: Path) -> None:
    process = await started(tmp_path, "print(input())", [])
    transport = ProcessTransport(process)
    await transport.write(json.dumps({"echo": 1}) + "\n")
    assert await messages(process) == [{"echo": 1}]
    await process.wait()
    with pytest.raises(CLIConnectionError):
        await transport.write("more\n")


async def test_closing_ends_the_program_and_what_it_started_and_may_be_repeated(tmp_path: Path) -> None:
    code = "import subprocess, sys, time; print(subprocess.Popen(['sleep', '300']).pid, flush=True); time.sleep(300)"
    process = await started(tmp_path, code, [])
    pid = int(await anext(process.lines()))
    await asyncio.gather(process.close(), process.close())
    assert not Path(f"/proc/{pid}").exists()
    assert await process.wait() != 0


async def test_a_program_that_reads_nothing_is_ended_by_its_shim_all_the_same(tmp_path: Path) -> None:
    process = await started(tmp_path, "import time; print('up', flush=True); time.sleep(300)", [])
    assert await anext(process.lines()) == b"up\n"
    writing = asyncio.create_task(process.write(b"x" * 1_000_000))
    await asyncio.sleep(0)
    await process.close()
    assert await process.wait() == 128 + signal.SIGTERM  # not SIGKILL: the shim itself was not killed
    await asyncio.wait({writing})
    assert writing.exception() is None or isinstance(writing.exception(), OSError)


def test_the_crew_of_this_test_is_not_empty() -> None:
    assert all(isinstance(tool, Tool) for tool in CREW)
    assert CREW
