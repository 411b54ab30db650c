"""Operations on budgets: set caps, count use while a session runs, and resume agents that have room again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import Select, bindparam, func, select

from orchestrator.domain.agent import OPEN, Status
from orchestrator.domain.budget import FLEET, Family, Headroom, Node, Scope, Unit, shortage
from orchestrator.domain.usage import RunUsage
from orchestrator.domain.wait import WaitKind
from orchestrator.errors import RefusedError
from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.dialect import upsert
from orchestrator.store.engine.prepared import fetch
from orchestrator.store.schema.rows import AgentRow, BudgetRow, all_rows
from orchestrator.store.schema.tables import AGENT, BUDGET
from orchestrator.store.schema.transitions import agent_row, change
from orchestrator.store.waits import ready_queue, suspension

NOTHING: Mapping[Unit, float] = {}


class MemberUse(NamedTuple):
    """What an agent has used, and its place in its family."""

    id: str
    name: str
    root: str
    parent: str | None
    status: Status
    cost_usd: float
    live_cost_usd: float
    tokens: int
    live_tokens: int
    begun_turns: int
    worked_seconds: float
    running_since: float | None


_SET_CAP = upsert(BUDGET, "cap")
_TAKE_SETTING = upsert(BUDGET, "cap", "setting")
_NODES: Select[Any] = select(*[AGENT.c[name] for name in MemberUse._fields]).where(
    AGENT.c.root.in_(bindparam("roots", expanding=True))
)
_CAPS = select(BUDGET).where(BUDGET.c.subject.in_(bindparam("subjects", expanding=True)))
_ANY = select(BUDGET.c.unit).limit(1)
_FAMILY = select(AGENT.c.id).where(AGENT.c.root == bindparam("root"))
_CAPPED = _ANY.where(BUDGET.c.subject.in_(_FAMILY))
_FLEET_CAPPED = _ANY.where(BUDGET.c.subject == FLEET)


def set_caps(connection: Connection, subject: str, scope: Scope, caps: Mapping[Unit, float]) -> None:
    """Set these caps of the subject; units that are not named keep theirs."""
    for unit, cap in caps.items():
        connection.execute(_SET_CAP, {"subject": subject, "scope": scope, "unit": unit, "cap": cap})


def take_settings(connection: Connection, caps: Mapping[Unit, float | None]) -> None:
    """Apply the fleet's caps from the settings, unless a command changed them since the setting last changed."""
    rows = all_rows(BudgetRow, connection.execute(select(BUDGET).where(BUDGET.c.subject == FLEET)))
    known = {row.unit: row.setting for row in rows}
    for unit, cap in caps.items():
        if cap is None or known.get(unit) == cap:
            continue
        row = {"subject": FLEET, "scope": Scope.FLEET, "unit": unit, "cap": cap, "setting": cap}
        connection.execute(_TAKE_SETTING, row)


def family(connection: Connection, root: str, now: float) -> Family:
    """Return the agents under this root, with every cap that applies to any of them."""
    return families(connection, [root], now)[root]


def families(connection: Connection, roots: Collection[str], now: float) -> dict[str, Family]:
    """Return the agents under each of many roots, with their caps, in one pass."""
    nodes: dict[str, dict[str, Node]] = {root: {} for root in roots}
    root_of: dict[str, str] = {}
    for row in all_rows(MemberUse, fetch(connection, _NODES, {"roots": list(roots)})):
        nodes[row.root][row.id] = _node(row, now)
        root_of[row.id] = row.root
    caps: dict[str, dict[tuple[str, Scope, Unit], float]] = {root: {} for root in roots}
    for row in all_rows(BudgetRow, fetch(connection, _CAPS, {"subjects": [*root_of, FLEET]})):
        for root in [root_of[row.subject]] if row.subject in root_of else roots:
            caps[root][row.subject, row.scope, row.unit] = row.cap
    capped = any(scope is Scope.FLEET for each in caps.values() for _, scope, _ in each)
    used = _fleet_used(connection, now) if capped else {}
    return {root: Family(nodes[root], caps[root], used) for root in roots}


def _node(row: MemberUse, now: float) -> Node:
    return Node(
        id=row.id,
        name=row.name,
        parent=row.parent,
        is_open=row.status in OPEN,
        used={
            Unit.USD: row.cost_usd + row.live_cost_usd,
            Unit.TOKENS: row.tokens + row.live_tokens,
            Unit.TURNS: row.begun_turns,
            Unit.SECONDS: row.worked_seconds + _running(row, now),
        },
    )


def _running(row: MemberUse | AgentRow, now: float) -> float:
    since = row.running_since
    return 0.0 if since is None else max(0.0, now - since)


def _fleet_used(connection: Connection, now: float) -> dict[Unit, float]:
    running = func.coalesce(func.sum(now - AGENT.c.running_since), 0.0)
    total = connection.execute(
        select(
            func.coalesce(func.sum(AGENT.c.cost_usd + AGENT.c.live_cost_usd), 0.0),
            func.coalesce(func.sum(AGENT.c.tokens + AGENT.c.live_tokens), 0),
            func.coalesce(func.sum(AGENT.c.begun_turns), 0),
            func.coalesce(func.sum(AGENT.c.worked_seconds), 0.0) + running,
        )
    ).one()
    return dict(zip(Unit, (float(value) for value in total), strict=True))


class BudgetReader:
    """Reads the room that caps leave to many agents, each once; callers report each turn that begins."""

    def __init__(self, connection: Connection, now: float) -> None:
        self._connection = connection
        self._now = now
        self._families: dict[str, Family] = {}
        self._fleet: list[Headroom] | None = None

    def expect(self, roots: Collection[str]) -> None:
        """Read these families now, in one pass."""
        self._families |= families(self._connection, roots, self._now) if roots else {}

    def begun(self, root: str) -> None:
        """Count a turn that an agent of this family has begun, under all caps that apply to it."""
        if self._fleets():
            self._families.clear()
        self._families.pop(root, None)
        self._fleet = None

    def rooms(self, agent_id: str, root: str, *, capped: bool | None = None) -> list[Headroom]:
        """Return every cap that applies to the agent; `capped`: whether its family has any (None: look it up)."""
        if capped is None:
            capped = root in self._families or fetch(self._connection, _CAPPED, {"root": root}).first() is not None
        if not capped:
            return self._fleets()
        if root not in self._families:
            self.expect([root])
        return self._families[root].rooms(agent_id)

    def shortage(self, agent_id: str, root: str, *, starts_turn: bool, capped: bool | None = None) -> Headroom | None:
        """Return a cap that the agent has reached, or None."""
        return shortage(self.rooms(agent_id, root, capped=capped), starts_turn=starts_turn)

    def fleet_is_short(self) -> bool:
        """Whether the fleet's caps allow no further turn."""
        return shortage(self._fleets(), starts_turn=True) is not None

    def _fleets(self) -> list[Headroom]:
        if self._fleet is None:
            capped = fetch(self._connection, _FLEET_CAPPED).first() is not None
            self._fleet = fleet_rooms(self._connection, self._now) if capped else []
        return self._fleet


def rooms(connection: Connection, agent_id: str, now: float) -> list[Headroom]:
    """Return every cap that applies to the agent, with what counts against it."""
    root = connection.execute(select(AGENT.c.root).where(AGENT.c.id == agent_id)).scalar_one()
    return BudgetReader(connection, now).rooms(agent_id, root)


def reserve(
    connection: Connection, parent: str, caps: Mapping[Unit, float], now: float, claimed: Mapping[Unit, float] = NOTHING
) -> None:
    """Check that a child with these caps fits into what its ancestors have left, apart from its own earlier claims.

    Raises:
        RefusedError: it does not; the message says what is left.
    """
    # single writer: nobody else takes what is left before the child exists
    for room in rooms(connection, parent, now):
        cap, before = caps.get(room.unit, 0.0), claimed.get(room.unit, 0.0)
        if room.scope is not Scope.FLEET and cap - before > max(0.0, room.left):
            raise RefusedError(
                f"{room.shown('')} is used or reserved: a child cannot have {cap:g} {room.unit}",
                hint=f"give it at most {before + max(0.0, room.left):g}, or end other children first",
            )


def at_least_live(agent: AgentRow, usage: RunUsage) -> RunUsage:
    """Return what a cut-off run used: its final report, or its earlier reports if they say more."""
    told, cost = usage.tokens, usage.cost_usd
    more = max(0, agent.live_tokens - told.total_tokens)
    return replace(
        usage,
        tokens=replace(told, input_tokens=told.input_tokens + more),
        cost_usd=None if cost is None else max(cost, agent.live_cost_usd),
    )


def run_ended(connection: Connection, agent: AgentRow, now: float) -> None:
    """Count the time of a run that has ended; `agent` is the row as it was before."""
    change(connection, agent.id, worked_seconds=agent.worked_seconds + _running(agent, now), running_since=None)


def fold(connection: Connection, agent: AgentRow, now: float) -> None:
    """Count what a run used that will never report its end, because its agent was deleted or its daemon died."""
    run_ended(connection, agent, now)
    change(
        connection,
        agent.id,
        live_tokens=0,
        live_cost_usd=0.0,
        tokens=agent.tokens + agent.live_tokens,
        cost_usd=agent.cost_usd + agent.live_cost_usd,
    )


def resume(connection: Connection, now: float, root: str | None = None) -> list[str]:
    """Resume the agents that wait at a cap and now have room, in all families or one; returns their ids."""
    waiting = AGENT.c.wait_kind == WaitKind.BUDGET
    if root is not None:
        waiting &= AGENT.c.root == root
    gauge = BudgetReader(connection, now)
    gone: list[str] = []
    for agent in all_rows(AgentRow, connection.execute(select(AGENT).where(waiting))):
        rooms = gauge.rooms(agent.id, agent.root)
        if agent.wait_blocked and any(room.unit is Unit.USD for room in rooms):
            continue  # no cap in dollars, however high, can be enforced for it
        turn = ready_queue.next_turn(connection, agent.id)
        if shortage(rooms, starts_turn=not ready_queue.has_begun(turn)) is None:
            suspension.resume(connection, agent, now)
            gone.append(agent.id)
    return gone


def rooms_of(connection: Connection, agents: Mapping[str, str], now: float) -> dict[str, list[Headroom]]:
    """Return the caps of these agents and their ancestors, by agent id; `agents` gives each one's root."""
    if fetch(connection, _ANY).first() is None:
        return {}
    capped = select(AGENT.c.root).join(BUDGET, BUDGET.c.subject == AGENT.c.id).distinct()
    roots = set(connection.execute(capped).scalars()) & set(agents.values())
    fleet = connection.execute(select(BUDGET.c.unit).where(BUDGET.c.subject == FLEET).limit(1)).first() is not None
    waiting = AGENT.c.id.in_(agents) & (AGENT.c.wait_kind == WaitKind.BUDGET)
    if fleet:
        roots |= set(connection.execute(select(AGENT.c.root).where(waiting)).scalars())
    found = families(connection, roots, now)
    return {one: found[root].rooms(one) for one, root in agents.items() if root in found}


def fleet_rooms(connection: Connection, now: float) -> list[Headroom]:
    """Return the fleet's own caps."""
    return family(connection, "", now).rooms("")


def raise_caps(
    connection: Connection, agent_id: str, scope: Scope, caps: Mapping[Unit, float], now: float
) -> Sequence[str]:
    """Set caps of an agent, or of the fleet (id `fleet`); returns the ids of the agents that resume."""
    if agent_id != FLEET:
        row = agent_row(connection, agent_id)
        if scope is Scope.AGENT and row.parent is not None:
            claimed = family(connection, row.root, now).claimed(agent_id)
            if claimed is not None:
                reserve(connection, row.parent, caps, now, claimed)
    set_caps(connection, agent_id, scope, caps)
    return resume(connection, now)
