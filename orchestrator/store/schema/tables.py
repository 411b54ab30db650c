"""The tables. Times are seconds since the epoch (UTC), amounts name their unit; JSON columns hold plain values."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, Index, UniqueConstraint, and_, column, or_
from sqlmodel import Field

from orchestrator.domain.activity import ActivityKind
from orchestrator.domain.agent import Status
from orchestrator.domain.budget import Scope, Unit
from orchestrator.domain.durable_wait import DurableWaitStatus
from orchestrator.domain.question import AnsweredBy, QuestionKind, QuestionState
from orchestrator.domain.tool import Json
from orchestrator.domain.turn import TurnStatus
from orchestrator.domain.wait import WaitKind
from orchestrator.store.engine.dialect import IDS_ARE_NEVER_REUSED, ZERO, partial_index
from orchestrator.store.schema.base import EnumText, Table, metadata

_RESTING_COLUMNS = ["project", "status", "cost_unknown", "rehearsal", "tokens", "context_tokens", "cost_usd"]
"""all columns that totals of resting agents read: an index on them avoids reading ten thousand rows of 3 kB"""
_IS_LIVING = column("deleted_at").is_(None)
IS_RESTING = and_(
    _IS_LIVING, column("running_since").is_(None), column("live_tokens") == ZERO, column("live_cost_usd") == ZERO
)
"""living agents that are resting; all their figures are in their totals"""
IS_AT_WORK = and_(
    _IS_LIVING,
    or_(column("running_since").is_not(None), column("live_tokens") != ZERO, column("live_cost_usd") != ZERO),
)
"""all other living agents: those with a turn at work, or with figures of one"""
_IS_UNREAD = column("outcome_cursor").is_not(None) & column("delivered_at").is_(None)


class AgentTable(Table, table=True):
    """An agent: its persona, task, session, status and cost."""

    __table_args__ = (
        partial_index("uq_agent_live_name", "project", "name", where=_IS_LIVING, unique=True),
        Index("ix_agent_status", "status", "created_at"),
        partial_index("ix_agent_orchestrator", "project", "orchestrator", "created_at", where=_IS_LIVING),
        Index("ix_agent_wait", "wait_kind", "wait_until"),
        partial_index("ix_agent_living", "project", "created_at", where=_IS_LIVING),
        partial_index("ix_agent_deleted", "project", "name", "created_at", where=column("deleted_at").is_not(None)),
        partial_index("ix_agent_resting", *_RESTING_COLUMNS, where=IS_RESTING),
        partial_index("ix_agent_at_work", "project", where=IS_AT_WORK),
        partial_index("ix_agent_asking", "project", where=column("pending").is_not(None)),
    )
    id: str = Field(primary_key=True)
    name: str
    project: str
    orchestrator: str
    call_key: str | None = Field(default=None, unique=True)
    created_at: float
    deleted_at: float | None = None

    persona: str
    persona_body: Json = Field(sa_column=Column(JSON, nullable=False))
    """the persona at the time of creation (fields of domain.persona.Persona)"""
    provider: str
    model: str | None = None
    task: str
    cwd: str
    checkout: str
    """the directory in which writers take turns (git top level, otherwise cwd)"""
    writes: bool
    max_turns: int | None = None
    rehearsal: bool = False
    root: str = Field(index=True)
    """id of the agent at the top of its family; its own if no agent created it"""
    parent: str | None = Field(default=None, foreign_key="agent.id", index=True)
    depth: int = 0
    child_index: int | None = None
    children: int = 0
    """how many it has created; indexes are never reused"""
    priority: int = 0
    """the highest starts first"""
    checks: list[Json] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    """what must hold at the end of its next turns (domain.check.Check)"""
    check_retries: int | None = None
    """how often a failed check goes back to it; None: the default"""
    briefs: list[Json] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    """what its chain was told (domain.agent.Brief)"""

    account: str
    account_public: dict[str, str] = Field(sa_column=Column(JSON, nullable=False))
    """the account's variables that are not secret"""
    environment: dict[str, str] = Field(sa_column=Column(JSON, nullable=False))

    status: Status = Field(sa_column=Column(EnumText(Status), nullable=False))
    reason: str = ""
    """why its last turn did not complete; '' while a turn is open"""
    wait_kind: WaitKind | None = Field(default=None, sa_column=Column(EnumText(WaitKind)))
    """what a queued or waiting agent waits for (domain.wait.Wait, like the next four)"""
    wait_on: str = Field(default="", sa_column_kwargs={"server_default": ""})
    wait_until: float | None = None
    wait_detail: str = Field(default="", sa_column_kwargs={"server_default": ""})
    wait_blocked: bool = Field(default=False, sa_column_kwargs={"server_default": "0"})
    activity: ActivityKind = Field(
        default=ActivityKind.NONE, sa_column=Column(EnumText(ActivityKind), nullable=False, server_default="")
    )
    """what a working agent is doing (domain.activity.Activity, like the next two)"""
    activity_detail: str = Field(default="", sa_column_kwargs={"server_default": ""})
    activity_seconds: float | None = None
    changed_at: float
    """when its status, wait or activity last changed"""
    owner: str | None = None
    epoch: int = 0
    last_seq: int = 0
    turns: int = 0
    pending: Json | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    """a copy of its open question (all columns of `question` known when it asks), for reads of many agents"""

    session_id: str
    session_started: bool = False
    session_cost_usd: float | None = None

    progress: str = ""
    last_tool: str = ""
    last_event_at: float | None = None
    progress_at: float | None = None
    progress_tokens: int = 0
    """what it had used at its last line of progress, or when its turn began"""
    tool_at: float | None = None
    """when a tool last started or ended"""
    tool_tokens: int = 0
    open_tools: int = 0
    """calls that have started and not ended"""
    same_calls: int = 0
    """how often its last call was made in a row"""
    tool_calls: int = 0
    context_tokens: int | None = None
    context_window_tokens: int | None = None
    tokens: int = 0
    cost_usd: float = 0.0
    """the known part"""
    cost_unknown: bool = False
    """some turn's cost is unknown"""
    live_tokens: int = 0
    """of the turn at work, as far as it has reported; replaced by the figures at its end"""
    live_cost_usd: float = 0.0
    begun_turns: int = 0
    worked_seconds: float = 0.0
    running_since: float | None = None


class TurnTable(Table, table=True):
    """A turn: one prompt and its result."""

    __table_args__ = (
        UniqueConstraint("agent_id", "ordinal"),
        Index("ix_turn_open", "agent_id", "status"),
        Index("ix_turn_ended", "agent_id", "ended_at", "ordinal"),
        Index("ix_turn_ended_at", "ended_at"),
        partial_index("ix_turn_unread", "agent_id", where=_IS_UNREAD),
    )
    id: str = Field(primary_key=True)
    agent_id: str = Field(foreign_key="agent.id")
    ordinal: int
    urgent: int = 0
    """domain.turn.TurnPriority"""
    status: TurnStatus = Field(sa_column=Column(EnumText(TurnStatus), nullable=False))
    suspended_for: str = ""
    """what it was suspended for (budget, quota, overload, plan) until it resumes; empty if it waits in a tool call"""
    stop: str = ""
    """why it must stop, from the moment that was requested"""
    prompt_received: bool = False
    """its session has shown that it received the prompt: when it resumes, it is not given its task again"""
    resumes: int = 0
    """how often it was suspended"""
    overloads: int = 0
    """how often because the model's API was overloaded"""
    prompt: str
    reason: str = ""
    detail: str = ""
    hint: str = ""
    result: str = ""
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    epoch: int = 0
    attempts: int = 0
    """how often a run of it was claimed, except runs that resumed with an answer"""
    prompts: list[str] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    """ids of prompts after the first, whose id is derived from its own"""
    losses: list[Json] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    """runs that died: attempt, reason, detail, at"""
    checks: list[Json] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    """what must hold at its end"""
    checked: list[Json] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    """every run of its checks"""
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    model_calls: int = 0
    cost_usd: float = 0.0
    """the known part"""
    cost_unknown: bool = False
    before: Json | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    """the checkout before the turn: tree, head"""
    changes: Json | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    changes_unknown: str = ""
    outcome_cursor: int | None = None
    """id of the terminal event with its outcome; None: it is open, or its end is not an outcome"""
    delivered_at: float | None = None
    """when its orchestrator had received that outcome, or the agent was deleted, because nobody is told it then"""


class QuestionTable(Table, table=True):
    """What an agent asked in the middle of a tool call: a question or a permission, and who answered what."""

    __table_args__ = (
        partial_index("uq_question_open", "agent_id", where=column("state") == "open", unique=True),
        Index("ix_question_call", "agent_id", "call_id"),
        Index("ix_question_deadline", "state", "deadline_at"),
    )
    id: str = Field(primary_key=True)
    agent_id: str = Field(foreign_key="agent.id")
    turn: int
    """ordinal of the turn in which it was asked"""
    kind: QuestionKind = Field(sa_column=Column(EnumText(QuestionKind), nullable=False))
    call_id: str
    """of the tool call; for a plan (`tool` says so) the id of the prompt that carries the answer"""
    tool: str
    input: Json = Field(sa_column=Column(JSON, nullable=False))
    text: str
    options: list[str] = Field(sa_column=Column(JSON, nullable=False))
    asked_at: float
    deadline_at: float | None = None
    fallback: str
    """the answer that applies after the deadline"""
    state: QuestionState = Field(sa_column=Column(EnumText(QuestionState), nullable=False))
    answer: str | None = None
    answered_at: float | None = None
    answered_by: AnsweredBy | None = Field(default=None, sa_column=Column(EnumText(AnsweredBy)))


class InputTable(Table, table=True):
    """An agent whose result is handed to another; `settled`: it may be handed over, `blocked`: it failed."""

    __table_args__ = (partial_index("ix_input_unsettled", "agent_id", where=column("settled", Boolean).is_(False)),)
    agent_id: str = Field(primary_key=True, foreign_key="agent.id")
    turn: int = Field(primary_key=True)
    """ordinal of the turn that takes it"""
    position: int = Field(primary_key=True)
    source_id: str = Field(foreign_key="agent.id", index=True)
    settled: bool = False
    blocked: bool = False
    any_end: bool = Field(default=False, sa_column_kwargs={"server_default": "0"})
    """it may end in any way"""


class EventTable(Table, table=True):
    """An immutable fact; `id` is the fleet-wide cursor, and (agent, seq) has no gaps per agent."""

    __table_args__ = (UniqueConstraint("agent_id", "seq"), IDS_ARE_NEVER_REUSED)
    id: int | None = Field(default=None, primary_key=True)
    agent_id: str = Field(foreign_key="agent.id")
    seq: int
    turn: int | None = None
    kind: str
    at: float
    body: Json = Field(sa_column=Column(JSON, nullable=False))


class ArtifactTable(Table, table=True):
    """A file that a turn consumed or produced."""

    agent_id: str = Field(primary_key=True, foreign_key="agent.id")
    turn: int = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    path: str = Field(primary_key=True)
    at: float


class LeaseTable(Table, table=True):
    """Something provisioned, with an owner and an end: the right to write in a checkout, or a desk."""

    __table_args__ = (
        partial_index("uq_lease_held", "kind", "name", where=column("released_at").is_(None), unique=True),
        Index("ix_lease_agent", "agent_id"),
    )
    id: int | None = Field(default=None, primary_key=True)
    kind: str
    name: str
    agent_id: str = Field(foreign_key="agent.id")
    acquired_at: float
    released_at: float | None = None


class BudgetTable(Table, table=True):
    """A cap on what an agent (including reservations for its children), a subtree, or the fleet may use."""

    subject: str = Field(primary_key=True)
    """an agent's id, or `fleet`"""
    scope: Scope = Field(sa_column=Column(EnumText(Scope), primary_key=True))
    unit: Unit = Field(sa_column=Column(EnumText(Unit), primary_key=True))
    cap: float
    setting: float | None = None
    """the setting that the cap was last taken from"""


class BreakerTable(Table, table=True):
    """An account that its provider refuses for a time: none of its agents starts before `until`."""

    account: str = Field(primary_key=True)
    provider: str = Field(primary_key=True)
    until: float
    tries: int = 0
    """refusals in a row"""
    detail: str = ""


class CommandTable(Table, table=True):
    """A command that was carried out, by its idempotency key; sent again, it has no effect."""

    key: str = Field(primary_key=True)
    agent_id: str = Field(foreign_key="agent.id")
    turn_id: str | None = None
    happened: str
    at: float


class TranscriptTable(Table, table=True):
    """One line of an agent's conversation in its provider's format, from which another machine can resume."""

    __table_args__ = (UniqueConstraint("agent_id", "subpath", "uuid"),)
    agent_id: str = Field(primary_key=True, foreign_key="agent.id")
    subpath: str = Field(primary_key=True)
    """'' for the conversation itself, otherwise a sub-agent's"""
    seq: int = Field(primary_key=True)
    uuid: str | None = None
    body: str


class DurableWaitTable(Table, table=True):
    """A wait that outlives its connection; MCP calls it a task. Its row is written before its client is told."""

    __table_args__ = (Index("ix_durable_wait_status", "status"),)
    id: str = Field(primary_key=True)
    project: str
    orchestrator: str
    call_key: str | None = Field(default=None, unique=True)
    agents: list[str] = Field(sa_column=Column(JSON, nullable=False))
    """ids of the agents it waits for; empty: all of its orchestrator's, including later ones"""
    until: str
    since: str | None = None
    asks_person: bool
    """questions go to the person behind the client; otherwise they wake the orchestrator"""
    status: DurableWaitStatus = Field(sa_column=Column(EnumText(DurableWaitStatus), nullable=False))
    created_at: float
    updated_at: float
    deadline: float | None = None
    """its own time-out"""
    expires_at: float
    result: str = ""
    is_error: bool = False
    outcomes: list[str] = Field(sa_column=Column(JSON, nullable=False))
    """ids of the turns whose outcomes the result contains"""
    question_id: str | None = Field(default=None, foreign_key="question.id", index=True)
    """question of an orchestrator that Fleet runs and that waits like this; the end of the wait answers it"""


class ProcessTable(Table, table=True):
    """A provider's process: recorded under an epoch, then started, then ended with everything that it started."""

    __table_args__ = (Index("ix_process_open", "ended_at"),)
    marker: str = Field(primary_key=True)
    """the random word that its processes carry in their environment"""
    agent_id: str = Field(foreign_key="agent.id", index=True)
    epoch: int
    tier: str
    boot: str
    """boot id and pid namespace in which `pid` is valid"""
    intended_at: float
    pid: int | None = None
    started: str = ""
    """in clock ticks since boot; together with `pid` it identifies a process for good"""
    cgroup: str = ""
    started_at: float | None = None
    ended_at: float | None = None


AGENT = metadata.tables["agent"]
TURN = metadata.tables["turn"]
QUESTION = metadata.tables["question"]
INPUT = metadata.tables["input"]
EVENT = metadata.tables["event"]
ARTIFACT = metadata.tables["artifact"]
LEASE = metadata.tables["lease"]
COMMAND = metadata.tables["command"]
BUDGET = metadata.tables["budget"]
BREAKER = metadata.tables["breaker"]
TRANSCRIPT = metadata.tables["transcript"]
DURABLE_WAIT = metadata.tables["durable_wait"]
PROCESS = metadata.tables["process"]
