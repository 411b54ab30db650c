"""Starts the `claude` program: its arguments, files and complete environment. Does not import the SDK.

So the program starts up while the SDK is imported, which takes as long (0.4 s, measured).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from orchestrator import untrusted
from orchestrator.errors import ProviderError
from orchestrator.providers.base import CREW, FLEET_SERVER, SessionSpec, TranscriptStore
from orchestrator.providers.claude.catalog import DEFAULT_TOOLS, RETIRED_TOOLS, bundled_program
from orchestrator.providers.claude.transcript.files import CONFIG_FOLDER
from orchestrator.supervision import stdio
from orchestrator.supervision.command import CommandSpec, LaunchConfig
from orchestrator.supervision.stdio import StdioProcess

BUFFER_BYTES = 64 * 2**20
"""The longest message of the program; at the SDK's default of 1 MiB a large tool input ends the session (measured).

Up to twice as much waits in memory if the program writes faster than it is read.
"""

START_HINT = "run `claude --version` and `fleet doctor`; the program is CLAUDE_CODE_PATH or the bundled one"
SDK = "claude-agent-sdk"
SYSTEM_PROMPT_FILE = "system-prompt.md"
CREDENTIALS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
RESUMED = "Your call above has its result now. Go on with your task."
"""what the model reads after a deferred call; the program's own text, "Continue from where you left off.", is read as a
new request. It cannot be left out (2.1.329, undocumented, measured)
"""
_CLOUDS = ("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY")


@dataclass(frozen=True, kw_only=True)
class ProgramConfig:
    """How `claude` runs on this machine: which program, how it is launched, its retries, and the mirror."""

    launch: LaunchConfig
    cli: Path | None = None
    max_retries: int | None = None
    transcripts: TranscriptStore | None = None

    def path(self) -> Path:
        """The path of the program.

        Raises:
            ProviderError: the file does not exist.
        """
        path = self.cli or bundled_program()
        if path is None or not path.is_file():
            raise ProviderError(
                f"the claude program does not exist: {path or f'{SDK} bundles none for this platform'}",
                hint=f"install Claude Code and set CLAUDE_CODE_PATH to it, or reinstall {SDK}",
            )
        return path


def has_credentials(environment: Mapping[str, str]) -> bool:
    """Whether the environment holds the account's credentials; otherwise the stored login is used."""
    return any(environment.get(name) for name in (*CREDENTIALS, *_CLOUDS))


async def start_program(spec: SessionSpec, program: ProgramConfig, on_stderr: Callable[[str], None]) -> StdioProcess:
    """Start the program of a session and create its configuration directory.

    The program then waits for the SDK's first message.

    Raises:
        ProviderError: the program does not exist.
        OSError: the agent's folder is not writable, or the program cannot be launched.
    """
    path = program.path()
    spec.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    untrusted.make_folder(spec.folder, CONFIG_FOLDER)
    prompt = spec.system_prompt.replace("\0", "\N{REPLACEMENT CHARACTER}")
    untrusted.write(spec.folder, SYSTEM_PROMPT_FILE, prompt.encode("utf-8", "replace"))
    command = CommandSpec(
        program=path,
        arguments=arguments(spec, program),
        cwd=spec.cwd,
        folder=spec.folder,
        environment=_environment(spec, program),
    )
    return await stdio.start(program.launch, command, spec.marker, on_stderr=on_stderr, line_bytes=BUFFER_BYTES)


def arguments(spec: SessionSpec, program: ProgramConfig) -> tuple[str, ...]:
    """The program's arguments: those that the SDK passes for the same options (a test compares them)."""
    servers = {name: {"type": "sdk", "name": name} for name in servers_of(spec)}
    return (
        *("--output-format", "stream-json", "--verbose"),
        *("--system-prompt-file", str(spec.folder / SYSTEM_PROMPT_FILE)),
        *("--tools", ",".join(tools_of(spec))),
        *(("--max-turns", str(spec.max_turns)) if spec.max_turns else ()),
        *(("--model", spec.model) if spec.model and spec.model != "default" else ()),
        *("--permission-prompt-tool", "stdio", "--permission-mode", "default"),
        f"--resume={spec.session_id}" if spec.resume else f"--session-id={spec.session_id}",
        *(("--mcp-config", json.dumps({"mcpServers": servers})) if servers else ()),
        "--strict-mcp-config",
        *(() if program.transcripts is None else ("--session-mirror",)),
        "--setting-sources=",
        *("--input-format", "stream-json"),
    )


def servers_of(spec: SessionSpec) -> tuple[str, ...]:
    """The names of the MCP servers that offer Fleet's own tools to the session."""
    return tuple(name for name, tools in ((CREW, spec.crew), (FLEET_SERVER, spec.fleet)) if tools)


def tools_of(spec: SessionSpec) -> list[str]:
    """The names of the provider's own tools that the session has."""
    return list(DEFAULT_TOOLS) if spec.tools is None else [name for name in spec.tools if name not in RETIRED_TOOLS]


def _environment(spec: SessionSpec, program: ProgramConfig) -> dict[str, str]:
    """The agent's own environment plus technical variables; nothing from this process's environment."""
    agent_environment = spec.environment
    technical = {
        "CLAUDE_CONFIG_DIR": str(spec.folder / CONFIG_FOLDER),
        "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
        "CLAUDE_AGENT_SDK_VERSION": metadata.version(SDK),
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1",  # else a broken stream is requested and paid for twice
        "CLAUDE_CODE_RESUME_PROMPT": RESUMED,
    }
    if program.max_retries is not None:
        technical["CLAUDE_CODE_MAX_RETRIES"] = str(program.max_retries)
    if not has_credentials(agent_environment):
        technical["CLAUDE_SECURESTORAGE_CONFIG_DIR"] = _login_folder(agent_environment)
    if spec.rehearsal:
        technical["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"] = "1"
        technical["ANTHROPIC_CUSTOM_HEADERS"] = _headers(spec)
    return {**agent_environment, **technical}


def _headers(spec: SessionSpec) -> str:
    """The account's own headers, plus those by which a rehearsal tells agents apart."""
    given = spec.environment.get("ANTHROPIC_CUSTOM_HEADERS", "").splitlines()
    own = [f"x-fleet-agent: {spec.agent_name}", f"x-fleet-persona: {spec.persona}"][bool(spec.fleet) :]
    return "\n".join([*(line for line in given if line and not line.lower().startswith("x-fleet-")), *own])


def _login_folder(environment: Mapping[str, str]) -> str:
    """Where the user's login is stored, which the agent's own configuration directory would hide (undocumented)."""
    return environment.get("CLAUDE_CONFIG_DIR") or str(Path(environment.get("HOME") or Path.home()) / ".claude")
