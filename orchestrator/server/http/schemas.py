"""Types of request bodies and queries, and of the answers that are not views. Unknown fields are errors."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from orchestrator.domain.budget import Unit
from orchestrator.domain.turn import DeliveryMode
from orchestrator.fleet.checks.criteria import Verify
from orchestrator.fleet.state_views import View
from orchestrator.fleet.views import Adopted, Deleted, EventView, TrustedPersona
from orchestrator.server.http.problems import Problem

MAX_EVENTS = 5000
MIN_QUESTION_CHARACTERS = 11
"""of a question's id, counting its three-character prefix"""


class Body(BaseModel):
    """A body or query; an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BudgetBody(Body):
    """`PUT /v1/budget` and `PUT /v1/agents/{ref}/budget`."""

    max_cost_usd: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_tokens: int | None = Field(default=None, gt=0)
    max_total_turns: int | None = Field(default=None, gt=0)
    max_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @property
    def caps(self) -> dict[Unit, float | None]:
        """The caps by unit."""
        return {
            Unit.USD: self.max_cost_usd,
            Unit.TOKENS: self.max_tokens,
            Unit.TURNS: self.max_total_turns,
            Unit.SECONDS: self.max_seconds,
        }


class AgentBudgetBody(BudgetBody):
    """`PUT /v1/agents/{ref}/budget`."""

    subtree: bool = False


class CreateBody(BudgetBody):
    """`POST /v1/agents`."""

    name: str
    task: str
    persona: str = "builder"
    provider: str | None = None
    model: str | None = None
    brief: str = ""
    """what its whole chain must know, or the name of an agent that has it"""
    inputs: tuple[str, ...] = ()
    cwd: str | None = None
    max_turns: int | None = Field(default=None, ge=1)
    priority: int = 0
    checks: tuple[str | dict[str, object], ...] = ()
    check_retries: int | None = None


class TurnBody(BudgetBody):
    """`POST /v1/agents/{ref}/turns`."""

    task: str = ""
    mode: DeliveryMode = DeliveryMode.QUEUE
    inputs: tuple[str, ...] | None = None
    checks: tuple[str | dict[str, object], ...] | None = None
    check_retries: int | None = None

    @property
    def verify(self) -> Verify:
        """The checks that the body asks for."""
        return Verify(checks=self.checks, retries=self.check_retries)


class AnswerBody(Body):
    """`POST /v1/agents/{ref}/answer`."""

    text: str
    question: str | None = Field(default=None, min_length=MIN_QUESTION_CHARACTERS)
    """its id or the beginning of it; default: the question that this caller was shown last"""


class WaitBody(Body):
    """`POST /v1/wait`."""

    agents: tuple[str, ...] = ()
    until: Literal["all", "any"] = "all"
    timeout_seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    since: str | None = None


class AdoptBody(Body):
    """`POST /v1/adoptions`."""

    agents: tuple[str, ...] = ()
    everything: bool = False
    """all agents of the project whose sessions have ended"""
    to: str | None = None
    """id of the session that gets them; default: the caller's, or the one session that is connected"""


class TrustBody(Body):
    """`POST /v1/trust`."""

    persona: str
    """its name, or the path of its file"""
    revoke: bool = False


class ShutdownBody(Body):
    """`POST /v1/shutdown`."""

    interrupt: bool = False


class BackupBody(Body):
    """`POST /v1/backup`."""

    file: str = Field(min_length=1)
    """absolute path of the copy"""
    overwrite: bool = False


class NoBody(Body):
    """A request without a body; an empty object is accepted."""


class NoQuery(Body):
    """A request without a query."""


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
    history: bool = False
    """send only recorded events, then `event: end`"""


class EventsQuery(Body):
    """`GET /v1/events`."""

    since: str | None = None
    agent: str | None = None
    limit: int = Field(default=500, ge=1, le=MAX_EVENTS)


class BackupLine(View):
    """A line of the answer to `POST /v1/backup`: pages copied so far; the last line has the file or the error."""

    pages_done: int | None = None
    pages: int | None = None
    file: str | None = None
    bytes: int | None = None
    error: Problem | None = None


class DeletedAgents(View):
    """The answer to `DELETE /v1/agents`."""

    deleted: tuple[Deleted, ...]


class AdoptedAgents(View):
    """The answer to `POST /v1/adoptions`."""

    adopted: tuple[Adopted, ...]


class TrustedPersonas(View):
    """The answer to `GET /v1/trust` and `POST /v1/trust`."""

    personas: tuple[TrustedPersona, ...]


class EventPage(View):
    """The answer to `GET /v1/events`; `cursor` is where the next page starts."""

    events: tuple[EventView, ...]
    cursor: str


class Stopping(View):
    """The answer to `POST /v1/shutdown`: the pid of the daemon, and how many turns it interrupts."""

    pid: int
    interrupted: int


class Document(RootModel[dict[str, object]]):
    """A JSON document."""
