"""Reads agents and what belongs to them, in as few statements as possible, each built once.

Building a statement and its cache key costs four times as much as running it, and making objects of rows twice (both
measured), so rows are named tuples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, Select, and_, bindparam, func, or_, select

from orchestrator.domain.checkout import state_of, trees_of
from orchestrator.domain.turn import TURN_OPEN, TurnStatus
from orchestrator.domain.wait import WaitKind
from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.prepared import fetch
from orchestrator.store.schema.rows import AgentRow, ArtifactRow, InputRow, StoredCheck, TurnRow, all_rows, one_row
from orchestrator.store.schema.tables import AGENT, ARTIFACT, EVENT, INPUT, TURN

HEARD = frozenset({TurnStatus.COMPLETE, TurnStatus.FAILED, TurnStatus.INTERRUPTED})
"""statuses of ended turns that have a result or a reason"""


_BEFORES = select(TURN.c.before).where(TURN.c.status.in_(TURN_OPEN), TURN.c.before.is_not(None))


def _among(name: str) -> BindParameter[Any]:
    found: BindParameter[Any] = bindparam(name, expanding=True)
    return found


_LIVES = AGENT.c.deleted_at.is_(None)
_IN_PROJECT = AGENT.c.project == bindparam("project")
_HERE = or_(bindparam("project").is_(None), _IN_PROJECT)
_BY_OWNER = and_(_IN_PROJECT, AGENT.c.orchestrator == bindparam("orchestrator"))

_LIVING = select(AGENT).where(_LIVES, _HERE).order_by(AGENT.c.created_at)
_LIVING_NAMES = select(AGENT.c.name).where(_LIVES, _IN_PROJECT)
_OLDEST = select(AGENT.c.id).where(_LIVES).order_by(AGENT.c.created_at).limit(bindparam("most"))
_FIRST = select(AGENT).where(AGENT.c.id.in_(_OLDEST)).order_by(AGENT.c.created_at)
_FIRST_IN_PROJECT = select(AGENT).where(_LIVES, _IN_PROJECT).order_by(AGENT.c.created_at).limit(bindparam("most"))
_MINE = select(AGENT).where(_LIVES, _BY_OWNER).order_by(AGENT.c.created_at)
_BY_IDS = select(AGENT).where(AGENT.c.id.in_(_among("ids")))
_NAMES = select(AGENT.c.id, AGENT.c.name).where(AGENT.c.id.in_(_among("ids")))
_LIVING_BY_NAMES = select(AGENT).where(_LIVES, _IN_PROJECT, AGENT.c.name.in_(_among("names")))
_LAST_DELETED = (
    select(AGENT)
    .where(AGENT.c.deleted_at.is_not(None), _IN_PROJECT, AGENT.c.name == bindparam("name"))
    .order_by(AGENT.c.created_at.desc())
    .limit(1)
)
_WITH_PREFIX = (
    select(AGENT)
    .where(_IN_PROJECT, AGENT.c.id >= bindparam("prefix"), AGENT.c.id < bindparam("behind"))
    .order_by(AGENT.c.deleted_at.is_not(None), AGENT.c.created_at.desc())
    .limit(bindparam("most"))
)
_FAMILIES = (
    select(AGENT)
    .where(_LIVES, AGENT.c.root.in_(_among("roots")), AGENT.c.id.not_in(_among("ids")))
    .order_by(AGENT.c.created_at)
)
_LAST = and_(TURN.c.agent_id == AGENT.c.id, TURN.c.ordinal == AGENT.c.turns)
_SPANS = select(AGENT.c.id, TURN.c.started_at, TURN.c.ended_at).join(TURN, _LAST).where(AGENT.c.id.in_(_among("ids")))
_RUNNING_CHECKS = select(TURN.c.agent_id, TURN.c.checks).where(
    TURN.c.agent_id.in_(_among("ids")), TURN.c.status == TurnStatus.WORKING
)
_OUTCOME = (
    select(TURN)
    .where(TURN.c.agent_id == bindparam("agent"), TURN.c.status.in_(sorted(HEARD)))
    .order_by(TURN.c.ended_at.desc(), TURN.c.ordinal.desc())
    .limit(1)
)
_INPUTS = (
    select(INPUT).where(INPUT.c.agent_id.in_(_among("ids"))).order_by(INPUT.c.agent_id, INPUT.c.turn, INPUT.c.position)
)
_FILES = (
    select(ARTIFACT.c.agent_id, ARTIFACT.c.kind, func.count(ARTIFACT.c.path.distinct()))
    .where(ARTIFACT.c.agent_id.in_(_among("ids")))
    .group_by(ARTIFACT.c.agent_id, ARTIFACT.c.kind)
)
_WRITTEN = select(ARTIFACT.c.agent_id, ARTIFACT.c.path, ARTIFACT.c.at).where(
    ARTIFACT.c.agent_id.in_(_among("ids")), ARTIFACT.c.kind == "produced", ARTIFACT.c.at >= bindparam("since")
)
_TURN = select(TURN).where(TURN.c.id == bindparam("turn"))
_TURNS = select(TURN).where(TURN.c.agent_id == bindparam("agent")).order_by(TURN.c.ordinal)
_CHILDREN = select(AGENT).where(_LIVES, AGENT.c.parent == bindparam("parent")).order_by(AGENT.c.child_index)
_IN_TURN = or_(bindparam("turn").is_(None), ARTIFACT.c.turn == bindparam("turn"))
_TOUCHED = (
    select(ARTIFACT)
    .where(ARTIFACT.c.agent_id == bindparam("agent"), _IN_TURN)
    .order_by(ARTIFACT.c.turn, ARTIFACT.c.at, ARTIFACT.c.path)
)
_LAST_PROJECT = select(AGENT.c.project).join(EVENT, EVENT.c.agent_id == AGENT.c.id).order_by(EVENT.c.id.desc()).limit(1)
_CURSOR = select(EVENT.c.id).order_by(EVENT.c.id.desc()).limit(1)


class Span(NamedTuple):
    """When a turn began and ended, as far as it has."""

    started_at: float | None
    ended_at: float | None


def _agents(connection: Connection, query: Select[Any], **values: object) -> Sequence[AgentRow]:
    return all_rows(AgentRow, fetch(connection, query, values))


def living(connection: Connection, project: str | None, most: int | None = None) -> Sequence[AgentRow]:
    """Return living agents of one project or of all, oldest first, at most so many."""
    if most is None:
        return _agents(connection, _LIVING, project=project)
    if project is None:
        return _agents(connection, _FIRST, most=most)
    return _agents(connection, _FIRST_IN_PROJECT, project=project, most=most)


def living_names(connection: Connection, project: str) -> Sequence[str]:
    """Return the names of the project's living agents, in no order."""
    return fetch(connection, _LIVING_NAMES, {"project": project}).scalars().all()


def living_of(connection: Connection, project: str, orchestrator: str) -> Sequence[AgentRow]:
    """Return those that this orchestrator created."""
    return _agents(connection, _MINE, project=project, orchestrator=orchestrator)


def by_ids(connection: Connection, ids: Collection[str]) -> Sequence[AgentRow]:
    """Return these agents, including deleted ones."""
    return _agents(connection, _BY_IDS, ids=list(ids)) if ids else []


def living_by_names(connection: Connection, names: Collection[str], project: str) -> Sequence[AgentRow]:
    """Return the project's living agents with these names, which an index finds."""
    return _agents(connection, _LIVING_BY_NAMES, names=list(names), project=project) if names else []


def last_deleted(connection: Connection, name: str, project: str) -> AgentRow | None:
    """Return the newest deleted agent of this name, which an index finds; None if there is none."""
    return next(iter(_agents(connection, _LAST_DELETED, name=name, project=project)), None)


def with_prefix(connection: Connection, prefix: str, project: str, most: int) -> Sequence[AgentRow]:
    """Return agents whose id starts with the prefix, at most so many, living ones before deleted ones.

    The prefix ends with an ASCII character.
    """
    behind = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    return _agents(connection, _WITH_PREFIX, prefix=prefix, behind=behind, project=project, most=most)


def families(connection: Connection, agents: Collection[AgentRow]) -> Sequence[AgentRow]:
    """Return the living agents of these agents' families, without themselves."""
    roots = {agent.root for agent in agents if agent.children or agent.parent is not None}
    if not roots:
        return []
    return _agents(connection, _FAMILIES, roots=list(roots), ids=[agent.id for agent in agents])


def trees_before(connection: Connection) -> Sequence[str]:
    """Return the file trees from before the open turns, those of inner repositories included."""
    states = [state_of(before) for before in fetch(connection, _BEFORES).scalars() if before]
    return [tree for state in states for tree in trees_of(state)]


def children(connection: Connection, parent_id: str) -> Sequence[AgentRow]:
    """Return the agent's living children, in the order of their creation."""
    return _agents(connection, _CHILDREN, parent=parent_id)


def names(connection: Connection, ids: Collection[str]) -> dict[str, str]:
    """Return the names of these agents, by id."""
    rows = fetch(connection, _NAMES, {"ids": list(ids)}) if ids else ()
    return {str(agent_id): str(name) for agent_id, name in rows}


def spans(connection: Connection, ids: Collection[str]) -> dict[str, Span]:
    """Return when the newest turn of each agent began and ended, by agent id."""
    rows = fetch(connection, _SPANS, {"ids": list(ids)}) if ids else ()
    return {agent_id: Span(started, ended) for agent_id, started, ended in rows}


def running_checks(connection: Connection, ids: Collection[str]) -> dict[str, Sequence[StoredCheck]]:
    """Return the checks of the turn that each of these agents is in, by agent id."""
    rows = fetch(connection, _RUNNING_CHECKS, {"ids": list(ids)}) if ids else ()
    return {agent_id: checks or () for agent_id, checks in rows}


def turn(connection: Connection, turn_id: str) -> TurnRow | None:
    """Return one turn."""
    return one_row(TurnRow, fetch(connection, _TURN, {"turn": turn_id}))


def turns(connection: Connection, agent_id: str) -> Sequence[TurnRow]:
    """Return the agent's turns, in order."""
    return all_rows(TurnRow, fetch(connection, _TURNS, {"agent": agent_id}))


def outcomes(connection: Connection, ids: Iterable[str]) -> dict[str, TurnRow]:
    """Return the last ended turn of each agent that has one (cancelled ones do not count), by agent id."""
    found = {one: one_row(TurnRow, fetch(connection, _OUTCOME, {"agent": one})) for one in ids}
    return {agent_id: row for agent_id, row in found.items() if row is not None}


def inputs(connection: Connection, ids: Collection[str]) -> Sequence[InputRow]:
    """Return the inputs of these agents, in order."""
    return all_rows(InputRow, fetch(connection, _INPUTS, {"ids": list(ids)})) if ids else []


def awaited_by(connection: Connection, agents: Collection[AgentRow]) -> Sequence[AgentRow]:
    """Return the agents whose ends these wait for as inputs, and those that such inputs wait for, without `agents`."""
    known = {agent.id for agent in agents}
    found: list[AgentRow] = []
    ahead = [*agents]
    while waiting := {one.id for one in ahead if one.wait_kind is WaitKind.INPUTS}:
        sources = {row.source_id for row in inputs(connection, waiting) if not row.settled} - known
        ahead = [*by_ids(connection, sources)]
        known |= sources
        found += ahead
    return found


def files(connection: Connection, agent_id: str, turn: int | None = None) -> Sequence[ArtifactRow]:
    """Return the files that an agent consumed and produced, in all turns or in one."""
    return all_rows(ArtifactRow, fetch(connection, _TOUCHED, {"agent": agent_id, "turn": turn}))


def file_counts(connection: Connection, ids: Collection[str]) -> dict[tuple[str, str], int]:
    """Return how many different files each agent consumed and produced, by (agent id, kind)."""
    rows = fetch(connection, _FILES, {"ids": list(ids)}) if ids else ()
    return {(agent_id, kind): count for agent_id, kind, count in rows}


def written_since(connection: Connection, moments: Mapping[str, float]) -> dict[str, int]:
    """Return how many different files each of these agents wrote since its given time."""
    if not moments:
        return {}
    rows = fetch(connection, _WRITTEN, {"ids": list(moments), "since": min(moments.values())})
    files = {(agent_id, path) for agent_id, path, at in rows if at >= moments[agent_id]}
    return Counter(agent_id for agent_id, _ in files)


def last_project(connection: Connection) -> str | None:
    """Return the project in which something happened last; None before the first event."""
    found: str | None = fetch(connection, _LAST_PROJECT).scalar_one_or_none()
    return found


def last_cursor(connection: Connection) -> int:
    """Return the cursor of the newest event; 0 if there is none."""
    return int(fetch(connection, _CURSOR).scalar_one_or_none() or 0)
