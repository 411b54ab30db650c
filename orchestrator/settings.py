"""All settings, read once from the environment into one frozen value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from orchestrator.errors import InvalidError

BYTES_PER_AGENT = 300 * 1024 * 1024
"""a working Claude session takes 130-225 MB (CLI 2.1.329, measured); its tools need some, too"""
AGENTS_PER_CORE = 4
"""an agent mostly waits for its model: 8 sessions keep 2 cores about half busy (measured)"""


def default_slots() -> int:
    """How many agents may work at once on this machine, from its cores and memory: at least 2."""
    cores = os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(2, min(AGENTS_PER_CORE * cores, memory // 2 // BYTES_PER_AGENT))


class Settings(BaseSettings):
    """The daemon's settings; every field has its own environment name."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    slots: int = Field(default_factory=default_slots, alias="AGENT_MAX_CONCURRENT", ge=1, le=1000)
    """agents that may work at once; the others are queued"""
    claude: Path | None = Field(default=None, alias="CLAUDE_CODE_PATH")
    """the `claude` program; default: the one that ships in claude-agent-sdk"""
    rest_seconds: float = Field(default=15.0, alias="FLEET_REST_SECONDS", ge=0, le=3600)
    """how long an idle session is kept open before it is closed (and resumed on the next command)"""
    stall_seconds: float = Field(default=90.0, alias="FLEET_STALL_SECONDS", gt=0, le=86400)
    """silence of a session after which its status says `stalled`"""
    silence_seconds: float = Field(default=600.0, alias="FLEET_SILENCE_SECONDS", gt=0, le=86400)
    """silence of a session after which it is ended and its turn is taken up again"""
    tool_seconds: float = Field(default=3600.0, alias="FLEET_TOOL_SECONDS", gt=0, le=604_800)
    """the same inside one tool call"""
    loop_calls: int = Field(default=5, alias="FLEET_LOOP_CALLS", ge=2, le=1000)
    """the same tool call so often in a row shows as `looping`; nothing is stopped for it"""
    max_retries: int | None = Field(default=None, alias="FLEET_MAX_RETRIES", ge=0, le=100)
    """how often the provider's program tries a failed model call again; default: its own rule"""
    answer_seconds: float | None = Field(default=None, alias="FLEET_ANSWER_SECONDS", gt=0, le=31_536_000)
    """how long a question or permission waits for its answer before the default counts; default: for ever"""
    max_agents: int = Field(default=10_000, alias="AGENT_MAX_SESSION", ge=1)
    """agents that may live at once, resting ones included"""
    max_depth: int = Field(default=3, alias="AGENT_MAX_RECURSIVE_DEPTH", ge=0, le=100)
    """how deep agents may create agents: 0 means not at all"""
    max_children: int = Field(default=20, alias="AGENT_RELATIONSHIP_MAX_CHILDREN", ge=0, le=1000)
    """agents that one agent may create"""
    turn_retries: int = Field(default=3, alias="FLEET_TURN_RETRIES", ge=0, le=20)
    """how often a turn is repeated whose model's API stayed overloaded"""
    max_cost_usd: float | None = Field(default=None, alias="FLEET_MAX_COST_USD", gt=0)
    """what all agents of this state directory may cost together; the fleet pauses there"""
    max_tokens: int | None = Field(default=None, alias="FLEET_MAX_TOKENS", gt=0)
    max_total_turns: int | None = Field(default=None, alias="FLEET_MAX_TOTAL_TURNS", gt=0)
    max_seconds: float | None = Field(default=None, alias="FLEET_MAX_SECONDS", gt=0)
    """seconds in which sessions work, of all agents together"""
    max_resumes: int = Field(default=3, alias="FLEET_MAX_RESUMES", ge=0, le=100)
    """how often a turn is taken up again whose session or daemon died or fell silent, before it fails as crash_loop"""
    http_port: int | None = Field(default=None, alias="FLEET_HTTP_PORT", ge=0, le=65535)
    """port on loopback for REST and MCP over HTTP, 0: a free one; default: none, the unix socket only"""
    supervision: str = Field(default="", alias="FLEET_SUPERVISION", pattern="^[ABC]?$")
    """the supervision tier; default: the best that works on this machine"""
    rehearsal: str = Field(default="", alias="FLEET_REHEARSAL")
    """name of the script, if the model behind this daemon is a rehearsal"""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings' signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings' signature
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings' signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings' signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `read_settings` hands over counts: the environment is a parameter, not a global."""
        return (init_settings,)


def read_settings(env: Mapping[str, str]) -> Settings:
    """The settings that this environment states.

    Raises:
        InvalidError: with each variable that cannot be used, and why.
    """
    known = {str(field.alias) for field in Settings.model_fields.values()}
    try:
        return Settings.model_validate({name: value for name, value in env.items() if name in known and value})
    except ValidationError as error:
        wrong = "; ".join(f"{e['loc'][0]}={e['input']!r}: {e['msg']}" for e in error.errors())
        raise InvalidError(f"settings: {wrong}", hint="correct the environment and start the daemon again") from error
