"""One provider on the rehearsal endpoint: specs, sessions that are closed again, and the events of a run."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.domain.event import Ended, SessionEvent
from orchestrator.domain.tool import Allow, CallContext, Defer, GateDecision, Json, Tool, ToolCall
from orchestrator.errors import ConflictError
from orchestrator.providers.base import Prompt, Provider, Session, SessionSpec
from orchestrator.rehearsal import Rehearsal

DEADLINE_SECONDS = 40.0
TEXT: dict[str, Any] = {"type": "string"}
E = TypeVar("E")


@dataclass(frozen=True)
class Vendor:
    """What the contract needs to know of a provider: how to make one, its script, and its names for things."""

    make: Callable[[Path], Provider]
    script: Path
    environment: Callable[[str, Path], dict[str, str]]
    model: str
    shell: str
    ask: str


@dataclass
class Crew:
    """The crew tools and the gate of one agent, as a fleet would keep them across processes."""

    notes: list[tuple[str | None, Json]] = field(default_factory=list[tuple[str | None, Json]])
    answers: dict[str, str] = field(default_factory=dict[str, str])
    asked: list[ToolCall] = field(default_factory=list[ToolCall])
    rule: Callable[[ToolCall], GateDecision] = lambda _call: Allow()

    def tools(self) -> tuple[Tool, ...]:
        """A tool that notes and a tool that asks."""
        question: Json = {"type": "object", "properties": {"question": TEXT}, "required": ["question"]}
        noted: Json = {
            "type": "object",
            "properties": {"text": TEXT},
            "required": ["text"],
        }
        return (
            Tool(name="note", description="Note a text.", schema=noted, call=self._note),
            Tool(name="ask", description="Ask the orchestrator.", schema=question, call=self._ask),
        )

    async def decide(self, call: ToolCall) -> GateDecision:
        """Defer questions until they are answered; everything else as the rule says."""
        self.asked.append(call)
        if call.name.endswith("ask") and call.id not in self.answers:
            return Defer()
        return self.rule(call)

    async def _note(self, call: CallContext, arguments: Json) -> str:
        if arguments["text"] == "refuse":
            raise ConflictError("no more notes", hint="end your turn")
        self.notes.append((call.key, arguments))
        return f"noted {arguments['text']}"

    async def _ask(self, call: CallContext, arguments: Json) -> str:
        del arguments
        return self.answers[call.key or ""]


@dataclass
class Lab:
    """A place to work in, and the sessions that were opened there."""

    vendor: Vendor
    endpoint: Rehearsal
    place: Path
    sessions: list[Session] = field(default_factory=list[Session])

    @property
    def work(self) -> Path:
        """The directory that the agents work in."""
        return self.place / "work"

    def spec(self, crew: Crew | None = None, **changes: Any) -> SessionSpec:
        """An agent that has never run."""
        crew = crew or Crew()
        plain = SessionSpec(
            agent_id="ag_1",
            agent_name="worker",
            persona="builder",
            session_id=str(uuid.uuid4()),
            resume=False,
            cwd=self.work,
            folder=self.place / f"agent-{uuid.uuid4().hex[:8]}",
            system_prompt="You are a test.",
            environment=self.vendor.environment(self.endpoint.url, self.place),
            decide=crew.decide,
            model=self.vendor.model,
            tools=(self.vendor.shell, "Read", "Write", "Edit", "Grep", "Glob"),
            crew=crew.tools(),
            rehearsal=True,
        )
        return replace(plain, **changes)

    async def open(self, spec: SessionSpec, provider: Provider | None = None) -> Session:
        """A session that is closed after the test."""
        session = await (provider or self.vendor.make(self.place)).open(spec)
        self.sessions.append(session)
        return session

    async def close(self) -> None:
        """Close what is open."""
        for session in self.sessions:
            await session.close()


def prompt(text: str) -> Prompt:
    """A new prompt."""
    return Prompt(id=str(uuid.uuid4()), text=text)


async def run(session: Session, text: str | None) -> list[SessionEvent]:
    """Everything that a run yields; it must end within bounded time, with exactly one `Ended`, last."""
    events: list[SessionEvent] = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for event in session.run(None if text is None else prompt(text)):
            events.append(event)
    assert [isinstance(event, Ended) for event in events] == [False] * (len(events) - 1) + [True]
    return events


def ended(events: list[SessionEvent]) -> Ended:
    """How it ended."""
    last = events[-1]
    assert isinstance(last, Ended)
    return last


def of(kind: type[E], events: list[SessionEvent]) -> list[E]:
    """The events of one kind."""
    return [event for event in events if isinstance(event, kind)]


async def wait_for(condition: Callable[[], object], what: str) -> None:
    """Return as soon as the condition holds."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {DEADLINE_SECONDS:g} s"
        await asyncio.sleep(0.02)


def plain(environment: Mapping[str, str], **more: str) -> dict[str, str]:
    """The environment without what pays, with something else."""
    return {name: value for name, value in environment.items() if name != "ANTHROPIC_API_KEY"} | more
