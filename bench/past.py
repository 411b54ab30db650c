"""Builds a store with a history: agents that were created, worked a turn and ended it.

The store's own operations write one group of ten agents; its rows are then multiplied by plain inserts, with ids, names
and cursors of their own. A million events take half a minute instead of half an hour, and no column is known here.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator import paths
from orchestrator.domain.agent import Account, AgentSpec
from orchestrator.domain.event import SessionEvent, ToolEnded, ToolStarted, Used
from orchestrator.domain.question import NewQuestion, QuestionKind
from orchestrator.domain.tool import CallingTurn
from orchestrator.domain.turn import TurnResult, TurnStatus
from orchestrator.domain.usage import RunUsage, Usage
from orchestrator.fleet.briefing.system_prompt import desks_path
from orchestrator.fleet.sessions.recorder import fact_of
from orchestrator.fleet.verbs.create import new_id
from orchestrator.personas import find_persona
from orchestrator.store.agents import lifecycle
from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.database import Store, open_store
from orchestrator.store.families.children import ChildLimits
from orchestrator.store.scheduling import admission
from orchestrator.store.turns import events, outcomes, turns
from orchestrator.store.turns.events import Fact

GROUP = 10
"""agents that are written by operations: a family of four, a chain of three, and three scouts"""
OWNER = "a former daemon"
TASK = "Find every place in this repository that has to change for the task below, and nothing else.\n\n" + (
    "The stock report counts items twice if they were moved between two stores on the same day.\n" * 3
)
RESULT = (
    "## Places\n" + "- `inventory/stock.py:41` - Stock.move - it books both ends, and the report adds them up\n" * 12
)
USAGE = RunUsage(
    tokens=Usage(
        input_tokens=1000, output_tokens=100, model_calls=2, context_tokens=1100, context_window_tokens=200_000
    ),
    cost_usd=0.01,
    session_cost_usd=0.01,
)
ENDED = TurnResult(status=TurnStatus.COMPLETE, result=RESULT)
QUESTION = NewQuestion(
    kind=QuestionKind.QUESTION,
    call_id="toolu_000000000000000000000000",
    tool="mcp__crew__ask_orchestrator",
    input={"question": "May the report change its columns?", "options": ["yes", "no"]},
    text="May the report change its columns?",
    options=["yes", "no"],
    asked_at=0.0,
)


def give_past(state: Path, project: Path, count: int, *, facts: int = 4) -> None:
    """Write `count` resting agents (in tens), each with a turn of `facts` session events, where no daemon runs."""
    if count % GROUP:
        raise ValueError(f"{count} agents are not groups of {GROUP}")
    path = paths.database_path(state)
    asyncio.run(_give(path, project, facts if count else None))
    if count > GROUP:
        _multiply(path, count // GROUP)


async def _give(path: Path, project: Path, facts: int | None) -> None:
    async with open_store(path) as store:
        if facts is not None:
            await store.write(_group, _common(project), facts)


def _group(connection: Connection, common: AgentSpec, facts: int) -> None:
    """Ten whole pasts: a parent with three children, two scouts and the planner behind them, a question, three more."""
    names = iter([f"past-{number:05d}" for number in range(GROUP)])
    parent = _begin(connection, common, next(names))
    for _ in range(3):
        _live(connection, common, next(names), facts, parent=CallingTurn(agent_id=parent.agent_id, epoch=parent.epoch))
    _end(connection, parent, facts)
    scouts = [_live(connection, common, next(names), facts) for _ in range(2)]
    _live(connection, common, next(names), facts, inputs=scouts)
    _asked(connection, common, next(names), facts)
    for name in names:
        _live(connection, common, name, facts)


def _live(
    connection: Connection,
    common: AgentSpec,
    name: str,
    facts: int,
    *,
    inputs: Sequence[str] = (),
    parent: CallingTurn | None = None,
) -> str:
    """One agent's whole past; its id."""
    claim = _begin(connection, common, name, inputs=inputs, parent=parent)
    _end(connection, claim, facts)
    return claim.agent_id


def _asked(connection: Connection, common: AgentSpec, name: str, facts: int) -> None:
    """The past of an agent that asked in the middle of its turn and was answered."""
    claim, now = _begin(connection, common, name), time.time()
    turns.suspend_for_answer(connection, claim, replace(QUESTION, asked_at=now), USAGE, now)
    turns.answer(connection, claim.agent_id, "yes", now)
    _end(connection, _claimed(connection), facts)


def _begin(
    connection: Connection,
    common: AgentSpec,
    name: str,
    *,
    inputs: Sequence[str] = (),
    parent: CallingTurn | None = None,
) -> turns.Claim:
    own = replace(common, id=new_id("ag"), name=name, created_at=time.time(), session_id=str(uuid.uuid4()))
    spec = replace(own, turn_id=new_id("tn"), inputs=inputs)
    lifecycle.create(connection, spec, ChildLimits(agents=1 << 20, depth=1, children=GROUP), parent)
    return _claimed(connection)


def _claimed(connection: Connection) -> turns.Claim:
    rules = admission.Admission(owner=OWNER, slots=1 << 20, payable=lambda _account: True)
    (claim,) = admission.admit(connection, rules, time.time())
    return claim


def _end(connection: Connection, claim: turns.Claim, facts: int) -> None:
    events.append(connection, claim, session_facts(facts))
    turns.finish(connection, claim, ENDED, USAGE, time.time())
    outcomes.deliver(connection, {claim.turn_id}, time.time())


def _multiply(path: Path, groups: int) -> None:
    """Repeat the rows of the one group that is there until there are so many."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-400000"):
            connection.execute(f"PRAGMA {pragma}")
        copier = _Copier.of(connection)
        connection.execute("BEGIN")
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            copier.copy(connection, table, groups)
        connection.execute("COMMIT")


TAIL, NAME = "\0", "\1"
"""what stands in a row's text for the last digits of an id, and for the group's number in a name"""
_TAIL_DIGITS = 8
_COUNTED = {"event.id": "event", "lease.id": "lease", "turn.outcome_cursor": "event"}
"""columns that hold a row's number, and whose"""


@dataclass(frozen=True)
class _Copier:
    """What tells one group's rows from another's: its ids, and how many numbered rows it has of each table."""

    ids: re.Pattern[str]
    numbered: Mapping[str, int]

    @classmethod
    def of(cls, connection: sqlite3.Connection) -> _Copier:
        tables = {"agent": ("id", "session_id"), "turn": ("id",), "question": ("id",)}
        found = [
            str(value)
            for table, columns in tables.items()
            for column in columns
            for (value,) in connection.execute(f"SELECT {column} FROM {table} WHERE {column} NOT LIKE '%child%'")
        ]
        heads = "|".join(re.escape(one[:-_TAIL_DIGITS]) for one in found)
        numbered = {
            table: int(connection.execute(f"SELECT max(id) FROM {table}").fetchone()[0] or 0)
            for table in set(_COUNTED.values())
        }
        return cls(re.compile(rf"({heads})[0-9a-f]{{{_TAIL_DIGITS}}}|(past-)\d{{4}}(?=\d)"), numbered)

    def copy(self, connection: sqlite3.Connection, table: str, groups: int) -> None:
        """Write the table's rows that are the group's for every other group."""
        cursor = connection.execute(f"SELECT * FROM {table}")
        columns = [column[0] for column in cursor.description]
        rows = [[self._marked(value) for value in row] for row in cursor]
        rows = [row for row in rows if any(isinstance(value, _Marked) for value in row)]
        steps = [self.numbered.get(_COUNTED.get(f"{table}.{column}", ""), 0) for column in columns]
        steps = [0.001 if column == "created_at" else step for column, step in zip(columns, steps, strict=True)]
        marks = ", ".join("?" * len(columns))
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", _copies(rows, steps, groups))

    def _marked(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        text = self.ids.sub(lambda found: f"{found[1]}{TAIL}" if found[1] else f"{found[2]}{NAME}", value)
        return value if text == value else _Marked(text)


class _Marked(str):
    """Text that is another one in each group."""

    __slots__ = ()


def _copies(rows: Sequence[Sequence[Any]], steps: Sequence[float], groups: int) -> Iterator[list[Any]]:
    for group in range(1, groups):
        tail, name = f"{group:0{_TAIL_DIGITS}x}", f"{group:04d}"
        for row in rows:
            yield [
                value.replace(TAIL, tail).replace(NAME, name)
                if type(value) is _Marked
                else (value + group * step if step else value)
                for value, step in zip(row, steps, strict=True)
            ]


def _common(project: Path) -> AgentSpec:
    """One of the agents; the others differ by their ids, names and times."""
    persona = find_persona("scout", project, None)
    environment = {"HOME": str(project), "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
    return AgentSpec(
        id="",
        name="",
        project=str(project),
        orchestrator="mcp",
        created_at=0.0,
        persona=persona,
        provider="claude",
        model=persona.model,
        task=TASK,
        turn_id="",
        cwd=str(project),
        checkout=str(project),
        desks=str(desks_path(str(project))),
        session_id="",
        account=Account(id="none", public={}, environment=environment),
        rehearsal=True,
    )


def session_facts(count: int) -> list[Fact]:
    """What a working session reports: tool calls with their ends and the figures after each model call."""
    kinds = itertools.cycle([_started, _ended, _used])
    found = [fact_of(next(kinds)(number), time.time()) for number in range(count)]
    return [fact for fact in found if fact is not None]


def _started(number: int) -> SessionEvent:
    return ToolStarted(call_id=f"toolu_{number:024d}", tool="Read", summary="inventory/stock.py")


def _ended(number: int) -> SessionEvent:
    return ToolEnded(call_id=f"toolu_{number:024d}", tool="Read", ok=True, summary="22 lines")


def _used(number: int) -> SessionEvent:
    return Used(usage=Usage(input_tokens=number, output_tokens=number, context_tokens=20_000 + number, model_calls=1))


async def workers(store: Store, project: Path, count: int) -> list[turns.Claim]:
    """Claims of agents that work now."""
    common = _common(project)
    return [await store.write(_begin, common, f"now-{number:05d}") for number in range(count)]
