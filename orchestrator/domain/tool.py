"""One table of tools, rendered for every door; and the one gate before every tool call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.domain.durable_wait import DurableWait

Json = Mapping[str, Any]
Progress = Callable[[float, str], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Caller:
    """The caller: the project it sees, the orchestrator it is, and the account and environment it sent.

    `orchestrator` is the host's session id (or a stable word such as `cli`); `door` is the name of the stdio door
    in between, '' without one; `wait_seconds` is how long its host lets a call wait, None if without limit;
    `account` and `environment` are the names and values of the hello's allow-list, secrets included: they live in
    memory only.
    """

    project: str
    orchestrator: str
    cwd: str
    door: str = ""
    wait_seconds: float | None = None
    account: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    environment: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


async def no_progress(seconds: float, text: str) -> None:
    """Report no progress: for callers that nobody watches."""
    del seconds, text


@dataclass(frozen=True, kw_only=True)
class Running:
    """The running turn of one of our agents from which it calls; valid until its epoch changes."""

    agent_id: str
    epoch: int

    def stands_under(self, agent_id: str) -> bool:
        """Whether this is the agent itself or a descendant of it: a child's id begins with its parent's."""
        return self.agent_id == agent_id or self.agent_id.startswith(f"{agent_id}_child_")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a tool: by whom, under which idempotency key, and how progress reaches the caller."""

    caller: Caller
    key: str | None = None
    progress: Progress = no_progress
    person: bool = False
    """called through a person's door (command line, HTTP): its answers are recorded as a person's"""
    run: Running | None = None
    """set if an orchestrator that Fleet runs calls: the agents it creates are its children"""


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A tool as every door shows it; `call` returns the text or raises a FleetError.

    `waits` marks a tool that may be cancelled with its caller: every other one runs to its end. `begin` is for clients
    that let a call outlive their connection: it returns the wait, or the text at once if there is nothing to wait for;
    its last argument says whether the client can show forms to a person.
    """

    name: str
    description: str
    schema: Json
    call: Callable[[Call, Json], Awaitable[str]]
    waits: bool = False
    begin: Callable[[Call, Json, bool], Awaitable[str | DurableWait]] | None = None


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """What an agent is about to do: the provider's tool name, its input, and the id that identifies the call."""

    id: str
    name: str
    input: Json
    in_subagent: bool = False


@dataclass(frozen=True)
class Allow:
    """The call runs."""


@dataclass(frozen=True)
class Deny:
    """The call does not run; the agent reads the reason."""

    reason: str


@dataclass(frozen=True)
class Defer:
    """The turn ends here, waiting; the same call is asked again when the agent is resumed."""


Verdict = Allow | Deny | Defer
Decide = Callable[[ToolCall], Awaitable[Verdict]]
