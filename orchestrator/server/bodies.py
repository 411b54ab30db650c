"""What a request of the HTTP API may carry: strict bodies and queries, an unknown field is an error."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.domain.turn import Mode

MAX_EVENTS = 5000


class Body(BaseModel):
    """What a request carries; a field that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CreateBody(Body):
    """`POST /v1/agents`."""

    name: str
    task: str
    persona: str = "builder"
    provider: str | None = None
    model: str | None = None
    inputs: tuple[str, ...] = ()
    cwd: str | None = None
    max_turns: int | None = Field(default=None, ge=1)


class TurnBody(Body):
    """`POST /v1/agents/{ref}/turns`."""

    task: str
    mode: Mode = Mode.QUEUE
    inputs: tuple[str, ...] | None = None


class AnswerBody(Body):
    """`POST /v1/agents/{ref}/answer`."""

    text: str


class WaitBody(Body):
    """`POST /v1/wait`."""

    agents: tuple[str, ...] = ()
    until: Literal["all", "any"] = "all"
    timeout_seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    since: str | None = None


class ShutdownBody(Body):
    """`POST /v1/shutdown`."""

    interrupt: bool = False


class NoBody(Body):
    """A request without a body (an empty object is one, too)."""


class NoQuery(Body):
    """No query at all."""


class StatusQuery(Body):
    """`GET /v1/agents`."""

    agent: tuple[str, ...] = ()
    everyone: bool = False


class OutputQuery(Body):
    """`GET /v1/agents/{ref}/output`."""

    turn: int | None = Field(default=None, ge=1)
    offset: int = Field(default=0, ge=0)
    limit: int = Field(default=6000, ge=1, le=1_000_000)


class RegistryQuery(Body):
    """`GET /v1/registry`."""

    status: str | None = None
    capability: str | None = None


class ScopeQuery(Body):
    """`DELETE /v1/agents`."""

    scope: Literal["mine", "project"] = "mine"


class StreamQuery(Body):
    """`GET /v1/stream`."""

    since: str | None = None
    agent: str | None = None


class EventsQuery(StreamQuery):
    """`GET /v1/events`."""

    limit: int = Field(default=500, ge=1, le=MAX_EVENTS)
