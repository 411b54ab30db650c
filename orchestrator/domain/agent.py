"""What an agent is, and how its status may change."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.domain.budget import Unit
from orchestrator.domain.check import UNCHANGED, NewChecks
from orchestrator.domain.persona import Persona
from orchestrator.errors import ConflictError, InvalidError

MAX_TASK_BYTES = 256 * 1024
MAX_BRIEF_BYTES = 32 * 1024
MAX_BRIEFS_BYTES = 64 * 1024
"""of all briefs that one agent reads"""
MAX_NAME_CHARACTERS = 64
ANY_END = "ended"
"""after a colon behind an input's name: however it ends"""
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*")
_ID_LIKE = re.compile(r"(ag|tn|rn)_", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")


class Status(StrEnum):
    """An agent's status. The list is closed; waits and activities give the details."""

    CREATING = "creating"
    """Being written; invisible outside the transaction."""
    QUEUED = "queued"
    """Accepted; it waits for its inputs, a slot or the checkout."""
    WORKING = "working"
    """A session runs its turn."""
    WAITING = "waiting"
    """It waits for an answer, an account or something else from outside, and holds no process."""
    COMPLETE = "complete"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    DELETED = "deleted"


ENDED = frozenset({Status.COMPLETE, Status.FAILED, Status.INTERRUPTED})
"""its last turn has ended; a command starts the next one"""
OPEN = frozenset({Status.QUEUED, Status.WORKING, Status.WAITING})
"""a turn is running or will run"""

MOVES: dict[Status, frozenset[Status]] = {
    Status.CREATING: frozenset({Status.QUEUED, Status.FAILED, Status.DELETED}),
    Status.QUEUED: frozenset(
        {Status.WORKING, Status.WAITING, Status.INTERRUPTED, Status.FAILED, Status.DELETED, Status.QUEUED}
    ),
    Status.WORKING: frozenset(
        {Status.COMPLETE, Status.FAILED, Status.INTERRUPTED, Status.WAITING, Status.QUEUED, Status.DELETED}
    ),
    Status.WAITING: frozenset({Status.QUEUED, Status.FAILED, Status.INTERRUPTED, Status.DELETED, Status.WORKING}),
    Status.COMPLETE: frozenset({Status.QUEUED, Status.FAILED, Status.DELETED}),
    Status.FAILED: frozenset({Status.QUEUED, Status.FAILED, Status.DELETED}),
    Status.INTERRUPTED: frozenset({Status.QUEUED, Status.FAILED, Status.DELETED}),
    Status.DELETED: frozenset(),
}


def check_move(before: Status, after: Status) -> None:
    """Check that a status may follow another.

    Raises:
        ConflictError: it may not.
    """
    if after not in MOVES[before]:
        raise ConflictError(f"an agent that is {before} cannot become {after}", hint="read its status")


@dataclass(frozen=True, kw_only=True)
class NewAgent:
    """A caller's request for an agent, before the fleet has checked and resolved it."""

    name: str
    task: str
    persona: str = "builder"
    provider: str | None = None
    model: str | None = None
    brief: str = ""
    """the text, or a reference to an agent that has it"""
    inputs: tuple[str, ...] = ()
    cwd: str | None = None
    max_turns: int | None = None
    max_cost_usd: float | None = None
    max_tokens: int | None = None
    max_total_turns: int | None = None
    max_seconds: float | None = None
    priority: int = 0
    checks: tuple[object, ...] = ()
    check_retries: int | None = None

    @property
    def caps(self) -> dict[Unit, float | None]:
        """The requested caps by unit."""
        return {
            Unit.USD: self.max_cost_usd,
            Unit.TOKENS: self.max_tokens,
            Unit.TURNS: self.max_total_turns,
            Unit.SECONDS: self.max_seconds,
        }


@dataclass(frozen=True, kw_only=True)
class Brief:
    """What an orchestrator tells all agents of a chain, and the name of the agent with which it did."""

    of: str
    text: str


@dataclass(frozen=True, kw_only=True)
class InputReference:
    """An input as a caller names it; `any_end`: it is waited for to end in any way, not to be complete."""

    agent: str
    any_end: bool


def input_reference(text: str) -> InputReference:
    """Return the input that `NAME` or `NAME:ended` means."""
    agent, mark, end = text.rpartition(":")
    any_end = bool(mark) and end.strip() == ANY_END
    return InputReference(agent=agent.strip() if any_end else text, any_end=any_end)


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account as stored with an agent: its id, and the variables that may be stored."""

    id: str
    public: Mapping[str, str]
    environment: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class AgentSpec:
    """An agent that can be created, with its first turn: what a caller asked for, checked and resolved."""

    id: str
    """its id if nobody but an orchestrator creates it; a child's follows from its parent's"""
    name: str
    project: str
    orchestrator: str
    call_key: str | None = None
    created_at: float
    persona: Persona
    provider: str
    model: str | None
    task: str
    turn_id: str
    cwd: str
    checkout: str
    """the directory in which writers take turns"""
    desks: str
    """the folder in which its own one will be"""
    session_id: str
    account: Account
    max_turns: int | None = None
    priority: int = 0
    rehearsal: bool = False
    checks: NewChecks = UNCHANGED
    caps: Mapping[Unit, float] = field(default_factory=dict[Unit, float])
    inputs: Sequence[str] = ()
    """ids of the agents whose results it takes"""
    any_end: Collection[str] = ()
    """those of them that may end in any way"""
    briefs: Sequence[Brief] = ()


def merged_briefs(briefs: Iterable[Brief]) -> tuple[Brief, ...]:
    """Return the briefs in order, each text once.

    Raises:
        InvalidError: they are too long together.
    """
    merged: dict[str, Brief] = {}
    for brief in briefs:
        merged.setdefault(brief.text.strip(), brief)
    size = sum(len(brief.text.encode()) for brief in merged.values())
    if size > MAX_BRIEFS_BYTES:
        raise InvalidError(
            f"its briefs have {size} bytes together; at most {MAX_BRIEFS_BYTES} are accepted",
            hint="give fewer inputs, or put long material into a file of the project and name the file",
        )
    return tuple(merged.values())


def checked_text(what: str, text: str, *, limit_bytes: int = MAX_TASK_BYTES) -> str:
    """Return the text if it can be sent: not blank, without NUL, valid Unicode, and within the limit.

    Raises:
        InvalidError: it cannot; the message says why, the hint what is valid.
    """
    if not text.strip():
        raise InvalidError(f"{what} is empty", hint="say what to do and what to report")
    if "\x00" in text:
        raise InvalidError(f"{what} contains a NUL character at {text.index(chr(0))}", hint="send plain text")
    if found := _SURROGATE.search(text):
        raise InvalidError(f"{what} contains a lone surrogate at {found.start()}", hint="send valid unicode")
    if (size := len(text.encode())) > limit_bytes:
        raise InvalidError(
            f"{what} has {size} bytes; at most {limit_bytes} are accepted",
            hint="put long material into a file of the project and name the file, or hand results on with inputs",
        )
    return text


def checked_name(name: str) -> str:
    """Return the name if it is usable in paths, lines and calls.

    Raises:
        InvalidError: it is not; the hint says what is valid.
    """
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME_CHARACTERS or _ID_LIKE.match(name):
        raise InvalidError(
            f"{name[:80]!r} is not a valid agent name",
            hint="use 1-64 letters, digits, '.', '_' or '-', first a letter or digit, not like an id (ag_…)",
        )
    return name
