"""A fleet whose sessions do what the test says, for tests of the state machine; everything but the vendor is real."""

from __future__ import annotations

import asyncio
import functools
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Select, select

from orchestrator import paths
from orchestrator.app import Host, assemble, started
from orchestrator.domain.agent import NewAgent
from orchestrator.domain.clearance import ASK, CREW, DEFERRED, FLEET_TOOL, WAIT_FOR_CHILDREN
from orchestrator.domain.event import Ended, Opened, SessionEvent, SessionOutcome, ToolStarted
from orchestrator.domain.tool import Allow, CallContext, Caller, Defer, GateDecision, ToolCall
from orchestrator.domain.transcript_state import TranscriptState, TranscriptStatus
from orchestrator.domain.usage import Usage
from orchestrator.errors import FleetError
from orchestrator.fleet.context import FleetContext
from orchestrator.fleet.digest_views import Digest
from orchestrator.fleet.execution.worker import Workers
from orchestrator.fleet.fleet import Fleet
from orchestrator.fleet.sessions.slot import AgentSlot
from orchestrator.fleet.views import AgentView, Created
from orchestrator.providers.base import Prompt, Session, SessionSpec
from orchestrator.server.mcp import tools
from orchestrator.settings import Settings
from orchestrator.store.engine.database import open_store
from orchestrator.store.engine.migrate import migrate
from orchestrator.store.queries import agents as agent_queries
from orchestrator.store.schema.rows import TurnRow
from orchestrator.store.schema.tables import EVENT, EventTable
from orchestrator.supervision.command import LaunchConfig

DEADLINE_SECONDS = 30.0
USED = Usage(input_tokens=10, output_tokens=5, context_tokens=15, context_window_tokens=200_000, model_calls=1)


@dataclass(frozen=True)
class Ask:
    """A step: the agent asks its orchestrator."""

    question: str
    options: object = None
    tool: str = ASK
    input: Mapping[str, object] | None = None
    """of a tool that needs a permission"""


@dataclass(frozen=True)
class Crash:
    """A step: the session raises."""

    error: BaseException


@dataclass(frozen=True)
class Spawn:
    """A step: the agent creates a child; what it reads goes to the provider's answers."""

    name: str
    persona: str = "scout"
    more: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True)
class SleepOnChildren:
    """A step: the agent waits for its children."""


@dataclass(frozen=True)
class Report:
    """A step: the agent reports its progress."""

    text: str


@dataclass(frozen=True)
class Direct:
    """A step: the orchestrator calls a tool of the fleet; what it reads goes to the provider's answers."""

    tool: str
    input: Mapping[str, object] = field(default_factory=dict[str, object])


Step = SessionEvent | Ask | Crash | Spawn | SleepOnChildren | Report | Direct


@dataclass(eq=False)
class ScriptedSession:
    """A conversation that takes its steps from the provider's script."""

    provider: ScriptedProvider
    spec: SessionSpec
    running: bool = False
    listens: bool = False
    """it waits for its next step"""
    interrupts: int = 0
    closed: bool = False
    read: list[str] = field(default_factory=list[str])
    """ids of the prompts that were steered into the run"""

    async def run(self, prompt: Prompt | None) -> AsyncIterator[SessionEvent]:
        """Play steps until one ends the run."""
        self.provider.begin(self, prompt)
        try:
            yield Opened(session_id=self.spec.session_id, model="scripted-1")
            if (call := self.provider.deferred.pop(self.spec.agent_id, None)) is not None:
                self.provider.verdicts[self.spec.agent_name].append(await self.spec.decide(call))
                await self._answered(call)
            while True:
                self.listens = True
                step = await self.provider.script(self.spec.agent_name).get()
                self.listens = False
                if isinstance(step, Crash):
                    raise step.error
                if isinstance(step, Spawn | Report):
                    await (self._spawn(step) if isinstance(step, Spawn) else self._report(step))
                    continue
                if isinstance(step, SleepOnChildren):
                    step = await self._sleep()
                if isinstance(step, Direct):
                    if (ended := await self._direct(step)) is None:
                        continue
                    step = ended
                if isinstance(step, Ask):
                    if (ended := await self._ask(step)) is None:
                        continue
                    step = ended
                if isinstance(step, Ended):
                    read = tuple(self.read) if step.outcome is SessionOutcome.COMPLETE else ()
                    yield replace(step, steered=read)
                    return
                yield step
        finally:
            self.running = self.listens = False

    async def _ask(self, step: Ask) -> Ended | None:
        self.provider.questions += 1
        body = {"question": step.question, "options": step.options}
        call = ToolCall(id=f"toolu_{self.provider.questions}", name=step.tool, input=step.input or body)
        if isinstance(await self.spec.decide(call), Defer):
            self.provider.deferred[self.spec.agent_id] = call
            return Ended(
                outcome=SessionOutcome.DEFERRED, deferred=call, usage=USED, cost_usd=0.01, session_cost_usd=0.01
            )
        return None

    async def _spawn(self, step: Spawn) -> None:
        self.provider.questions += 1
        tool = next(tool for tool in self.spec.crew if tool.name == "create_agent")
        caller = Caller(project="", orchestrator="", cwd="")
        call = CallContext(caller=caller, key=f"toolu_{self.provider.questions}")
        try:
            told = await tool.call(call, {"name": step.name, "task": "look", "persona": step.persona, **step.more})
        except FleetError as error:
            told = str(error)
        self.provider.answers[self.spec.agent_name].append(told)

    async def _report(self, step: Report) -> None:
        tool = next(tool for tool in self.spec.crew if tool.name == "report_progress")
        await tool.call(CallContext(caller=Caller(project="", orchestrator="", cwd=""), key=None), {"text": step.text})

    async def _direct(self, step: Direct) -> Ended | None:
        self.provider.questions += 1
        call = ToolCall(id=f"toolu_{self.provider.questions}", name=FLEET_TOOL + step.tool, input=step.input)
        verdict = await self.spec.decide(call)
        if isinstance(verdict, Defer):
            self.provider.deferred[self.spec.agent_id] = call
            return Ended(
                outcome=SessionOutcome.DEFERRED, deferred=call, usage=USED, cost_usd=0.01, session_cost_usd=0.01
            )
        assert isinstance(verdict, Allow), verdict
        await self._read(call)
        return None

    async def _read(self, call: ToolCall) -> None:
        """Call the tool in process, as the vendor would, and note what it tells."""
        tools = {CREW + tool.name: tool for tool in self.spec.crew}
        tools |= {FLEET_TOOL + tool.name: tool for tool in self.spec.fleet}
        caller = Caller(project="", orchestrator="", cwd="")
        try:
            told = await tools[call.name].call(CallContext(caller=caller, key=call.id), call.input)
        except FleetError as error:
            told = f"ERROR {error}"
        self.provider.answers[self.spec.agent_name].append(told)

    async def _sleep(self) -> Ended:
        self.provider.questions += 1
        call = ToolCall(id=f"toolu_{self.provider.questions}", name=WAIT_FOR_CHILDREN, input={})
        assert isinstance(await self.spec.decide(call), Defer)
        self.provider.deferred[self.spec.agent_id] = call
        return Ended(outcome=SessionOutcome.DEFERRED, deferred=call, usage=USED, cost_usd=0.01, session_cost_usd=0.01)

    async def _answered(self, call: ToolCall) -> None:
        if call.name in DEFERRED and isinstance(self.provider.verdicts[self.spec.agent_name][-1], Allow):
            await self._read(call)

    async def interrupt(self) -> None:
        """End the run as interrupted, once; a deaf session takes no notice."""
        self.interrupts += 1
        if self.running and self.interrupts == 1 and self.spec.agent_name not in self.provider.deaf:
            ended = Ended(outcome=SessionOutcome.INTERRUPTED, usage=USED, cost_usd=0.0, session_cost_usd=0.0)
            self.provider.script(self.spec.agent_name).put_nowait(ended)

    async def close(self) -> None:
        """Take the session's process away, once the test allows it."""
        self.provider.closing.append(self.spec.agent_name)
        await self.provider.may_close.wait()
        self.closed = True


@dataclass
class SteerableSession(ScriptedSession):
    """A session that takes prompts into its run; its model has read them once the run is complete."""

    async def steer(self, prompt: Prompt) -> bool:
        """Take the prompt in."""
        if self.running:
            self.read.append(prompt.id)
        return self.running


@dataclass
class ScriptedProvider:
    """A vendor without a program."""

    name: str = "claude"
    sessions: list[ScriptedSession] = field(default_factory=list[ScriptedSession])
    opening: list[str] = field(default_factory=list[str])
    closing: list[str] = field(default_factory=list[str])
    prompts: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    answers: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    verdicts: dict[str, list[GateDecision]] = field(default_factory=lambda: defaultdict(list))
    deferred: dict[str, ToolCall] = field(default_factory=dict[str, ToolCall])
    deaf: set[str] = field(default_factory=set[str])
    fails: dict[str, Exception] = field(default_factory=dict[str, Exception])
    """agents whose session does not open"""
    standings: dict[str, TranscriptState] = field(default_factory=dict[str, TranscriptState])
    recalled: dict[str, list[list[str]]] = field(default_factory=lambda: defaultdict(list))
    violations: list[str] = field(default_factory=list[str])
    questions: int = 0
    steerable: bool = False
    """whether a running session takes prompts in"""
    may_open: asyncio.Event = field(default_factory=asyncio.Event)
    may_close: asyncio.Event = field(default_factory=asyncio.Event)
    scripts: dict[str, asyncio.Queue[Step]] = field(default_factory=dict[str, "asyncio.Queue[Step]"])

    def __post_init__(self) -> None:
        self.may_open.set()
        self.may_close.set()

    def script(self, agent: str) -> asyncio.Queue[Step]:
        """What the agent of this name will do."""
        return self.scripts.setdefault(agent, asyncio.Queue())

    def begin(self, session: ScriptedSession, prompt: Prompt | None) -> None:
        """Note the run, and what it breaks."""
        name = session.spec.agent_name
        others = [one for one in self.sessions if one.spec.agent_id == session.spec.agent_id and one is not session]
        if session.running or any(not one.closed for one in others):
            self.violations.append(f"{name} has two live sessions")
        if session.closed:
            self.violations.append(f"{name} runs in a closed session")
        session.running, session.interrupts, session.read = True, 0, []
        if prompt is not None:
            self.prompts[name].append(prompt.text)

    async def open(self, spec: SessionSpec) -> Session:
        """Open a session, once the test allows it."""
        self.opening.append(spec.agent_name)
        await self.may_open.wait()
        if (error := self.fails.get(spec.agent_name)) is not None:
            raise error
        session = SteerableSession(self, spec) if self.steerable else ScriptedSession(self, spec)
        self.sessions.append(session)
        return session

    async def recall(self, spec: SessionSpec, prompts: Sequence[str]) -> TranscriptState:
        """What the test says of the transcript; nothing of the turn is in it by default."""
        self.recalled[spec.agent_name].append(list(prompts))
        return self.standings.get(spec.agent_name, TranscriptState(status=TranscriptStatus.ABSENT))

    def models(self) -> Mapping[str, str]:
        """The one model."""
        return {"default": "the one there is"}

    def check_model(self, model: str) -> None:
        """Any name will do."""

    def has_price(self, model: str | None) -> bool:
        """Only one model has none."""
        return model != "unpriced"

    def tool_names(self) -> frozenset[str]:
        """What the shipped personas name, and a tool that some of the tests ask about."""
        return frozenset({"Read", "Write", "Edit", "Bash", "Grep", "Glob", "WebFetch"})


@dataclass
class Lab:
    """A running fleet with its script, and the words of one orchestrator."""

    fleet: Fleet
    context: FleetContext
    workers: Workers
    provider: ScriptedProvider
    project: Path
    state: Path
    caller: Caller

    def call(self, key: str | None = None, *, orchestrator: str | None = None) -> CallContext:
        """A call of the orchestrator."""
        caller = self.caller
        if orchestrator is not None:
            caller = Caller(
                project=caller.project,
                orchestrator=orchestrator,
                cwd=caller.cwd,
                account=caller.account,
                environment=caller.environment,
            )
        return CallContext(caller=caller, key=key)

    async def tool(self, name: str, /, *, orchestrator: str | None = None, **arguments: object) -> str:
        """What an orchestrator reads of this tool."""
        [found] = [tool for tool in tools.table(self.fleet) if tool.name == name]
        return await found.call(self.call(orchestrator=orchestrator), arguments)

    async def create(
        self,
        name: str,
        *,
        task: str = "look",
        persona: str = "scout",
        inputs: Sequence[str] = (),
        key: str | None = None,
    ) -> Created:
        """Create an agent."""
        new = NewAgent(name=name, task=task, persona=persona, inputs=tuple(inputs))
        return await self.fleet.create(self.call(key), new)

    async def view(self, name: str) -> AgentView:
        """The agent, now; calls of a stranger, so that nothing counts as delivered by looking."""
        return (await self.fleet.status(self.call(orchestrator="watcher"), [name])).agents[0]

    async def wait(self, *agents: str, until: str = "all", key: str | None = None, since: str | None = None) -> Digest:
        """Sleep, at most as long as a test may."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.fleet.wait(self.call(key), agents=agents, until=until, since=since)

    def play(self, name: str, *steps: Step) -> None:
        """Let the agent do this next."""
        for step in steps:
            self.provider.script(name).put_nowait(step)

    def finish(self, name: str, text: str = "done", cost_usd: float | None = 0.01) -> None:
        """Let the agent's run end well."""
        self.play(
            name,
            Ended(outcome=SessionOutcome.COMPLETE, text=text, usage=USED, cost_usd=cost_usd, session_cost_usd=cost_usd),
        )

    def fail(self, name: str, reason: str = "api", detail: str = "the model said no") -> None:
        """Let the agent's run fail."""
        self.play(name, Ended(outcome=SessionOutcome.FAILED, reason=reason, detail=detail, usage=USED, cost_usd=0.01))

    async def becomes(self, name: str, status: str, reason: str | None = None) -> AgentView:
        """The agent, once it has this status (and this in its reason); at work it then waits for its next step."""
        view = await self.view(name)

        async def there() -> bool:
            nonlocal view
            view = await self.view(name)
            at_ease = status != "working" or any(
                session.listens and session.spec.agent_id == view.id for session in self.provider.sessions
            )
            return at_ease and view.status == status and (reason is None or reason in view.reason)

        try:
            await eventually(there)
        except TimeoutError:
            raise AssertionError(f"{name} did not become {status} ({reason}): {view.status} ({view.reason})") from None
        return view

    async def asks(self, name: str, question: str = "which one?", options: tuple[str, ...] = ()) -> AgentView:
        """The agent, once it waits with this question."""
        self.play(name, Ask(question, list(options)))
        return await self.becomes(name, "waiting", "question")

    async def turns(self, name: str) -> Sequence[TurnRow]:
        """The agent's turns as rows."""
        found = await self.context.find(self.caller, name, deleted=True)
        return await self.context.work.store.read(functools.partial(agent_queries.turns, agent_id=found.id))

    def slot(self, agent_id: str) -> AgentSlot:
        """The slot that the agent has now."""
        return self.context.slots._slots[agent_id]

    def task(self, agent_id: str) -> asyncio.Task[None]:
        """The task that serves the agent's slot."""
        return next(task for task in self.workers._tasks if task.get_name() == f"agent {agent_id}")

    def slots(self) -> list[AgentSlot]:
        """All slots that agents have now."""
        return list(self.context.slots._slots.values())

    async def events(self, name: str) -> list[EventTable]:
        """The agent's events as rows, in order."""
        found = await self.context.find(self.caller, name, deleted=True)
        return await self.rows(select(EVENT).where(EVENT.c.agent_id == found.id).order_by(EVENT.c.seq))

    async def names(self) -> dict[str, str]:
        """The living agents, name by id."""
        living = await self.context.work.store.read(lambda connection: agent_queries.living(connection, None))
        return {agent.id: agent.name for agent in living}

    async def rows(self, query: Select[Any]) -> list[Any]:
        """What the query finds in the fleet's store."""
        return await self.context.work.store.read(lambda connection: list(connection.execute(query).all()))

    async def die(self) -> None:
        """Let the workers go as a kill of the daemon would: nothing more is written."""
        self.workers._leaving = True
        tasks = set(self.workers._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def eventually(true: Callable[[], Awaitable[bool]], *, seconds: float = DEADLINE_SECONDS) -> None:
    """Return once it is true.

    Raises:
        TimeoutError: it does not become true.
    """
    async with asyncio.timeout(seconds):
        while True:
            if await true():
                return
            await asyncio.sleep(0.005)


_EMPTY: list[bytes] = []


async def _empty_database() -> bytes:
    """A migrated database without rows: migrating anew for each test would be most of its time."""
    if not _EMPTY:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "fleet.db"
            await migrate(path)
            _EMPTY.append(path.read_bytes())
    return _EMPTY[0]


@asynccontextmanager
async def open_lab(
    place: Path,
    *,
    slots: int = 4,
    rest_seconds: float = 30.0,
    account: Mapping[str, str] | None = None,
    rehearsal: str = "",
    provider: ScriptedProvider | None = None,
    clock: Callable[[], float] = time.time,
    max_resumes: int = 3,
    **settings_more: object,
) -> AsyncGenerator[Lab]:
    """A fleet below `place` (its `state`, `project` and `home`), put together as app.py does it."""
    state, project, home = place / "state", place / "project", place / "home"
    for folder in (state, project, home):
        folder.mkdir(exist_ok=True)
    if not (database := paths.database_path(state)).exists():
        database.write_bytes(await _empty_database())
    given: dict[str, object] = {
        "AGENT_MAX_CONCURRENT": slots,
        "FLEET_REST_SECONDS": rest_seconds,
        "FLEET_REHEARSAL": rehearsal,
        "FLEET_MAX_RESUMES": max_resumes,
    }
    given |= settings_more
    settings = Settings.model_validate(given)
    scripted = provider or ScriptedProvider()
    async with open_store(database) as store:
        launch = LaunchConfig(folder=state / "run")
        host = Host(state=state, settings=settings, launch=launch, tier="", supervision="none", clock=clock)
        parts = assemble(store, host, {scripted.name: scripted})
        caller = Caller(
            project=str(project),
            orchestrator="boss",
            cwd=str(project),
            account=account or {},
            environment={"HOME": str(home), "PATH": os.environ["PATH"]},
        )
        async with started(parts) as fleet:
            yield Lab(fleet, parts.context, parts.workers, scripted, project, state, caller)


async def at_work(lab: Lab, name: str, turns: int = 1) -> None:
    """Return once the session has its prompt (what lay there before was looked at); its shell may write from now on."""

    async def prompted() -> bool:
        return len(lab.provider.prompts[name]) == turns

    await eventually(prompted)
    lab.play(name, ToolStarted(call_id=f"shell-{turns}", tool="Bash", summary="work"))
