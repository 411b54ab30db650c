"""Every setting of the daemon as a field of `Settings`, with its limits and its text in docs/reference.md.

The few variables that the door and the launcher read without pydantic are in `paths` (the state directory, the hello).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from orchestrator.errors import InvalidError

BYTES_PER_AGENT = 300 * 1024 * 1024
"""a working Claude session takes 130-225 MB (CLI 2.1.329, measured), and its tools need memory too"""
AGENTS_PER_CORE = 4
"""agents mostly wait for their model: 8 sessions keep 2 cores about half busy (measured)"""
IDLE_EXIT_SECONDS = 900.0
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(str.upper)]


def default_slots() -> int:
    """How many agents may work at once on this machine, by its cores and memory; at least 2."""
    cores = os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(2, min(AGENTS_PER_CORE * cores, memory // 2 // BYTES_PER_AGENT))


class Settings(BaseSettings):
    """The daemon's settings, each read from the environment variable that is its alias.

    `description` is its text in the reference; `unset`, if given, says what applies without the variable.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    slots: int = Field(
        default_factory=default_slots,
        alias="AGENT_MAX_CONCURRENT",
        ge=1,
        le=1000,
        description="agents that work at once; the others are queued",
        json_schema_extra={"unset": "from cores and memory"},
    )
    max_agents: int = Field(
        default=10_000,
        alias="AGENT_MAX_SESSION",
        ge=1,
        description="agents that may exist at once, including idle ones",
    )
    max_depth: int = Field(
        default=3,
        alias="AGENT_MAX_RECURSIVE_DEPTH",
        ge=0,
        le=100,
        description="how many levels of agents may be created by agents; 0: none",
    )
    max_children: int = Field(
        default=20,
        alias="AGENT_RELATIONSHIP_MAX_CHILDREN",
        ge=0,
        le=1000,
        description="agents that one agent may create",
    )
    claude: Path | None = Field(
        default=None,
        alias="CLAUDE_CODE_PATH",
        description="the `claude` program",
        json_schema_extra={"unset": "the one that ships with claude-agent-sdk"},
    )
    rest_seconds: float = Field(
        default=15.0,
        alias="FLEET_REST_SECONDS",
        ge=0,
        le=3600,
        description="how long an idle session stays open; the next command resumes a closed one",
    )
    stall_seconds: float = Field(
        default=90.0,
        alias="FLEET_STALL_SECONDS",
        gt=0,
        le=86400,
        description="silence after which a status says `stalled`; after twice that and 30 s it says `unknown`",
    )
    silence_seconds: float = Field(
        default=600.0,
        alias="FLEET_SILENCE_SECONDS",
        gt=0,
        le=86400,
        description="silence after which a session is ended and its turn resumes in a new one",
    )
    tool_seconds: float = Field(
        default=3600.0,
        alias="FLEET_TOOL_SECONDS",
        gt=0,
        le=604_800,
        description="the same while a tool runs",
    )
    loop_calls: int = Field(
        default=5,
        alias="FLEET_LOOP_CALLS",
        ge=2,
        le=1000,
        description="how many identical tool calls in a row show as `looping`; nothing is stopped",
    )
    max_resumes: int = Field(
        default=3,
        alias="FLEET_MAX_RESUMES",
        ge=0,
        le=100,
        description=(
            "how often a turn resumes after its session or daemon died or fell silent; then it fails as "
            "`crash_loop`. A daemon that is asked to stop (SIGTERM) does not count. 0: never; then the "
            "daemon's end interrupts turns"
        ),
    )
    max_retries: int | None = Field(
        default=None,
        alias="FLEET_MAX_RETRIES",
        ge=0,
        le=100,
        description="how often the provider retries a failed model call",
        json_schema_extra={"unset": "the provider's rule"},
    )
    turn_retries: int = Field(
        default=3,
        alias="FLEET_TURN_RETRIES",
        ge=0,
        le=20,
        description=(
            "how often a turn is repeated, after a growing pause, while the model's API stays overloaded (500, 529)"
        ),
    )
    max_cost_usd: float | None = Field(
        default=None,
        alias="FLEET_MAX_COST_USD",
        gt=0,
        description=(
            "dollars that all agents of the state directory may cost together; at the cap the fleet is suspended"
        ),
        json_schema_extra={"unset": "none"},
    )
    max_tokens: int | None = Field(
        default=None,
        alias="FLEET_MAX_TOKENS",
        gt=0,
        description="the same in tokens",
        json_schema_extra={"unset": "none"},
    )
    max_total_turns: int | None = Field(
        default=None,
        alias="FLEET_MAX_TOTAL_TURNS",
        gt=0,
        description="the same in turns begun",
        json_schema_extra={"unset": "none"},
    )
    max_seconds: float | None = Field(
        default=None,
        alias="FLEET_MAX_SECONDS",
        gt=0,
        description="the same in seconds of work",
        json_schema_extra={"unset": "none"},
    )
    idle_exit_seconds: float | None = Field(
        default=None,
        alias="FLEET_IDLE_EXIT_SECONDS",
        ge=0,
        le=31_536_000,
        description="seconds without work, questions or connections after which the daemon exits; 0: never",
        json_schema_extra={"unset": "900; 0 if `FLEET_HTTP_PORT` is set"},
    )
    log_level: LogLevel = Field(
        default="INFO",
        alias="FLEET_LOG_LEVEL",
        description="`DEBUG`, `INFO`, `WARNING` or `ERROR`: the lowest level that `daemon.log` records",
    )
    answer_seconds: float | None = Field(
        default=None,
        alias="FLEET_ANSWER_SECONDS",
        gt=0,
        le=31_536_000,
        description=(
            "how long a question or permission waits before its default applies; a persona's `answer_within` "
            "takes precedence"
        ),
        json_schema_extra={"unset": "forever"},
    )
    http_port: int | None = Field(
        default=None,
        alias="FLEET_HTTP_PORT",
        ge=0,
        le=65535,
        description="loopback port for REST and MCP (at `/mcp`); 0: a free port, which `fleet up` shows",
        json_schema_extra={"unset": "none"},
    )
    supervision: str = Field(
        default="",
        alias="FLEET_SUPERVISION",
        pattern="^[ABC]?$",
        description="the supervision tier, `A`, `B` or `C`; an error if it does not work here",
        json_schema_extra={"unset": "the best that works here"},
    )
    rehearsal: str = Field(
        default="",
        alias="FLEET_REHEARSAL",
        description="name of the script that plays the model; set by Fleet itself",
        json_schema_extra={"unset": "none"},
    )

    @property
    def idle_seconds(self) -> float:
        """How long an idle daemon lives; 0: forever, the default with an HTTP port, whose clients cannot start one."""
        if self.idle_exit_seconds is not None:
            return self.idle_exit_seconds
        return IDLE_EXIT_SECONDS if self.http_port is None else 0.0

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings' signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings' signature
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings' signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings' signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only what `read_settings` passes in: the environment is a parameter, not a global."""
        return (init_settings,)


def read_settings(env: Mapping[str, str]) -> Settings:
    """The settings of this environment; an empty variable counts as not set.

    Raises:
        InvalidError: names each invalid variable and the reason.
    """
    known = {str(field.alias) for field in Settings.model_fields.values()}
    try:
        return Settings.model_validate({name: value for name, value in env.items() if name in known and value})
    except ValidationError as error:
        wrong = "; ".join(f"{e['loc'][0]}={env[str(e['loc'][0])]!r}: {e['msg']}" for e in error.errors())
        raise InvalidError(wrong, hint="correct the environment and start the daemon again") from error
