"""The tools that Fleet serves, and the tool calls of agents with the gate's decision: allow, deny or defer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.domain.durable_wait import DurableWait

Json = Mapping[str, Any]
Progress = Callable[[float, str], Awaitable[None]]
COMMAND_LINE = "cli"
"""the orchestrator of a person's commands: one in each project, whichever terminal they are typed in"""


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who calls: the project that it sees, its orchestrator's name, and the account and environment that it sent.

    `orchestrator` is the host's session id, the door's own if the host has none, or `cli`; '' is nobody, who may only
    look at what the server offers. `door` is the name of the stdio door
    in between, '' without one; `wait_seconds` is how long its host lets a call wait, None if without limit;
    `account` and `environment` are allow-listed variables of the hello, including secrets, which are kept in
    memory only.
    """

    project: str
    orchestrator: str
    cwd: str
    door: str = ""
    wait_seconds: float | None = None
    account: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    environment: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    passed: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """variables that its FLEET_PASS_ENV names; each may be a secret"""
    wait_problem: str = ""
    """what is wrong with its FLEET_WAIT_SECONDS; it waits for no agents until that is fixed"""
    pass_problem: str = ""
    """what is wrong with its FLEET_PASS_ENV; it creates and commands no agents until that is fixed"""


async def no_progress(seconds: float, text: str) -> None:
    """Discard progress, for callers that do not show it."""
    del seconds, text


@dataclass(frozen=True, kw_only=True)
class CallingTurn:
    """The running turn from which one of the fleet's own agents calls; valid until its epoch changes."""

    agent_id: str
    epoch: int

    def stands_under(self, agent_id: str) -> bool:
        """Whether this is the agent or one of its descendants; a child's id begins with its parent's."""
        return self.agent_id == agent_id or self.agent_id.startswith(f"{agent_id}_child_")


@dataclass(frozen=True, kw_only=True)
class CallContext:
    """One call of a tool: the caller, the idempotency key, and how to report progress."""

    caller: Caller
    key: str | None = None
    progress: Progress = no_progress
    person: bool = False
    """called through a person's door (command line, HTTP): its answers count as a person's"""
    roots: Sequence[str] | None = ()
    """the directories in which the caller's session works now, if its host names them: it may have moved to another
    worktree since it started; None if the host should have named them and did not"""
    run: CallingTurn | None = None
    """set if the caller is an orchestrator that Fleet runs: agents that it creates are its children"""


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A tool, the same for every door; `call` returns its text or raises a FleetError.

    `schema` is what every door lists. `json_lists` names arguments that are lists of text, in which an object may stand
    for its JSON text.

    `waits` marks a tool that is cancelled with its caller; all others run to completion. `begin` is for clients
    that let a call outlive their connection: it returns the wait, or the text at once if there is nothing to wait for;
    its last argument says whether the client can show forms to a person. `located` marks a tool that needs to know
    where its caller's session works now.
    """

    name: str
    description: str
    schema: Json
    call: Callable[[CallContext, Json], Awaitable[str]]
    json_lists: frozenset[str] = frozenset()
    waits: bool = False
    located: bool = False
    begin: Callable[[CallContext, Json, bool], Awaitable[str | DurableWait]] | None = None


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """A tool call that an agent is about to make: the provider's tool name, the input, and the id of the call."""

    id: str
    name: str
    input: Json
    in_subagent: bool = False


@dataclass(frozen=True)
class Allow:
    """Run the call."""


@dataclass(frozen=True)
class Deny:
    """Refuse the call; the agent reads the reason."""

    reason: str


@dataclass(frozen=True)
class Defer:
    """End the turn here and wait; the same call is asked again when the agent resumes."""


GateDecision = Allow | Deny | Defer
Decide = Callable[[ToolCall], Awaitable[GateDecision]]
