"""The contract between the fleet and a vendor of agents. It knows no vendor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from orchestrator.domain.event import SessionEvent
from orchestrator.domain.tool import Decide, Tool
from orchestrator.domain.transcript_state import TranscriptState


@dataclass(frozen=True, kw_only=True)
class SessionSpec:
    """All that a provider needs to open one session.

    `session_id` is chosen by the fleet before any process exists; `resume` says that a conversation under it exists.
    `environment` is the complete environment of the agent's processes (the provider adds only its own technical
    variables). `tools` are whole tools in the provider's names, None for all that it offers. `folder` is the agent's
    own folder in the state directory (configuration, transcripts). `crew` are the tools that every agent has towards
    its fleet, `fleet` those of an orchestrator. `session_cost_usd` is the session's running total.
    `marker` is the random word that the session's processes carry in their environment; `on_process` is told the id of
    the first of them, before `open` returns.
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
    marker: str = ""
    on_process: Callable[[int], None] | None = None


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One prompt, sent verbatim; `id` is a UUID that the provider keeps with it in the transcript."""

    id: str
    text: str


@dataclass(frozen=True, kw_only=True)
class TranscriptLine:
    """One line of a conversation in its provider's own words; `uuid` is the provider's id of it, if it has one."""

    uuid: str | None
    body: str


class TranscriptStore(Protocol):
    """Where conversations are mirrored, by agent, so that another process or machine can go on with them."""

    async def append(self, agent_id: str, subpath: str, lines: Sequence[TranscriptLine]) -> None:
        """Add lines to the conversation (`subpath` is '') or to a sub-agent's; a known uuid is not added again."""
        ...

    async def lines(self, agent_id: str) -> Sequence[tuple[str, str]]:
        """All lines of the agent with their subpath, in order."""
        ...


class Session(Protocol):
    """One live conversation, driven by exactly one task.

    Only `interrupt` may be called from another task than the one that opened the session.
    """

    def run(self, prompt: Prompt | None) -> AsyncIterator[SessionEvent]:
        """Yield what happens, ending with exactly one `Ended`, whatever goes wrong.

        None instead of a prompt continues the tool call that was deferred.
        """
        ...

    async def interrupt(self) -> None:
        """Ask the run to end soon; it then ends as interrupted. Harmless when nothing runs."""
        ...

    async def close(self) -> None:
        """End the session's processes; never raises."""
        ...


@runtime_checkable
class Steerable(Protocol):
    """What a session offers besides, if its vendor can take a prompt into a running turn."""

    async def steer(self, prompt: Prompt) -> bool:
        """Hand the prompt into the run; False: not now (nothing runs, or no tool is running), try at the next tool.

        The run's `Ended.steered` names it once its model has read it. May be called from another task.
        """
        ...


class Provider(Protocol):
    """A vendor of agents."""

    name: str

    async def open(self, spec: SessionSpec) -> Session:
        """Return a session that is ready for `run`.

        Raises:
            ProviderError: it cannot start; the message carries the program's own words.
        """
        ...

    async def recall(self, spec: SessionSpec, prompts: Sequence[str]) -> TranscriptState:
        """Where the turn with these prompts (ids, oldest first) stands in the conversation, without calling the model.

        It waits for the end of a former program of the session, so that what it tells is final.

        Raises:
            ProviderError: that program does not end.
        """
        ...

    def models(self) -> Mapping[str, str]:
        """The aliases that it takes, each with what it means."""
        ...

    def check_model(self, model: str) -> None:
        """Return if the model may be asked for.

        Raises:
            InvalidError: it is neither an alias nor of the vendor's form; with the valid ones.
        """
        ...

    def has_price(self, model: str | None) -> bool:
        """Whether what the model (None: the default one) uses can be told in dollars while it runs."""
        ...

    def tool_names(self) -> frozenset[str]:
        """The whole tools that a persona may name."""
        ...
