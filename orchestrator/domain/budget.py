"""Budget arithmetic: which caps apply to an agent, what is left of each, and the call that raises one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.domain.duration import format_age, format_duration
from orchestrator.domain.usage import shown_cost, shown_tokens
from orchestrator.domain.wait import Wait, WaitKind, wait_words
from orchestrator.errors import InvalidError

FLEET = "fleet"
MAX_CAP = 1e12
RAISE = 2
"""a proposed cap is this many times the one that was reached"""
MAX_SHOWN_CHARACTERS = 40
MAX_EXACT_USD = 100_000
"""above it, format `g` would show an exponent"""
UNPRICED = Wait(
    kind=WaitKind.BUDGET,
    detail="the price of its model is unknown, so no cost can be promised: use max_tokens",
    blocked=True,
)
"""detail of a wait for budget that a higher cap does not end: a cap in dollars, but a model without a known price"""


class Unit(StrEnum):
    """What a cap counts."""

    USD = "usd"
    TOKENS = "tokens"
    TURNS = "turns"
    """turns started"""
    SECONDS = "seconds"
    """seconds that a session worked"""


class Scope(StrEnum):
    """Whose use a cap counts."""

    AGENT = "agent"
    """the agent's own use, its children's, and what is reserved for children that have a cap and an open turn"""
    SUBTREE = "subtree"
    """the use of the agent and all its descendants, without reservations"""
    FLEET = "fleet"
    """the use of all agents, including deleted ones"""


Caps = Mapping[tuple[str, Scope, Unit], float]
"""caps by subject, scope and unit; the subject of the fleet's is `fleet`"""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One agent of a family: what it has used, and whether it has an open turn."""

    id: str
    name: str
    parent: str | None
    is_open: bool
    used: Mapping[Unit, float]


@dataclass(frozen=True, kw_only=True)
class Headroom:
    """A cap that applies to an agent, with what is used and what is left."""

    subject: str
    """an agent's id, or `fleet`"""
    name: str
    scope: Scope
    unit: Unit
    cap: float
    used: float

    @property
    def left(self) -> float:
        """What may still be used; 0 or less if the cap is reached."""
        return self.cap - self.used

    def wait(self, agent_id: str) -> Wait:
        """The wait of an agent that has reached this cap."""
        whose = "the fleet" if self.scope is Scope.FLEET else self.name
        amounts = f"{format_used(self.unit, self.used)} of {format_cap(self.unit, self.cap)}"
        return Wait(kind=WaitKind.BUDGET, on="" if self.subject == agent_id else whose, detail=amounts)

    def shown(self, agent_id: str) -> str:
        """The wait in words: `budget $0.50 of $0.50`, with the owner's name if the budget is not the agent's own."""
        return wait_words(self.wait(agent_id))


@dataclass(frozen=True)
class Family:
    """The agents under one root with their caps; computes how much room each of them has."""

    nodes: Mapping[str, Node]
    caps: Caps
    fleet_used: Mapping[Unit, float] = field(default_factory=dict[Unit, float])

    def rooms(self, agent_id: str) -> list[Headroom]:
        """Return every cap that applies to the agent: its own, its ancestors' and the fleet's."""
        path = self._path(agent_id)
        own = [
            self._room(self.nodes[one], scope, unit, frozenset(path))
            for one in path
            for scope in (Scope.AGENT, Scope.SUBTREE)
            for unit in Unit
            if (one, scope, unit) in self.caps
        ]
        fleet = [
            Headroom(
                subject=FLEET, name=FLEET, scope=Scope.FLEET, unit=unit, cap=cap, used=self.fleet_used.get(unit, 0.0)
            )
            for (_, scope, unit), cap in self.caps.items()
            if scope is Scope.FLEET
        ]
        return own + fleet

    def claimed(self, agent_id: str) -> dict[Unit, float] | None:
        """Return what the agent takes from its parent's caps, used or reserved; None if it has no open turn."""
        node = self.nodes[agent_id]
        above = frozenset(self._path(agent_id)) - {agent_id}
        return {unit: self._claimed(node, unit, above, reserving=True) for unit in Unit} if node.is_open else None

    def _path(self, agent_id: str) -> list[str]:
        """The agent, then its ancestors up to the root."""
        path: list[str] = []
        ahead: str | None = agent_id
        while ahead is not None and ahead in self.nodes:
            path.append(ahead)
            ahead = self.nodes[ahead].parent
        return path

    def _room(self, node: Node, scope: Scope, unit: Unit, path: frozenset[str]) -> Headroom:
        reserving = scope is Scope.AGENT
        used = node.used[unit] + sum(self._claimed(child, unit, path, reserving) for child in self._children(node.id))
        cap = self.caps[node.id, scope, unit]
        return Headroom(subject=node.id, name=node.name, scope=scope, unit=unit, cap=cap, used=used)

    def _claimed(self, node: Node, unit: Unit, path: frozenset[str], reserving: bool) -> float:
        """Return the larger of what the node and its descendants used and what is reserved for them."""
        below = [self._claimed(child, unit, path, reserving) for child in self._children(node.id)]
        used = node.used[unit] + sum(below)
        cap = self.caps.get((node.id, Scope.AGENT, unit))
        if reserving and cap is not None and node.is_open and node.id not in path:
            return max(used, cap)
        return used

    def _children(self, parent: str) -> list[Node]:
        return [node for node in self.nodes.values() if node.parent == parent]


def shortage(rooms: Iterable[Headroom], *, starts_turn: bool) -> Headroom | None:
    """Return a cap that is reached, or None; starting a turn requires room for one whole turn."""
    for room in rooms:
        needs_turn = room.unit is Unit.TURNS
        if (needs_turn and starts_turn and room.left < 1) or (not needs_turn and room.left <= 0):
            return room
    return None


def format_cap(unit: Unit, cap: float) -> str:
    """Return a cap with its unit, for a reader; a time is exact."""
    return format_duration(cap) if unit is Unit.SECONDS else format_used(unit, cap)


def format_used(unit: Unit, amount: float) -> str:
    """Return what was used with its unit, for a reader; a time is rounded down."""
    match unit:
        case Unit.USD:
            return shown_cost(amount)
        case Unit.TOKENS:
            return f"{shown_tokens(int(amount))} tokens"
        case Unit.TURNS:
            return f"{amount:.0f} turns"
        case Unit.SECONDS:
            return format_age(amount)


def checked_caps(asked: Mapping[Unit, float | None]) -> dict[Unit, float]:
    """Return the given caps, each positive and finite.

    Raises:
        InvalidError: a cap is not; the message names it.
    """
    given = {unit: cap for unit, cap in asked.items() if cap is not None}
    for unit, cap in given.items():
        if not 0 < cap <= MAX_CAP:  # before it becomes a float: an integer may have thousands of digits
            shown = f"{cap:g}" if isinstance(cap, float) else str(cap)[:MAX_SHOWN_CHARACTERS]
            raise InvalidError(
                f"{CAP_NAMES[unit]} is {shown}",
                hint=f"give more than 0 and at most {MAX_CAP:g}, or omit it for no cap",
            )
    return {unit: float(cap) for unit, cap in given.items()}


CAP_NAMES: Mapping[Unit, str] = {
    Unit.USD: "max_cost_usd",
    Unit.TOKENS: "max_tokens",
    Unit.TURNS: "max_total_turns",
    Unit.SECONDS: "max_seconds",
}
"""the parameter name of each cap"""


def remedy_for(wait: Wait, name: str, rooms: Sequence[Headroom], *, person: bool = False) -> str:
    """Return the call that ends this agent's wait for budget; for a person, the `fleet` command."""
    if wait.blocked:
        return f"{'fleet rm' if person else 'delete_agent'} {name}, and create it with max_tokens or another model"
    room = shortage(rooms, starts_turn=False) or shortage(rooms, starts_turn=True)
    if room is None:
        return "it will resume on its own: wait again"
    return _remedy(room, max(room.cap * RAISE, room.used * RAISE), person=person)


def _remedy(room: Headroom, raised_to: float, *, person: bool) -> str:
    is_small = room.unit is Unit.USD and raised_to < MAX_EXACT_USD
    raised = f"{raised_to:g}" if is_small else f"{math.ceil(raised_to)}"
    option = CAP_NAMES[room.unit].replace("_", "-")
    who = "" if person else "the person raises it: "
    if room.scope is Scope.FLEET:
        return f"{who}fleet budget --{option} {raised}"
    if not person and room.scope is Scope.AGENT and room.unit in {Unit.USD, Unit.TOKENS}:
        return f'command_agent(agent="{room.name}", {CAP_NAMES[room.unit]}={raised}), then wait again'
    subtree = " --subtree" if room.scope is Scope.SUBTREE else ""
    return f"{who}fleet budget {room.name}{subtree} --{option} {raised}"
