"""What the `claude` program is started with: its options, files and complete environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import claude_agent_sdk
from claude_agent_sdk import ClaudeAgentOptions, McpServerConfig

from orchestrator import untrusted
from orchestrator.errors import ProviderError
from orchestrator.providers.base import SessionSpec, TranscriptStore
from orchestrator.providers.claude.catalog import OFFERED, RETIRED
from orchestrator.providers.claude.gate import Gate
from orchestrator.providers.claude.transcript.files import CONFIG
from orchestrator.providers.claude.transcript.mirror import mirror
from orchestrator.providers.tool_server import CREW, FLEET_SERVER, tool_server
from orchestrator.supervision.tiers import SHIM_TIER, Tier, launcher_environment, working_tree_of, write_launcher

BUFFER_BYTES = 64 * 2**20
"""One message of the program; above the SDK's default of 1 MiB a tool's input ends the session (measured)."""

PROMPT = "system-prompt.md"
KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
_CLOUDS = ("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY")


@dataclass(frozen=True, kw_only=True)
class Program:
    """Which `claude` runs, its supervision, what it must not see, its repeats of failed calls, its mirror."""

    shim_dir: Path
    cli: Path | None = None
    max_retries: int | None = None
    transcripts: TranscriptStore | None = None
    tier: Tier = SHIM_TIER
    hidden: tuple[Path, ...] = ()

    def path(self) -> Path:
        """The program itself.

        Raises:
            ProviderError: there is no such file.
        """
        path = self.cli or Path(claude_agent_sdk.__file__).with_name("_bundled") / "claude"
        if not path.is_file():
            raise ProviderError(
                f"the claude program is not there: {path}",
                hint="install Claude Code and name it in CLAUDE_CODE_PATH, or install claude-agent-sdk again",
            )
        return path


def brings_key(environment: Mapping[str, str]) -> bool:
    """Whether the environment itself pays, rather than a login stored in a file."""
    return any(environment.get(name) for name in (*KEYS, *_CLOUDS))


def session_options(
    spec: SessionSpec, program: Program, gate: Gate, on_stderr: Callable[[str], None]
) -> ClaudeAgentOptions:
    """Everything that one session is started with; writes its configuration directory and the launcher.

    Raises:
        ProviderError: there is no program.
        OSError: the agent's folder cannot be written.
    """
    config = spec.folder / CONFIG
    spec.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    untrusted.make_folder(spec.folder, CONFIG)
    text = spec.system_prompt.replace("\0", "\N{REPLACEMENT CHARACTER}")
    untrusted.write(spec.folder, PROMPT, text.encode("utf-8", "replace"))
    return ClaudeAgentOptions(
        cli_path=write_launcher(program.shim_dir, program.path(), program.tier, program.hidden),
        env=launcher_environment(
            _environment(spec, program, config),
            marker=spec.marker,
            hidden=program.hidden,
            folder=spec.folder,
            working_tree=working_tree_of(spec.cwd),
        )
        | {"CLAUDE_CONFIG_DIR": str(config)},  # the SDK's mirror looks for it here
        session_store=None if program.transcripts is None else mirror(program.transcripts, spec.agent_id),
        session_store_flush="eager",
        cwd=spec.cwd,
        tools=_tools(spec),
        model=None if spec.model == "default" else spec.model,
        system_prompt={"type": "file", "path": str(spec.folder / PROMPT)},
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
    return list(OFFERED) if spec.tools is None else [name for name in spec.tools if name not in RETIRED]


def _environment(spec: SessionSpec, program: Program, config: Path) -> dict[str, str]:
    """The agent's own environment and the technical variables; nothing of this process."""
    given = spec.environment
    ours = {
        "PWD": str(spec.cwd),
        "CLAUDE_CONFIG_DIR": str(config),
        "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
        "CLAUDE_AGENT_SDK_VERSION": claude_agent_sdk.__version__,
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1",  # else a broken stream is asked for, and paid, twice unseen
    }
    if program.max_retries is not None:
        ours["CLAUDE_CODE_MAX_RETRIES"] = str(program.max_retries)
    if not brings_key(given):
        ours["CLAUDE_SECURESTORAGE_CONFIG_DIR"] = _login_folder(given)
    if spec.rehearsal:
        ours["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"] = "1"
        ours["ANTHROPIC_CUSTOM_HEADERS"] = _headers(spec)
    return {**given, **ours}


def _headers(spec: SessionSpec) -> str:
    """The account's own headers, and those by which a rehearsal tells agents apart."""
    given = spec.environment.get("ANTHROPIC_CUSTOM_HEADERS", "").splitlines()
    own = [f"x-fleet-agent: {spec.agent_name}", f"x-fleet-persona: {spec.persona}"][bool(spec.fleet) :]
    return "\n".join([*(line for line in given if line and not line.lower().startswith("x-fleet-")), *own])


def _login_folder(environment: Mapping[str, str]) -> str:
    """Where the user's own login lies: an agent's configuration directory of its own would hide it (undocumented)."""
    return environment.get("CLAUDE_CONFIG_DIR") or str(Path(environment.get("HOME") or Path.home()) / ".claude")
