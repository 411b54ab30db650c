"""What the verbs return: values for readers, never rows."""

from __future__ import annotations

from pydantic import Field

from orchestrator.domain.text import NO_TEXT
from orchestrator.fleet.state_views import (
    ActivityView,
    BudgetView,
    CommittedView,
    Foreign,
    PastQuestionView,
    ProgressView,
    QuestionView,
    View,
    WaitView,
)


class TrustedPersona(View):
    """A persona file that may do more than Fleet's own persona of its name, as long as it has this hash."""

    name: str
    path: str
    digest: str
    more: tuple[str, ...] = ()
    """what more it may do; reported when the trust is given"""


class ChangesAsked(View):
    """A verdict that blocks an agent."""

    reviewer: str
    builder: str = ""
    """name of the agent that makes the changes, or whose work was reviewed; '' if that is not one agent"""
    is_commanded: bool = False
    """the builder makes them without a further command"""


class AgentView(View):
    """The current state of one agent."""

    id: str
    name: str
    persona: str
    persona_origin: Foreign = NO_TEXT
    """the place of its file, unless the persona is Fleet's own"""
    provider: str
    model: str | None
    status: str
    wait: WaitView | None = None
    """of a queued or waiting agent"""
    activity: ActivityView | None = None
    """of a working agent; None: nothing more specific is known"""
    reason: str = ""
    """the wait or the activity in words, or why its last turn did not complete"""
    age_seconds: float
    """since the status, wait or activity changed"""
    own: bool
    """created by the orchestrator that asks"""
    orchestrator: str
    project: str
    cwd: str
    place: str = ""
    """its directory and branch unless it works in the project directory; says if its session was started elsewhere"""
    branch: Foreign = NO_TEXT
    """what is checked out where it works, as in `Created`; set only for agents that were asked for by name"""
    turn: int
    """ordinal of the last turn, from 1; 0 if it has none"""
    elapsed_seconds: float | None
    """of the last turn: so far, or in total"""
    progress: Foreign = NO_TEXT
    last_tool: Foreign = NO_TEXT
    last_event_age_seconds: float | None = None
    evidence: ProgressView | None = None
    """of a working agent"""
    tool_calls: int = 0
    context_tokens: int | None = None
    context_window_tokens: int | None = None
    tokens: int = 0
    """of all its turns"""
    cost_usd: float | None = None
    """of all its turns; None if unknown"""
    cost_unknown: bool = True
    waits_for: tuple[str, ...] = ()
    """names of the agents that it waits for"""
    blocked_by: tuple[str, ...] = ()
    """those that ended without a result to hand on"""
    changes: tuple[ChangesAsked, ...] = ()
    """those of them whose verdict asks for changes, and who makes these"""
    inputs: tuple[str, ...] = ()
    """names of the agents whose results its next turn takes, or its last turn took"""
    briefs_of: tuple[str, ...] = ()
    """names of the agents with which its chain was briefed"""
    question: QuestionView | None = None
    parent: str | None = None
    """name of the agent that created it"""
    budgets: tuple[BudgetView, ...] = ()
    remedy: str = ""
    """the call that ends its wait at a cap, or for a queue that is held"""
    remedy_command: str = ""
    """the same as a `fleet` command"""
    unread: int = 0
    """how many of its ended turns have not been delivered to its orchestrator"""
    files_consumed: int = 0
    files_produced: int = 0
    created_at: str
    rehearsal: bool = False


class Totals(View):
    """Totals of the agents that were asked for."""

    agents: int
    by_status: dict[str, int]
    tokens: int
    context_tokens: int
    cost_usd: float | None
    """None as soon as one agent's cost is unknown"""
    known_cost_usd: float
    """the known part of it"""
    working: int
    slots: int
    rehearsal: bool = False
    tier: str = ""
    """letter of the supervision tier in which agents are started; '' if it is not reported"""


class Bottleneck(View):
    """An agent that others wait for."""

    name: str
    status: str
    elapsed_seconds: float | None
    blocks: tuple[str, ...]


class FleetView(View):
    """Agents with totals; `cursor` is the position in the event stream at the time of reading."""

    agents: tuple[AgentView, ...]
    totals: Totals
    unread: dict[str, int] = Field(default_factory=dict[str, int])
    """ended turns that were not delivered to the orchestrator that asks, counted by the agent's name"""
    bottlenecks: tuple[Bottleneck, ...] = ()
    cursor: str


class Created(View):
    """The created agent; `existed` if the same idempotency key had created it before."""

    agent: AgentView
    existed: bool = False
    branch: Foreign = NO_TEXT
    """what is checked out where it works: a branch, or the beginning of a commit; empty without git"""


class Receipt(View):
    """The result of a command."""

    agent: str
    name: str
    turn_id: str | None
    happened: str
    """one sentence: started, queued behind the running turn, answered, added to its task…"""


class Changes(View):
    """What a turn changed in the checkout, according to git; None where git could not tell."""

    files: tuple[Foreign, ...] = ()
    files_changed: int = 0
    insertions: int = 0
    deletions: int = 0
    commits: int = 0
    commits_shared: int = 0
    committed: CommittedView | None = None
    moved: Foreign = NO_TEXT
    """where HEAD went by a pull, merge, checkout or reset: `main 1a2b3c4d -> feature 5e6f7a8b`"""
    files_moved: int = 0
    """files that differ only because of that; they are not counted as changed"""
    shared: tuple[Foreign, ...] = ()
    """of the files, those that somebody else may have changed"""
    files_shared: int = 0
    shared_with: tuple[str, ...] = ()
    """agents that may have changed them or made the shared commits; none: the user, or a process in the background"""
    files_of_others: int = 0
    """files that others changed meanwhile; they are not counted as changed"""
    where: str = ""
    """e.g. `this checkout, uncommitted`"""


class CheckView(View):
    """The result of one acceptance check."""

    check: Foreign
    """the command, `<path> exists`, `result schema` or `verdict`"""
    kind: str
    """run | exists | schema | verdict"""
    passed: bool
    said: str
    """e.g. `exit 2`: a phrase by Fleet"""
    exit_code: int | None = None
    """None: no command ran, or it was killed"""
    seconds: float = 0.0
    tail: Foreign = NO_TEXT
    """the end of its output, or what the validator says about the result: data"""


class AttemptView(View):
    """One run of all checks of a turn."""

    attempt: int
    at: str
    passed: bool
    checks: tuple[CheckView, ...]


class TurnView(View):
    """One turn of an agent."""

    id: str
    turn: int
    status: str
    reason: str = ""
    detail: Foreign = NO_TEXT
    task: Foreign
    result: Foreign = NO_TEXT
    created_at: str
    started_at: str | None = None
    ended_at: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    model_calls: int = 0
    cost_usd: float | None = None
    changes: Changes | None = None
    changes_unknown: Foreign = NO_TEXT
    """why git could not tell, if so"""
    checks: tuple[Foreign, ...] = ()
    """what had to hold at its end"""
    checked: tuple[AttemptView, ...] = ()
    """every run of the checks"""


class FileView(View):
    """A file that an agent read or wrote; the path is relative if it is inside the project."""

    path: Foreign
    kind: str
    """consumed | produced"""
    turn: int


class BriefView(View):
    """What the agents of a chain were told, and the name of the agent whose brief it is."""

    of: str
    text: Foreign


class AgentDetail(View):
    """Everything about one agent."""

    agent: AgentView
    task: Foreign
    briefs: tuple[BriefView, ...] = ()
    system_prompt_source: str
    session_id: str | None
    desk: str
    turns: tuple[TurnView, ...]
    files: tuple[FileView, ...]
    asked: tuple[PastQuestionView, ...] = ()


class OutputPage(View):
    """A page of a turn's result text, with the files that the turn read and wrote."""

    agent: str
    name: str
    turn: int
    turns: int
    status: str
    reason: str = ""
    detail: Foreign = NO_TEXT
    text: Foreign
    offset: int
    total_characters: int
    next_offset: int | None
    files_consumed: tuple[Foreign, ...] = ()
    files_produced: tuple[Foreign, ...] = ()
    path: Foreign | None = None
    """file with the full text"""
    checks: tuple[CheckView, ...] = ()
    """result of the last attempt at its checks"""
    changes: str = ""
    """in words, or why they are unknown"""
    files_changed: tuple[Foreign, ...] = ()
    """according to git; of a turn that changed many, only the first ones"""


class Deleted(View):
    """A deleted agent, and where its work is."""

    agent: str
    name: str
    was: str
    """its status before"""
    work: str
    """where its changes are, e.g. `turn 2 changed 3 files: this checkout, uncommitted`; '' if it made none"""


class Orphan(View):
    """An agent that another session can adopt, because its own has ended or its project has moved."""

    agent: str
    name: str
    status: str
    orchestrator: str
    """the session that created it"""
    project: str
    is_moved: bool


class Orphans(View):
    """The agents that can be adopted in a project, and the sessions that are connected to it."""

    agents: tuple[Orphan, ...]
    sessions: tuple[str, ...]


class Adopted(View):
    """An agent that was given to another session."""

    agent: str
    name: str
    was: str
    """the session that it belonged to"""
    orchestrator: str
    moved_from: str
    """its project until now"""


class PersonaView(View):
    """A persona that an agent can have."""

    name: str
    description: Foreign
    tools: tuple[Foreign, ...] | None
    model: Foreign | None
    produces: Foreign
    source: Foreign


class Registry(View):
    """The agents that exist, and the personas that agents can have."""

    agents: tuple[AgentView, ...]
    personas: tuple[PersonaView, ...]
    mistakes: int = 0
    """persona files and folders that cannot be used as they are; `fleet doctor` says why"""


class EventView(View):
    """One event of the fleet; `cursor` is where to continue."""

    cursor: str
    agent: str
    name: str
    seq: int
    turn: int | None
    kind: str
    at: str
    body: dict[str, object]


class Health(View):
    """The daemon's report about itself."""

    build: str
    pid: int
    state: str
    database: str
    log: str
    uptime_seconds: float
    working: int
    queued: int
    waiting: int
    sessions: int
    """open provider sessions, including idle ones"""
    slots: int
    rehearsal: bool
    supervision: str
    http: str = ""
    """address of REST and MCP (at /mcp) on loopback; '' if only the unix socket is served"""
    memory_bytes: int | None = None
    lost_events: int = 0
    """events that a damaged or replaced database had lost when this daemon started"""
