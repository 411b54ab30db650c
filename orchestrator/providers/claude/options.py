"""Builds what the `claude` program is started with: its options, files and complete environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import claude_agent_sdk
from claude_agent_sdk import ClaudeAgentOptions, McpServerConfig

from orchestrator import untrusted
from orchestrator.errors import ProviderError
from orchestrator.providers.base import SessionSpec, TranscriptStore
from orchestrator.providers.claude.catalog import DEFAULT_TOOLS, RETIRED_TOOLS
from orchestrator.providers.claude.gate import Gate
from orchestrator.providers.claude.transcript.files import CONFIG_FOLDER
from orchestrator.providers.claude.transcript.mirror import mirror
from orchestrator.providers.tool_server import CREW, FLEET_SERVER, tool_server
from orchestrator.supervision.tiers import SHIM_TIER, Tier, launcher_environment, working_tree_of, write_launcher

BUFFER_BYTES = 64 * 2**20
"""The longest message of the program; at the SDK's default of 1 MiB a large tool input ends the session (measured)."""

SYSTEM_PROMPT_FILE = "system-prompt.md"
CREDENTIALS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
_CLOUDS = ("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY")


@dataclass(frozen=True, kw_only=True)
class ProgramConfig:
    """How `claude` runs on this machine: which program, supervision tier, hidden directories, retries and mirror."""

    shim_dir: Path
    cli: Path | None = None
    max_retries: int | None = None
    transcripts: TranscriptStore | None = None
    tier: Tier = SHIM_TIER
    hidden: tuple[Path, ...] = ()

    def path(self) -> Path:
        """The path of the program.

        Raises:
            ProviderError: the file does not exist.
        """
        path = self.cli or Path(claude_agent_sdk.__file__).with_name("_bundled") / "claude"
        if not path.is_file():
            raise ProviderError(
                f"the claude program does not exist: {path}",
                hint="install Claude Code and set CLAUDE_CODE_PATH to it, or reinstall claude-agent-sdk",
            )
        return path


def has_credentials(environment: Mapping[str, str]) -> bool:
    """Whether the environment holds the account's credentials; otherwise the stored login is used."""
    return any(environment.get(name) for name in (*CREDENTIALS, *_CLOUDS))


def session_options(
    spec: SessionSpec, program: ProgramConfig, gate: Gate, on_stderr: Callable[[str], None]
) -> ClaudeAgentOptions:
    """The SDK's options for one session; creates the session's configuration directory and launcher.

    Raises:
        ProviderError: the program does not exist.
        OSError: the agent's folder is not writable.
    """
    config = spec.folder / CONFIG_FOLDER
    spec.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    untrusted.make_folder(spec.folder, CONFIG_FOLDER)
    prompt = spec.system_prompt.replace("\0", "\N{REPLACEMENT CHARACTER}")
    untrusted.write(spec.folder, SYSTEM_PROMPT_FILE, prompt.encode("utf-8", "replace"))
    return ClaudeAgentOptions(
        cli_path=write_launcher(program.shim_dir, program.path(), program.tier, program.hidden),
        env=launcher_environment(
            _environment(spec, program, config),
            marker=spec.marker,
            hidden=program.hidden,
            folder=spec.folder,
            working_tree=working_tree_of(spec.cwd),
        )
        | {"CLAUDE_CONFIG_DIR": str(config)},  # the SDK's mirror reads it from here
        session_store=None if program.transcripts is None else mirror(program.transcripts, spec.agent_id),
        session_store_flush="eager",
        cwd=spec.cwd,
        tools=_tools(spec),
        model=None if spec.model == "default" else spec.model,
        system_prompt={"type": "file", "path": str(spec.folder / SYSTEM_PROMPT_FILE)},
        session_id=None if spec.resume else spec.session_id,
        resume=spec.session_id if spec.resume else None,
        max_turns=spec.max_turns,
        mcp_servers=_servers(spec),
        strict_mcp_config=True,
        setting_sources=[],
        permission_mode="default",
        can_use_tool=gate.can_use_tool,
        hooks=gate.hooks(),
        verbatim_prompts=True,
        max_buffer_size=BUFFER_BYTES,
        stderr=on_stderr,
    )


def _servers(spec: SessionSpec) -> dict[str, McpServerConfig]:
    tables = {CREW: spec.crew, FLEET_SERVER: spec.fleet}
    return {
        name: {"type": "sdk", "name": name, "instance": tool_server(name, tools, spec)}
        for name, tools in tables.items()
        if tools
    }


def _tools(spec: SessionSpec) -> list[str]:
    return list(DEFAULT_TOOLS) if spec.tools is None else [name for name in spec.tools if name not in RETIRED_TOOLS]


def _environment(spec: SessionSpec, program: ProgramConfig, config: Path) -> dict[str, str]:
    """The agent's own environment plus technical variables; nothing from this process's environment."""
    agent_environment = spec.environment
    technical = {
        "PWD": str(spec.cwd),
        "CLAUDE_CONFIG_DIR": str(config),
        "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
        "CLAUDE_AGENT_SDK_VERSION": claude_agent_sdk.__version__,
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1",  # else a broken stream is requested and paid for twice
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
