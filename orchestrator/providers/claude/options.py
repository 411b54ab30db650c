"""The SDK's part of a session: who decides about tools, which servers it offers, and where transcripts are mirrored."""

from __future__ import annotations

from claude_agent_sdk import ClaudeAgentOptions, McpServerConfig

from orchestrator.providers.base import CREW, FLEET_SERVER, SessionSpec
from orchestrator.providers.claude.gate import Gate
from orchestrator.providers.claude.program import ProgramConfig, servers_of
from orchestrator.providers.claude.transcript.files import CONFIG_FOLDER
from orchestrator.providers.claude.transcript.mirror import mirror
from orchestrator.providers.tool_server import tool_server


def session_options(spec: SessionSpec, program: ProgramConfig, gate: Gate) -> ClaudeAgentOptions:
    """The SDK's options for a session whose program runs; what the program is started with is not among them."""
    return ClaudeAgentOptions(
        env={"CLAUDE_CONFIG_DIR": str(spec.folder / CONFIG_FOLDER)},  # the SDK's mirror reads it from here
        session_store=None if program.transcripts is None else mirror(program.transcripts, spec.agent_id),
        session_store_flush="eager",
        mcp_servers=_servers(spec),
        can_use_tool=gate.can_use_tool,
        hooks=gate.hooks(),
        verbatim_prompts=True,
    )


def _servers(spec: SessionSpec) -> dict[str, McpServerConfig]:
    tables = {CREW: spec.crew, FLEET_SERVER: spec.fleet}
    return {
        name: {"type": "sdk", "name": name, "instance": tool_server(name, tables[name], spec)}
        for name in servers_of(spec)
    }
