"""One table of tools, rendered for every door; and the one gate before every tool call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = Mapping[str, Any]
Progress = Callable[[float, str], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who calls: the project it sees, the orchestrator it is, and whose account and environment it brought.

    `orchestrator` is the host's session id (or a stable word such as `cli`); `account` and `environment` are the
    names and values of the hello's allow-list, secrets included: they live in memory only.
    """

    project: str
    orchestrator: str
    cwd: str
    account: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    environment: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


async def no_progress(seconds: float, text: str) -> None:
    """Say nothing: for callers that nobody watches."""
    del seconds, text


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a tool: by whom, under which idempotency key, and how progress reaches the caller."""

    caller: Caller
    key: str | None = None
    progress: Progress = no_progress
    person: bool = False
    """a person's door (command line, HTTP): answers are recorded as a person's"""


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A tool as every door shows it; `call` returns the text or raises a FleetError.

    `waits` marks a tool that may be cancelled with its caller: every other one runs to its end.
    """

    name: str
    description: str
    schema: Json
    call: Callable[[Call, Json], Awaitable[str]]
    waits: bool = False


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
