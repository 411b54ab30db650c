"""The contract between the fleet and every vendor of agents; it names no vendor."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from orchestrator.domain.event import SessionEvent
from orchestrator.domain.tool import Decide, Tool
from orchestrator.domain.transcript_state import TranscriptState

CREW = "crew"
"""name of the MCP server with the Fleet tools that every agent has"""
FLEET_SERVER = "plugin_fleet_fleet"
"""name of the one with the tools of orchestrators: the plugin's, so that personas and scripts find the same tools"""


@dataclass(frozen=True, kw_only=True)
class SessionSpec:
    """Everything that a provider needs to open one session.

    `session_id` is chosen by the fleet before any process exists; `resume` says that it already has a conversation.
    `environment` is the complete environment of the agent's processes (the provider adds only technical variables).
    `decide` is asked before every tool call. `tools` are the provider's own tools by name, None for its default set.
    `folder` is the agent's own folder in the state directory (configuration, transcripts). `crew` are the Fleet tools
    that every agent has, `fleet` those that only orchestrators have. `session_cost_usd` is the session's running
    total. `briefs` are texts in `system_prompt` that later commands may add to. `marker` is the random word in the
    environment of the session's processes; `on_process` is called with the id of the first of them before `open`
    returns.
    """

    agent_id: str
    agent_name: str
    persona: str
    session_id: str
    resume: bool
    cwd: Path
    folder: Path
    system_prompt: str
    environment: Mapping[str, str] = field(repr=False)
    decide: Decide
    model: str | None = None
    tools: tuple[str, ...] | None = None
    crew: tuple[Tool, ...] = ()
    fleet: tuple[Tool, ...] = ()
    max_turns: int | None = None
    session_cost_usd: float | None = None
    rehearsal: bool = False
    briefs: Sequence[str] = ()
    marker: str = ""
    on_process: Callable[[int], None] | None = None


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One prompt, sent verbatim; `id` is a UUID that the provider stores with it in the transcript."""

    id: str
    text: str


@dataclass(frozen=True, kw_only=True)
class TranscriptLine:
    """One line of a conversation in its provider's format; `uuid` is the provider's id of the line, if it has one."""

    uuid: str | None
    body: str


class TranscriptStore(Protocol):
    """Durable copies of conversations, by agent, from which another process or machine can resume them."""

    async def append(self, agent_id: str, subpath: str, lines: Sequence[TranscriptLine]) -> None:
        """Append lines to the agent's conversation (`subpath` '') or to a sub-agent's; skip lines with a known uuid."""
        ...

    async def subpaths(self, agent_id: str) -> Sequence[str]:
        """The conversations that the agent has: '' for its own, and one for each sub-agent."""
        ...

    def lines(self, agent_id: str, subpath: str) -> AsyncGenerator[str]:
        """The lines of one conversation, in order and in constant memory; close it with its consumer."""
        ...


class Session(Protocol):
    """One open conversation, driven by exactly one task.

    Other tasks may only call `interrupt` and, if the session has it, `steer`.
    """

    def run(self, prompt: Prompt | None) -> AsyncIterator[SessionEvent]:
        """Run the prompt and yield its events; the last is the only `Ended`, whatever goes wrong.

        Without a prompt, continue the tool call that was deferred.
        """
        ...

    async def interrupt(self) -> None:
        """Ask the run to end soon, as interrupted; does nothing if no run is active."""
        ...

    async def close(self) -> None:
        """End the session's processes; never raises."""
        ...


@runtime_checkable
class Steerable(Protocol):
    """A session whose vendor accepts a prompt in the middle of a run."""

    async def steer(self, prompt: Prompt) -> bool:
        """Add the prompt to the active run; False: not possible now (no run or no running tool), try at the next tool.

        The run's `Ended.steered` names the prompt once its model has read it. May be called from another task.
        """
        ...


class Provider(Protocol):
    """One vendor of agents: opens sessions, reads their transcripts, and knows the vendor's models and tools."""

    name: str

    async def open(self, spec: SessionSpec) -> Session:
        """Return a session that is ready for `run`.

        Raises:
            ProviderError: it cannot start; the message holds the program's own error output.
        """
        ...

    async def recall(self, spec: SessionSpec, prompts: Sequence[str]) -> TranscriptState:
        """Read from the transcript how far the turn with these prompts (ids, oldest first) has come; calls no model.

        Waits until a previous program of the session has exited, so the answer is final.

        Raises:
            ProviderError: that program does not exit.
        """
        ...

    def models(self) -> Mapping[str, str]:
        """The model aliases that it accepts, each with its meaning."""
        ...

    def check_model(self, model: str) -> None:
        """Check that the model's name is valid.

        Raises:
            InvalidError: it is neither an alias nor a name in the vendor's form; the hint lists the valid ones.
        """
        ...

    def has_price(self, model: str | None) -> bool:
        """Whether the price of the model (None: the default one) is known, so that its cost can be tracked in a run."""
        ...

    def tool_names(self) -> frozenset[str]:
        """The names of the tools that a persona may list."""
        ...
